// Clicks, boxes, scribbles and brushes: what the pointer does on the frame; undo and redo.

import { frames } from "./frames.js";
import { brushRadius, draw, drawOver, fit, marksOf, panBy, pixelAt, view, zoomTo } from "./picture.js";
import { $, ask, guarded, inOrder } from "./server.js";

const MAX_UNDO = 50;
const NEAREST = 4;  // Smallest distance between scribble points and side of a box, in pixels of the frame.
export const PROMPTS = ["click", "box", "scribble"];
const viewport = $("#picture");

// Set by page.js: `send` makes a change on the server and applies its answer, `go` shows a frame.
export const page = { send: null, go: null, refresh: null, stopPlaying: null };

// ---- Undo and redo: one list of changes for all frames

export const history = { undo: [], redo: [] };

// Returns the state of a frame. `mask` is null if it has none; `given`: whether it counts as painted.
function snapshotOf(position, mask) {
  const marks = [...view.marks].filter(([key]) => key.startsWith(`${position}/`));
  return { mask: view.masked.has(position) ? mask.slice() : null, given: view.given.has(position), marks };
}

const snapshot = async (position) => snapshotOf(position, await frames.mask(position));

// Gives a frame the state of a snapshot and returns it. `painted`: the array that already shows its mask, if any.
async function put(position, state, painted = null) {
  const { mask, given, marks } = state;
  if (mask) await page.send(`mask/${position}?given=${given ? 1 : 0}`, "PUT", mask);
  else await page.send(`mask/${position}`, "DELETE");
  for (const key of [...view.marks.keys()]) if (key.startsWith(`${position}/`)) view.marks.delete(key);
  for (const [key, each] of marks) view.marks.set(key, each);
  if (painted) frames.keepMask(position, painted);
  else frames.forgetMask(position);
  return state;
}

function remember(entry) {
  history.undo.push(entry);
  if (history.undo.length > MAX_UNDO) history.undo.shift();
  history.redo = [];
  page.refresh();
}

// Makes a change on the server, and remembers it once it has succeeded. `action` returns the new state.
async function change(position, before, action) {
  try {
    remember({ position, before, after: await action() });
  } catch (error) {
    frames.forgetMask(position);
    throw error;
  } finally {
    if (position === view.wanted) await page.go(position, true);
  }
}

// Undoes or redoes the latest entry of one list, and moves it to the other list.
const travel = (from, to, side) => guarded(() => inOrder(async () => {
  const entry = history[from][history[from].length - 1];
  if (!entry || view.drag) return;
  await put(entry.position, entry[side]);
  history[to].push(history[from].pop());
  await page.go(entry.position, true);
  page.refresh();
}));
$("#undo").onclick = travel("undo", "redo", "before");
$("#redo").onclick = travel("redo", "undo", "after");

$("#clear").onclick = guarded(() => {
  const { position } = view, empty = { mask: null, given: false, marks: [] };
  return inOrder(async () => change(position, await snapshot(position), () => put(position, empty)));
});

// ---- Clicks, boxes and scribbles: the server's network draws the mask

// Adds points [x, y, label] or a box to the marks of the current object in a frame, and shows the new mask.
const prompt = guarded(async (position, points, box) => {
  const { current: id } = view, { width, height } = view.clip;
  const inside = ([x, y, ...rest]) => [Math.max(0, Math.min(width - 1, x)), Math.max(0, Math.min(height - 1, y)), ...rest];
  view.finding++;
  page.refresh();
  try {
    await inOrder(async () => {
      const before = await snapshot(position), marks = marksOf(position, id);
      // Marks correct a painted or tracked mask; without one, the mask follows from the marks alone.
      const corrects = marks.points.length || marks.box ? marks.corrects : !!before.mask?.includes(id);
      const after = { points: [...marks.points, ...points.map(inside)], box: box || marks.box, corrects: corrects && !box };
      view.marks.set(`${position}/${id}`, after);
      drawOver();
      const asked = { object_id: id, box: after.box, points: after.points.map((each) => each.slice(0, 2)), labels: after.points.map((each) => each[2]) };
      await change(position, before, async () => {
        try {
          await page.send(`prompt/${position}?corrects=${after.corrects ? 1 : 0}`, "POST", JSON.stringify(asked));
        } catch (error) {
          view.marks.set(`${position}/${id}`, marks);
          throw error;
        }
        frames.forgetMask(position);
        return snapshot(position);
      });
    });
  } finally {
    view.finding--;
    page.refresh();
  }
});

// The first click on a frame is answered sooner if the network has already run on it.
let prepared = "", isPreparing = false;
async function prepare() {
  const key = `${view.clip.key}/${view.position}`, isBusy = isPreparing || view.running || view.playing || view.finding;
  if (prepared === key || isBusy || !PROMPTS.includes(view.tool)) return;
  [prepared, isPreparing] = [key, true];
  await ask(`prepare/${view.position}`, { method: "POST" }).catch(() => {});
  isPreparing = false;
}

// ---- The brush

// Sets `value` in all pixels of `array` within `radius` of the line between two points.
function stroke(array, from, to, radius, value) {
  const { width, height } = view.clip;
  const [dx, dy] = [to[0] - from[0], to[1] - from[1]], length = dx * dx + dy * dy || 1;
  const clip = (v, most) => Math.max(0, Math.min(most, v));
  const range = (i, most) => [clip(Math.floor(Math.min(from[i], to[i]) - radius), most), clip(Math.ceil(Math.max(from[i], to[i]) + radius) + 1, most)];
  const [left, right] = range(0, width), [top, bottom] = range(1, height);
  for (let y = top; y < bottom; y++) {
    for (let x = left; x < right; x++) {
      const t = clip(((x - from[0]) * dx + (y - from[1]) * dy) / length, 1);
      const [ex, ey] = [x - from[0] - t * dx, y - from[1] - t * dy];
      if (ex * ex + ey * ey <= radius * radius) array[y * width + x] = value;
    }
  }
}

