// The current frame and its masks: where the frame is on the screen, and what is drawn on it.

import { $ } from "./server.js";

const LARGEST_ZOOM = 16;
const DOT = 6;  // Radius of a click, in pixels of the screen.

export const view = {
  clip: null, masked: new Set(), given: new Set(), objects: {}, running: false, run: {},
  position: 0, wanted: 0, image: null, mask: null, hidden: new Set(), marks: new Map(),
  tool: "click", sign: 1, current: 1, drag: null, finding: 0,
  zoom: 1, shift: [0, 0], pointer: null,
};
const viewport = $("#picture"), canvas = $("#canvas"), over = $("#over");
const layer = document.createElement("canvas");  // The masks in colors.

// Clicks and box of an object in a frame: {points: [[x, y, label]], box: [left, top, right, bottom]}.
export const marksOf = (position, id) => view.marks.get(`${position}/${id}`) || { points: [], box: null };

// ---- Position and zoom

// Returns the position of the frame in the viewport and its scale, in pixels of the screen.
export function place() {
  const { width, height } = view.clip;
  const scale = Math.min((viewport.clientWidth - 24) / width, (viewport.clientHeight - 24) / height) * view.zoom;
  const left = (viewport.clientWidth - width * scale) / 2 + view.shift[0];
  const top = (viewport.clientHeight - height * scale) / 2 + view.shift[1];
  return { left, top, scale };
}

export function fit() {
  if (!view.clip || !viewport.clientWidth) return;
  const { left, top, scale } = place();
  Object.assign(canvas.style, { left: `${left}px`, top: `${top}px`, width: `${view.clip.width * scale}px`, height: `${view.clip.height * scale}px` });
  canvas.classList.toggle("large", scale > 2);
  $("#zoom").textContent = `${Math.round(100 * view.zoom)} %`;
  drawOver();
}

// Returns the fractional pixel of the frame under the pointer.
export function pixelAt(event) {
  const box = viewport.getBoundingClientRect(), { left, top, scale } = place();
  return [(event.clientX - box.left - left) / scale, (event.clientY - box.top - top) / scale];
}

// Zooms about a point of the viewport, by default its center.
export function zoomTo(zoom, x = viewport.clientWidth / 2, y = viewport.clientHeight / 2) {
  const before = place();
  view.zoom = Math.max(1, Math.min(LARGEST_ZOOM, zoom));
  if (view.zoom === 1) view.shift = [0, 0];
  const after = place(), factor = after.scale / before.scale;
  panBy((x - before.left) * (1 - factor) + before.left - after.left, (y - before.top) * (1 - factor) + before.top - after.top);
}

// Moves the frame; it keeps covering the area that it fills when not zoomed.
export function panBy(dx, dy) {
  const most = (view.zoom - 1) / 2, { scale } = place();
  const limit = (value, size) => Math.max(-size * scale * most / view.zoom, Math.min(size * scale * most / view.zoom, value));
  view.shift = [limit(view.shift[0] + dx, view.clip.width), limit(view.shift[1] + dy, view.clip.height)];
  fit();
}

// ---- Drawing

export function beginClip() {
  for (const each of [canvas, layer]) { each.width = view.clip.width; each.height = view.clip.height; }
  Object.assign(view, { zoom: 1, shift: [0, 0], image: null, mask: null, hidden: new Set(), marks: new Map() });
}

const rgb = (color) => [1, 3, 5].map((i) => parseInt(color.slice(i, i + 2), 16));

export function draw() {
  if (!view.image) return;
  const { width, height } = view.clip, inside = 255 * Number($("#opacity").value) / 100;
  const colors = Object.fromEntries(Object.entries(view.objects).map(([id, object]) => [id, rgb(object.color)]));
  const pixels = new ImageData(width, height), data = pixels.data, mask = view.mask;
  for (let i = 0; i < mask.length; i++) {
    const id = mask[i];
    if (!id || view.hidden.has(id)) continue;
    const [r, g, b] = colors[id] || [255, 255, 255], x = i % width;
    const edge = (x > 0 && mask[i - 1] !== id) || (x < width - 1 && mask[i + 1] !== id) || mask[i - width] !== id || mask[i + width] !== id;
    data[4 * i] = r; data[4 * i + 1] = g; data[4 * i + 2] = b; data[4 * i + 3] = edge ? 255 : inside;
  }
  layer.getContext("2d").putImageData(pixels, 0, 0);
  const context = canvas.getContext("2d");
  context.drawImage(view.image, 0, 0, width, height);
  context.drawImage(layer, 0, 0);
  drawOver();
}

// Draws what stays sharp at any zoom: clicks, boxes, the current scribble, the ring of the brush.
export function drawOver() {
  const ratio = window.devicePixelRatio || 1, context = over.getContext("2d");
  over.width = viewport.clientWidth * ratio;
  over.height = viewport.clientHeight * ratio;
  if (!view.clip || !view.image) return;
  const { left, top, scale } = place();
  context.scale(ratio, ratio);
  const put = ([x, y]) => [left + x * scale, top + y * scale];
  const { points, box } = marksOf(view.position, view.current);
  if (box) drawBox(context, put(box), put(box.slice(2)));
  for (const point of points) if (point.length < 4) drawDot(context, put(point), point[2]);
  drawDrag(context, put, scale);
  drawRing(context, scale);
}

function drawBox(context, [x1, y1], [x2, y2]) {
  for (const [color, width] of [["#000a", 4], [view.objects[view.current]?.color || "#fff", 2]]) {
    Object.assign(context, { strokeStyle: color, lineWidth: width });
    context.strokeRect(x1, y1, x2 - x1, y2 - y1);
  }
}

// A filled circle with + or -, in white on green or red.
function drawDot(context, [x, y], label) {
  const path = (from, to) => { context.moveTo(...from); context.lineTo(...to); };
  context.beginPath();
  context.arc(x, y, DOT, 0, 7);
  Object.assign(context, { fillStyle: label ? "#12873f" : "#c9252d", strokeStyle: "#fff", lineWidth: 2 });
  context.fill();
  context.stroke();
  context.beginPath();
  path([x - 3, y], [x + 3, y]);
  if (label) path([x, y - 3], [x, y + 3]);
  context.stroke();
}

function drawDrag(context, put, scale) {
  const { drag } = view;
  if (!drag || drag.points.length < 2) return;
  if (drag.tool === "box") return drawBox(context, put(drag.points[0]), put(drag.points[drag.points.length - 1]));
  if (drag.tool !== "scribble") return;
  Object.assign(context, { lineWidth: 2 * drag.radius * scale, lineCap: "round", lineJoin: "round" });
  context.strokeStyle = drag.label ? "#1fae55" : "#e0343c";
  context.beginPath();
  for (const point of drag.points) context.lineTo(...put(point));
  context.stroke();
}

export const brushRadius = () => Math.max(1, Number($("#size").value) / 2);

function drawRing(context, scale) {
  if (!view.pointer || !["brush", "eraser"].includes(view.tool)) return;
  for (const [color, width] of [["#000c", 3], ["#fff", 1.5]]) {
    context.beginPath();
    context.arc(...view.pointer, brushRadius() * scale, 0, 7);
    Object.assign(context, { strokeStyle: color, lineWidth: width });
    context.stroke();
  }
}
