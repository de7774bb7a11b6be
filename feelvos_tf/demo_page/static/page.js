// The page: paints masks on frames, asks the server to propagate them, and shows the results.

const $ = (selector) => document.querySelector(selector);
const COLORS = ["#ff6b4a", "#3ec1d3", "#ffc145", "#8f7bff", "#4ade80", "#ff7ab6", "#9aa5b1", "#d2e603"];
// What a hint says about a pixel; see cut_out.py.
const HINT = { unknown: 0, object: 1, background: 2, box: 3 };
const MAX_UNDO = 50;

const view = {
  clip: null, masked: new Set(), given: new Set(), objects: {}, running: false,
  position: 0, image: null, mask: null, undo: [], redo: [],
  tool: "brush", current: 1, playing: false, loading: false, drag: null,
};
const canvas = $("#canvas");
const context = canvas.getContext("2d");
const layer = document.createElement("canvas");  // The mask in colors.

// ---- Server

async function ask(path, options = {}) {
  const headers = { "x-feelvos": "1", ...options.headers };
  const response = await fetch(`/api/${path}`, { ...options, headers }).catch(() => {
    throw new Error("the server does not answer: is it still running?");
  });
  if (!response.ok) {
    const { error } = await response.json().catch(() => ({ error: `the server answered ${response.status}` }));
    throw new Error(error);
  }
  return response;
}

const send = async (path, method, body) => take(await (await ask(path, { method, body })).json());

// Runs changes one after the other: requests sent at the same time may overtake each other.
let queue = Promise.resolve();
function inOrder(action) {
  const done = queue.then(action);
  queue = done.catch(() => {});
  return done;
}

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

// Returns whether the person in front of the page agrees.
async function agrees(question, action) {
  const dialog = $("#question");
  dialog.querySelector("p").textContent = question;
  dialog.querySelector("[value=yes]").textContent = action;
  dialog.returnValue = "";
  dialog.showModal();
  await new Promise((resolve) => { dialog.onclose = resolve; });
  return dialog.returnValue === "yes";
}

// ---- State

function take(state) {
  const isNew = state.clip && (!view.clip || view.clip.key !== state.clip.key);
  view.clip = state.clip;
  view.running = !!state.running;
  $("#example").hidden = !state.example;
  if (state.clip) {
    view.masked = new Set(state.masked);
    view.given = new Set(state.given);
    view.objects = state.objects;
    view.run = state.run;
    if (!view.objects[view.current]) view.current = Number(Object.keys(view.objects)[0] || 1);
  }
  if (isNew) begin();
  if (isNew && !view.objects[view.current]) addObject();
  refresh();
  return state;
}

function begin() {
  const { width, height, frames } = view.clip;
  for (const each of [canvas, layer]) { each.width = width; each.height = height; }
  $("#scrub").max = frames - 1;
  Object.assign(view, { undo: [], redo: [], position: -1 });
  go(0);
  if (view.clip.cut) report(`the clip is longer: its first ${frames} frames are shown`);
}

function refresh() {
  const has = !!view.clip, idle = has && !view.running;
  $("#empty").hidden = has;
  canvas.hidden = $("#transport").hidden = !has;
  for (const each of document.querySelectorAll("#tools button, [data-run], #add")) each.disabled = !idle;
  $("#undo").disabled = !idle || !view.undo.length;
  $("#redo").disabled = !idle || !view.redo.length;
  $("#clear").disabled = !idle || !view.masked.has(view.position);
  $("#choose").disabled = $("#example").disabled = view.loading;
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
  else if (run.total !== undefined) text = run.done < run.total ? `stopped after ${run.done} of ${run.total} frames` : `${run.done} frames tracked`;
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
  const shown = JSON.stringify([view.objects, view.current, view.running]);
  if (list.dataset.shown === shown || list.querySelector("[type=text]")) return;  // Keeps the focus.
  list.dataset.shown = shown;
  list.replaceChildren(...Object.entries(view.objects).map(([id, object]) => objectRow(Number(id), object)));
}