// ---- The pointer

const fingers = new Map();

viewport.onpointerdown = (event) => {
  if (!view.mask || event.target.closest("button")) return;
  viewport.setPointerCapture(event.pointerId);
  fingers.set(event.pointerId, event);
  if (fingers.size > 1) return cancel();
  const isPan = event.button === 1 || view.tool === "hand";
  if (!isPan && event.button !== 0 && !(event.button === 2 && PROMPTS.includes(view.tool))) return;
  if (!isPan && !PROMPTS.includes(view.tool) && view.finding) return;  // The mask is about to change.
  const label = view.sign ^ (event.button === 2 || event.altKey || event.shiftKey);
  const tool = isPan ? "hand" : view.tool;
  view.drag = { tool, label, radius: brushRadius(), points: [], position: view.position, last: [event.clientX, event.clientY] };
  if (tool === "brush" || tool === "eraser") {
    page.stopPlaying();
    view.wanted = view.position;  // A frame that is still being loaded does not appear under the brush.
    Object.assign(view.drag, { mask: view.mask, before: view.mask.slice() });
  }
  dragTo(event);
};

viewport.onpointermove = (event) => {
  const box = viewport.getBoundingClientRect();
  view.pointer = event.pointerType === "touch" ? null : [event.clientX - box.left, event.clientY - box.top];
  if (fingers.size > 1) return pinch(event);
  if (view.drag) return dragTo(event);
  if (view.mask) prepare();
  drawOver();
};
viewport.onpointerleave = () => { view.pointer = null; drawOver(); };
viewport.oncontextmenu = (event) => { if (view.clip) event.preventDefault(); };

viewport.onpointerup = viewport.onpointercancel = (event) => {
  fingers.delete(event.pointerId);
  const { drag } = view;
  view.drag = null;
  if (drag) finish(drag);
  drawOver();
};

viewport.addEventListener("wheel", (event) => {
  if (!view.clip) return;
  event.preventDefault();
  const box = viewport.getBoundingClientRect();
  zoomTo(view.zoom * Math.exp(-event.deltaY / 400), event.clientX - box.left, event.clientY - box.top);
}, { passive: false });

function dragTo(event) {
  const { drag } = view, point = pixelAt(event);
  if (drag.tool === "hand") {
    panBy(event.clientX - drag.last[0], event.clientY - drag.last[1]);
    drag.last = [event.clientX, event.clientY];
  } else if (drag.mask) {
    const from = drag.points[drag.points.length - 1] || point;
    stroke(drag.mask, from, point, drag.radius, drag.tool === "brush" ? view.current : 0);
    draw();
  }
  drag.points.push(point);
  drawOver();
}

const finish = guarded(async ({ tool, label, points, position, mask, before }) => {
  const [first, last] = [points[0], points[points.length - 1]], { width, height } = view.clip;
  // A click or stroke beside the frame is none.
  const isBeside = points.every(([x, y]) => x < 0 || y < 0 || x >= width || y >= height);
  if (isBeside && tool !== "box" && !mask?.some((id, i) => id !== before[i])) return;
  if (tool === "click") await prompt(position, [[...first, label]]);
  if (tool === "scribble") await prompt(position, thinned(points).map((each) => [...each, label, "scribble"]));
  if (tool === "box") {
    const box = [0, 1].map((i) => Math.min(first[i], last[i])).concat([0, 1].map((i) => Math.max(first[i], last[i])));
    if (box[2] - box[0] >= NEAREST && box[3] - box[1] >= NEAREST) await prompt(position, [], box);
  }
  if (mask) {
    // Later marks correct the mask as the brush left it.
    const after = { mask: mask.slice(), given: true, marks: [] };
    await inOrder(() => change(position, snapshotOf(position, before), () => put(position, after, mask)));
  }
});

// Returns the points of a line without those close to the last one kept.
function thinned(points) {
  const kept = [points[0]];
  for (const point of points) if (Math.hypot(point[0] - kept[kept.length - 1][0], point[1] - kept[kept.length - 1][1]) > NEAREST) kept.push(point);
  return kept;
}

// A second finger cancels what the first one began.
function cancel() {
  const { drag } = view;
  view.drag = null;
  if (drag?.mask) {
    frames.forgetMask(drag.position);
    page.go(drag.position, true);
  }
}

// Two fingers zoom and move.
function pinch(event) {
  const other = [...fingers.values()].find((each) => each.pointerId !== event.pointerId);
  const before = fingers.get(event.pointerId), box = viewport.getBoundingClientRect();
  const distance = (each) => Math.hypot(each.clientX - other.clientX, each.clientY - other.clientY) || 1;
  panBy((event.clientX - before.clientX) / 2, (event.clientY - before.clientY) / 2);
  zoomTo(view.zoom * distance(event) / distance(before), (event.clientX + other.clientX) / 2 - box.left, (event.clientY + other.clientY) / 2 - box.top);
  fingers.set(event.pointerId, event);
}

$("#zoom_in").onclick = () => zoomTo(view.zoom * 1.5);
$("#zoom_out").onclick = () => zoomTo(view.zoom / 1.5);
$("#zoom").onclick = () => zoomTo(1);
new ResizeObserver(fit).observe(viewport);
