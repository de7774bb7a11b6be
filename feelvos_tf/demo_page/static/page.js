// The page: paints masks on frames, asks the server to follow them, and shows what it finds.

const $ = (selector) => document.querySelector(selector);
const COLORS = ["#ff6b4a", "#3ec1d3", "#ffc145", "#8f7bff", "#4ade80", "#ff7ab6", "#9aa5b1", "#d2e603"];
// What a hint says about a pixel; see cut_out.py.
const HINT = { unknown: 0, object: 1, background: 2, box: 3 };
const MAX_UNDO = 20;

const view = {
  clip: null, masked: new Set(), given: new Set(), objects: {}, running: false,
  position: 0, image: null, mask: null, undo: [],
  tool: "brush", current: 1, playing: false, drag: null,
};
const canvas = $("#canvas");
const context = canvas.getContext("2d");
const layer = document.createElement("canvas");  // The mask in colors.

// ---- Server

async function ask(path, options = {}) {
  const headers = { "x-feelvos": "1", ...options.headers };
  const response = await fetch(`/api/${path}`, { ...options, headers });
  if (!response.ok) {
    const { error } = await response.json().catch(() => ({ error: `the server answered ${response.status}` }));
    throw new Error(error);
  }
  return response;
}

const send = async (path, method, body) => take(await (await ask(path, { method, body })).json());

function report(error) {
  const toast = $("#toast");
  toast.textContent = error.message || String(error);
  toast.hidden = false;
  clearTimeout(report.timer);
  report.timer = setTimeout(() => { toast.hidden = true; }, 6000);
}

const guarded = (action) => async (...values) => {
  try { return await action(...values); } catch (error) { report(error); }
};

// ---- State

function take(state) {
  const isNew = state.clip && (!view.clip || view.clip.key !== state.clip.key);
  view.clip = state.clip;
  view.running = !!state.running;
  $("#example").hidden = !state.example;
  if (state.clip) {
    view.masked = new Set(state.masked);
    view.given = new Set(state.given);
    if (!view.naming) view.objects = state.objects;
    view.run = state.run;
  }
  if (isNew) begin();
  refresh();
  return state;
}

function begin() {
  const { width, height, frames } = view.clip;
  for (const each of [canvas, layer]) { each.width = width; each.height = height; }
  $("#scrub").max = frames - 1;
  if (!Object.keys(view.objects).length) addObject();
  view.current = Number(Object.keys(view.objects)[0]);
  view.position = -1;
  go(0);
  if (view.clip.cut) report(`the clip is longer: its first ${frames} frames are shown`);
}

function refresh() {
  const has = !!view.clip, idle = has && !view.running;
  $("#empty").hidden = has;
  canvas.hidden = $("#transport").hidden = !has;
  for (const each of document.querySelectorAll("#tools button, [data-run], #add")) each.disabled = !idle;
  $("#undo").disabled = !idle || !view.undo.length;
  $("#play").disabled = !idle;
  for (const each of document.querySelectorAll("[data-tool]")) each.setAttribute("aria-pressed", each.dataset.tool === view.tool);
  $("#stop").hidden = !view.running;
  $("#progress").hidden = !view.running;
  for (const each of document.querySelectorAll("[data-download]")) {
    each.setAttribute("aria-disabled", !idle || !view.masked.size);
    each.href = `/api/download/${each.dataset.download}`;
  }
  $("#leave").disabled = !has;
  if (has) { fit(); showWhere(); showObjects(); showMarks(); showRun(); }
}

function showWhere() {
  $("#scrub").value = view.position;
  $("#where").textContent = `${view.position + 1} / ${view.clip.frames}`;
  $("#play").textContent = view.playing ? "\u275A\u275A" : "\u25B6";
}

function showRun() {
  const run = view.run || {};
  $("#progress").max = run.total || 1;
  $("#progress").value = run.done || 0;
  let text = "";
  if (view.running) text = `frame ${run.position + 1}, ${run.done} of ${run.total} done`;
  else if (run.error) text = run.error;
  else if (run.total !== undefined) text = run.done < run.total ? `stopped after ${run.done} of ${run.total} frames` : `${run.done} frames followed`;
  $("#status").textContent = text;
}