function objectRow(id, object) {
  const make = (tag, values) => Object.assign(document.createElement(tag), values);
  const item = make("li", { onclick: () => select(id) });
  item.setAttribute("aria-current", id === view.current);
  item.dataset.id = id;
  const color = make("input", { type: "color", value: object.color, title: "Color", ariaLabel: `Color of ${object.name}` });
  color.oninput = () => { object.color = color.value; draw(); };
  color.onchange = () => saveObjects({ ...view.objects, [id]: { ...object, color: color.value } });
  const name = make("button", { className: "name", textContent: object.name, title: "Paint this object" });
  const startRenaming = () => rename(id, object, name);
  name.ondblclick = startRenaming;
  item.append(
    color, name, make("small", { textContent: id, title: "Its id in the masks" }),
    make("button", { className: "rename", textContent: "\u270E", title: "Rename", ariaLabel: `Rename ${object.name}`, onclick: startRenaming }),
    make("button", { className: "remove", textContent: "\u2715", title: "Remove", ariaLabel: `Remove ${object.name}`, disabled: view.running, onclick: guarded(() => removeObject(id, object)) }),
  );
  return item;
}

function select(id) {
  view.current = id;
  for (const each of $("#objects").children) each.setAttribute("aria-current", Number(each.dataset.id) === id);
  $("#objects").dataset.shown = JSON.stringify([view.objects, id, view.running]);
}

function rename(id, object, button) {
  const field = Object.assign(document.createElement("input"), { type: "text", value: object.name, maxLength: 40, ariaLabel: "Name" });
  let isOver = false;
  const end = (name) => {
    if (isOver) return;
    isOver = true;
    field.replaceWith(button);
    $("#objects").dataset.shown = "";
    refresh();
    if (name && name !== object.name) saveObjects({ ...view.objects, [id]: { ...object, name } });
  };
  field.onblur = () => end(field.value.trim());
  field.onkeydown = (event) => {
    if (event.key === "Enter") end(field.value.trim());
    if (event.key === "Escape") end("");
  };
  button.replaceWith(field);
  field.select();
}

const saveObjects = guarded((objects) => inOrder(() => send("objects", "PUT", JSON.stringify(objects))));

function addObject() {
  let id = 1;
  while (view.objects[id]) id++;
  view.current = id;
  return saveObjects({ ...view.objects, [id]: { name: `object ${id}`, color: COLORS[(id - 1) % COLORS.length] } });
}

async function removeObject(id, object) {
  if (view.masked.size && !(await agrees(`Remove \u201C${object.name}\u201D and its masks in all frames? This cannot be undone.`, "Remove"))) return;
  await inOrder(() => send(`objects/${id}`, "DELETE"));
  view.undo = [];
  view.redo = [];
  if (!Object.keys(view.objects).length) await addObject();
  await go(view.position, true);
}

// ---- Frames