function showMarks() {
  const marks = $("#marks"), frames = view.clip.frames;
  const scale = window.devicePixelRatio || 1;
  marks.width = marks.clientWidth * scale; marks.height = marks.clientHeight * scale;
  const draw = marks.getContext("2d"), step = marks.width / frames;
  draw.fillStyle = "#3f66b8";
  for (const i of view.masked) draw.fillRect(i * step, 0, Math.ceil(step), marks.height);
  draw.fillStyle = "#ffb224";
  for (const i of view.given) draw.fillRect(i * step, 0, Math.max(4, step), marks.height);
  draw.fillStyle = "#fff";
  draw.fillRect((view.position + .5) * step - 1, 0, 2, marks.height);
}

function showObjects() {
  const list = $("#objects");
  if (view.naming) return;
  list.replaceChildren(...Object.entries(view.objects).map(([id, object]) => {
    const item = document.createElement("li");
    item.setAttribute("aria-current", Number(id) === view.current);
    item.dataset.id = id;
    const color = Object.assign(document.createElement("input"), { type: "color", value: object.color, title: "Color" });
    const name = Object.assign(document.createElement("input"), { type: "text", value: object.name, maxLength: 40, ariaLabel: "Name" });
    const number = Object.assign(document.createElement("small"), { textContent: id, title: "Its id in the masks" });
    item.append(color, name, number);
    item.onclick = () => { view.current = Number(id); for (const each of list.children) each.setAttribute("aria-current", each === item); };
    color.oninput = () => { object.color = color.value; draw(); };
    color.onchange = saveObjects;
    name.onfocus = () => { view.naming = true; item.onclick(); };
    name.onblur = guarded(async () => { view.naming = false; object.name = name.value; await saveObjects(); });
    name.onkeydown = (event) => { event.stopPropagation(); if (event.key === "Enter") name.blur(); };
    return item;
  }));
}

const saveObjects = guarded(() => send("objects", "PUT", JSON.stringify(view.objects)));

function addObject() {
  const ids = Object.keys(view.objects).map(Number);
  const id = ids.length ? Math.max(...ids) + 1 : 1;
  view.objects[id] = { name: `object ${id}`, color: COLORS[(id - 1) % COLORS.length] };
  view.current = id;
  saveObjects();
}

// ---- Frames

let latest = 0;
const go = guarded(async (position, again = false) => {
  if (!view.clip || (position === view.position && !again)) return;
  const number = ++latest;
  const [image, mask] = await Promise.all([loadImage(position), loadMask(position)]);
  if (number !== latest) return;  // Another frame was asked for meanwhile.
  if (position !== view.position) view.undo = [];
  Object.assign(view, { position, image, mask });
  draw();
  refresh();
});

async function loadImage(position) {
  return createImageBitmap(await (await ask(`frame/${position}`)).blob());
}

async function loadMask(position) {
  return new Uint8Array(await (await ask(`mask/${position}`)).arrayBuffer());
}

const rgb = (color) => [1, 3, 5].map((i) => parseInt(color.slice(i, i + 2), 16));

function draw() {
  if (!view.image) return;
  const { width, height } = view.clip;
  context.drawImage(view.image, 0, 0, width, height);
  const colors = Object.fromEntries(Object.entries(view.objects).map(([id, o]) => [id, rgb(o.color)]));
  const pixels = new ImageData(width, height), data = pixels.data, mask = view.mask;
  for (let i = 0; i < mask.length; i++) {
    const id = mask[i];
    if (!id) continue;
    const [r, g, b] = colors[id] || [255, 255, 255], x = i % width;
    const edge = (x > 0 && mask[i - 1] !== id) || (x < width - 1 && mask[i + 1] !== id) || mask[i - width] !== id || mask[i + width] !== id;
    data[4 * i] = r; data[4 * i + 1] = g; data[4 * i + 2] = b; data[4 * i + 3] = edge ? 255 : 120;
  }
  layer.getContext("2d").putImageData(pixels, 0, 0);
  context.drawImage(layer, 0, 0);
  drawDrag();
}

function drawDrag() {
  const drag = view.drag;
  if (!drag || !drag.points.length) return;
  context.save();
  context.lineWidth = Math.max(2, view.clip.width / 300);
  context.strokeStyle = view.objects[view.current]?.color || "#fff";
  const [first, last] = [drag.points[0], drag.points[drag.points.length - 1]];
  if (drag.tool === "box") {
    context.setLineDash([8, 5]);
    context.strokeRect(first[0], first[1], last[0] - first[0], last[1] - first[1]);
  } else if (drag.tool === "scribble") {
    context.lineWidth = drag.radius * 2;
    context.lineCap = context.lineJoin = "round";
    context.beginPath();
    drag.points.forEach((point, i) => (i ? context.lineTo(...point) : context.moveTo(...point)));
    context.stroke();
  }
  context.restore();
}

// ---- Painting

function at(event) {
  const box = canvas.getBoundingClientRect();
  return [(event.clientX - box.left) / box.width * canvas.width, (event.clientY - box.top) / box.height * canvas.height];
}

// Sets `value` in all pixels of `array` within `radius` of the line between two points.
function stroke(array, from, to, radius, value) {
  const { width, height } = view.clip;
  const [dx, dy] = [to[0] - from[0], to[1] - from[1]], length = dx * dx + dy * dy || 1;
  const clip = (v, most) => Math.max(0, Math.min(most, v));
  const top = clip(Math.floor(Math.min(from[1], to[1]) - radius), height), bottom = clip(Math.ceil(Math.max(from[1], to[1]) + radius) + 1, height);
  const left = clip(Math.floor(Math.min(from[0], to[0]) - radius), width), right = clip(Math.ceil(Math.max(from[0], to[0]) + radius) + 1, width);
  for (let y = top; y < bottom; y++) {
    for (let x = left; x < right; x++) {
      const t = clip(((x - from[0]) * dx + (y - from[1]) * dy) / length, 1);
      const [ex, ey] = [x - from[0] - t * dx, y - from[1] - t * dy];
      if (ex * ex + ey * ey <= radius * radius) array[y * width + x] = value;
    }
  }
}

canvas.onpointerdown = (event) => {
  if (!view.clip || view.running || view.playing || !view.mask || event.button) return;
  canvas.setPointerCapture(event.pointerId);
  remember();
  const radius = Math.max(1, Number($("#size").value) / 2);
  view.drag = { tool: view.tool, radius: view.tool === "scribble" ? Math.max(2, radius / 2) : radius, points: [at(event)], position: view.position };
  paintTo(at(event));
};
canvas.onpointermove = (event) => { if (view.drag) paintTo(at(event)); };
canvas.onpointerup = canvas.onpointercancel = guarded(async () => {
  const drag = view.drag;
  view.drag = null;
  if (!drag) return;
  if ((drag.tool === "box" || drag.tool === "scribble") && !(await cutOut(drag))) return draw();
  draw();
  await save();
});

function paintTo(point) {
  const drag = view.drag, last = drag.points[drag.points.length - 1];
  drag.points.push(point);
  if (drag.tool === "brush" || drag.tool === "eraser") stroke(view.mask, last, point, drag.radius, drag.tool === "brush" ? view.current : 0);
  draw();
}

// Returns whether anything was found.
async function cutOut(drag) {
  const { width, height } = view.clip, hint = new Uint8Array(width * height);
  const first = drag.points[0], last = drag.points[drag.points.length - 1];
  if (drag.tool === "box") {
    const [left, right] = [first[0], last[0]].sort((a, b) => a - b).map(Math.round);
    const [top, bottom] = [first[1], last[1]].sort((a, b) => a - b).map(Math.round);
    if (right - left < 3 || bottom - top < 3) return false;
    for (let y = Math.max(0, top); y < Math.min(height, bottom); y++) hint.fill(HINT.box, y * width + Math.max(0, left), y * width + Math.min(width, right));
  } else {
    for (let i = 1; i < drag.points.length; i++) stroke(hint, drag.points[i - 1], drag.points[i], drag.radius, HINT.object);
  }
  $("#status").textContent = "looking for the outline";
  const found = new Uint8Array(await (await ask(`cut_out/${drag.position}`, { method: "POST", body: hint })).arrayBuffer());
  $("#status").textContent = "";
  if (view.position !== drag.position) return false;
  if (!found.includes(1)) {
    report("no outline was found there: leave some room around the object, or use the brush");
    return false;
  }
  for (let i = 0; i < found.length; i++) if (found[i]) view.mask[i] = view.current;
  return true;
}