let latest = 0;
const go = guarded(async (position, again = false) => {
  if (!view.clip || (position === view.position && !again)) return;
  const number = ++latest;
  const [image, mask] = await Promise.all([loadImage(position), loadMask(position)]);
  if (number !== latest) return;  // Another frame was asked for meanwhile.
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
  const radius = Math.max(1, Number($("#size").value) / 2);
  view.drag = { tool: view.tool, radius: view.tool === "scribble" ? Math.max(2, radius / 2) : radius, points: [at(event)], position: view.position, before: snapshot() };
  paintTo(at(event));
};
canvas.onpointermove = (event) => { if (view.drag) paintTo(at(event)); };
canvas.onpointerup = canvas.onpointercancel = guarded(async () => {
  const drag = view.drag;
  view.drag = null;
  if (!drag) return;
  if ((drag.tool === "box" || drag.tool === "scribble") && !(await cutOut(drag))) return draw();
  draw();
  await change({ position: drag.position, before: drag.before, after: { mask: view.mask.slice(), given: true } });
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
  $("#status").textContent = "finding the outline \u2026";
  const found = new Uint8Array(await (await ask(`cut_out/${drag.position}`, { method: "POST", body: hint })).arrayBuffer());
  $("#status").textContent = "";
  if (view.position !== drag.position) return false;
  if (!found.includes(1)) {
    report("no outline found: leave some room around the object, or use the brush");
    return false;
  }
  for (let i = 0; i < found.length; i++) if (found[i]) view.mask[i] = view.current;
  return true;
}

// ---- Undo and redo: changes of all frames in one list

// Returns what there is of the frame in view. `mask` is null if it has none, and `given` tells whether
// it counts as painted.
function snapshot() {
  const { position } = view;
  return { mask: view.masked.has(position) ? view.mask.slice() : null, given: view.given.has(position) };
}

const put = (position, { mask, given }) => mask
  ? send(`mask/${position}?given=${given ? 1 : 0}`, "PUT", mask)
  : send(`mask/${position}`, "DELETE");

// Sends a change, and remembers it once the server has taken it.
function change(entry) {
  return inOrder(async () => {
    try {
      await put(entry.position, entry.after);
    } catch (error) {
      await go(view.position, true);
      throw error;
    }
    view.undo.push(entry);
    if (view.undo.length > MAX_UNDO) view.undo.shift();
    view.redo = [];
    refresh();
  });
}

// Takes the newest entry of one list back, or does it again, and moves it to the other list.
const travel = (from, to, side) => guarded(() => inOrder(async () => {
  if (view.running || view.drag || !view[from].length) return;
  stopPlaying();
  const entry = view[from][view[from].length - 1];
  await put(entry.position, entry[side]);
  view[to].push(view[from].pop());
  await go(entry.position, true);
}));

$("#undo").onclick = travel("undo", "redo", "before");
$("#redo").onclick = travel("redo", "undo", "after");

$("#clear").onclick = guarded(async () => {
  const entry = { position: view.position, before: snapshot(), after: { mask: null, given: false } };
  await change(entry);
  await go(entry.position, true);
});

// ---- Running

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function track(direction) {
  stopPlaying();
  await inOrder(() => send("run", "POST", JSON.stringify({ position: view.position, direction })));
  watch();
}

// Shows every new frame, unless somebody looks at another one.
const watch = guarded(async () => {
  let shown = view.position;
  while (view.running) {
    await pause(250);
    const { run } = await send("state", "GET");
    if (!run || !run.done || view.position !== shown) continue;
    await go(run.position, true);
    shown = view.position;
  }
  await go(view.position, true);
});

for (const button of document.querySelectorAll("[data-run]")) button.onclick = guarded(() => track(button.dataset.run));
$("#stop").onclick = guarded(() => send("stop", "POST"));

// ---- Playing and scrubbing

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
  const count = view.masked.size;
  if (count && !(await agrees(`Another clip replaces this one and its masks (${frames(count)}).`, "Replace"))) return;
  stopPlaying();
  view.loading = true;
  $("#empty").textContent = "Reading the clip \u2026";
  refresh();
  try {
    await inOrder(() => send(path, "POST", body));
  } finally {
    view.loading = false;
    $("#empty").textContent = "Choose a clip, or start with the example.";
    refresh();
  }
});
const frames = (count) => `${count} frame${count === 1 ? "" : "s"}`;
$("#example").onclick = () => load("example");
$("#choose").onclick = () => $("#file").click();
$("#file").onchange = async (event) => { if (event.target.files[0]) await load("clip", event.target.files[0]); event.target.value = ""; };
$("#add").onclick = addObject;
$("#leave").onclick = guarded(async () => {
  const count = view.masked.size;
  if (!(await agrees(`Remove this clip and its masks (${frames(count)}) from this machine?`, "Remove"))) return;
  await ask("leave", { method: "POST" });
  location.reload();
});
for (const button of document.querySelectorAll("[data-tool]")) button.onclick = () => { view.tool = button.dataset.tool; refresh(); };

const KEYS = { b: "brush", e: "eraser", x: "box", s: "scribble" };
document.addEventListener("keydown", (event) => {
  const { target } = event, key = event.key.toLowerCase();
  if (!view.clip || target.type === "text" || $("#question").open) return;
  if (event.ctrlKey || event.metaKey) {
    const button = key === "y" || (key === "z" && event.shiftKey) ? "#redo" : key === "z" ? "#undo" : "";
    if (button) { $(button).click(); event.preventDefault(); }
    return;
  }
  if (event.altKey) return;
  if (KEYS[key]) $(`[data-tool=${KEYS[key]}]`).click();
  else if (key === " " && !target.closest("button, a, [type=color]")) { $("#play").click(); event.preventDefault(); }
  else if ((key === "arrowleft" || key === "arrowright") && target.id !== "size") {
    stopPlaying();
    go(Math.max(0, Math.min(view.clip.frames - 1, view.position + (key === "arrowleft" ? -1 : 1))));
    event.preventDefault();
  }
});
// What was clicked does not keep the keyboard; what was reached with Tab does.
document.addEventListener("click", (event) => { if (event.detail) event.target.closest("button, a, [type=range]")?.blur(); });

// Fits the canvas into its room without black bars: a click's place is that of a pixel.
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