function remember() {
  view.undo.push(view.mask.slice());
  if (view.undo.length > MAX_UNDO) view.undo.shift();
}

const save = () => send(`mask/${view.position}`, "PUT", view.mask);

$("#undo").onclick = guarded(async () => {
  if (!view.undo.length || view.running) return;
  view.mask = view.undo.pop();
  draw();
  await save();
});

$("#clear").onclick = guarded(async () => {
  remember();
  view.mask = new Uint8Array(view.mask.length);
  draw();
  await send(`mask/${view.position}`, "DELETE");
});

// ---- Running

async function follow(direction) {
  stopPlaying();
  await send("run", "POST", JSON.stringify({ position: view.position, direction }));
  watch();
}

const summaries = guarded(async () => {
  while (view.running) {
    await new Promise((resolve) => setTimeout(resolve, 250));
    const state = await send("state", "GET");
    if (state.run && state.run.done) await go(state.run.position, true);
  }
  await go(view.position, true);
});

for (const button of document.querySelectorAll("[data-run]")) button.onclick = guarded(() => follow(button.dataset.run));
$("#stop").onclick = guarded(() => send("stop", "POST"));

// ---- Playing and scrubbing

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

function stopPlaying() { view.playing = false; if (view.clip) showWhere(); }

$("#play").onclick = guarded(async () => {
  if (view.playing) return stopPlaying();
  view.playing = true;
  while (view.playing) {
    const next = (view.position + 1) % view.clip.frames;
    await Promise.all([go(next), pause(1000 / view.clip.rate)]);
  }
});
$("#scrub").oninput = (event) => {
  const position = Number(event.target.value);  // Before the slider is set to where the view still is.
  stopPlaying();
  go(position);
};

// ---- Clips, objects, tools, keys

const load = guarded(async (path, body) => {
  $("#empty").textContent = "reading the clip";
  try { await send(path, "POST", body); } finally { $("#empty").textContent = "Choose a clip, or begin with the example."; }
});
$("#example").onclick = () => load("example");
$("#file").onchange = async (event) => { if (event.target.files[0]) await load("clip", event.target.files[0]); event.target.value = ""; };
$("#add").onclick = addObject;
$("#leave").onclick = guarded(async () => { await ask("leave", { method: "POST" }); location.reload(); });
for (const button of document.querySelectorAll("[data-tool]")) button.onclick = () => { view.tool = button.dataset.tool; refresh(); };

const KEYS = { b: "brush", e: "eraser", x: "box", s: "scribble" };
document.addEventListener("keydown", (event) => {
  if (!view.clip || event.target.type === "text") return;
  if ((event.ctrlKey || event.metaKey) && event.key === "z") { $("#undo").click(); event.preventDefault(); return; }
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (KEYS[event.key]) $(`[data-tool=${KEYS[event.key]}]`).click();
  else if (event.key === " ") { $("#play").click(); event.preventDefault(); }
  else if (event.key === "ArrowLeft" || event.key === "ArrowRight") {
    stopPlaying();
    go(Math.max(0, Math.min(view.clip.frames - 1, view.position + (event.key === "ArrowLeft" ? -1 : 1))));
    event.preventDefault();
  }
});
// As large as the room for it, without black bars, so that a click's place is that of a pixel.
function fit() {
  const room = $("#picture"), style = getComputedStyle(room), { width, height } = view.clip;
  const [wide, high] = [room.clientWidth - parseFloat(style.paddingLeft) * 2, room.clientHeight - parseFloat(style.paddingTop) * 2];
  const scale = Math.min(wide / width, high / height);
  canvas.style.width = `${width * scale}px`;
  canvas.style.height = `${height * scale}px`;
}
window.addEventListener("resize", () => { if (view.clip) { fit(); showMarks(); } });

guarded(async () => {
  const state = await send("state", "GET");
  if (state.running) watch();
})();
