// The page: clips, objects, runs, playback, keys. Everything on the frame itself is in tools.js.

import { frames } from "./frames.js";
import { beginClip, draw, drawOver, fit, view, zoomTo } from "./picture.js";
import { $, agrees, ask, guarded, inOrder, pause, report, server } from "./server.js";
import { history, page } from "./tools.js";

const all = (selector) => document.querySelectorAll(selector);
const COLORS = ["#ff6b4a", "#3ec1d3", "#ffc145", "#8f7bff", "#4ade80", "#ff7ab6", "#9aa5b1", "#d2e603"];
const MOST_PICTURES = 2000;
const AHEAD = 16;  // Frames that playback loads in advance.
const SIGN_OF_LIFE_EVERY_MS = 600_000;  // More often than the server removes visitors who send nothing.
const HINTS = {
  ...(matchMedia("(pointer: coarse)").matches ? {
    click: "Tap the object; choose − for anything that is not part of it.",
    scribble: "Scribble on the object; choose − for anything that is not part of it.",
    hand: "Drag with one finger to move, with two to zoom.",
  } : {
    click: "Click the object; right-click anything that is not part of it.",
    scribble: "Scribble on the object; use the right button on anything that is not part of it.",
    hand: "Drag to move, scroll to zoom.",
  }),
  box: "Draw a box around the object.",
  brush: "Paint the object.", eraser: "Erase what is not part of the object.",
};

// ---- State

const send = async (path, method, body) => take(await (await ask(path, { method, body })).json());

function take(state) {
  const isNew = state.clip && (!view.clip || view.clip.key !== state.clip.key);
  view.clip = state.clip;
  view.running = !!state.running;
  view.example = state.example;
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
  frames.forget();
  beginClip();
  [history.undo, history.redo] = [[], []];
  $("#scrub").max = view.clip.frames - 1;
  view.position = -1;
  go(0);
  if (view.clip.cut) report(`the clip is too long: only its first ${view.clip.frames} frames are kept`);
}

function refresh() {
  const has = !!view.clip, idle = has && !view.running;
  document.body.classList.toggle("has_clip", has);
  $("#empty").hidden = has;
  for (const each of all("#canvas, #over, #zooming, #transport, #hint, #choose_again")) each.hidden = !has;
  $("#example").hidden = !view.example;
  for (const each of all("#tools button, #add")) each.disabled = !has;
  for (const each of all("[data-run]")) each.disabled = !idle || !view.masked.has(view.position);
  $("#undo").disabled = !has || !history.undo.length;
  $("#redo").disabled = !has || !history.redo.length;
  $("#clear").disabled = !has || !view.masked.has(view.position);
  for (const each of all("#choose, #choose_again, #example")) each.disabled = view.loading;
  for (const each of all("[data-tool]")) each.setAttribute("aria-pressed", each.dataset.tool === view.tool);
  for (const each of all("[data-sign]")) each.setAttribute("aria-pressed", Number(each.dataset.sign) === view.sign);
  $("#signs").hidden = !["click", "scribble"].includes(view.tool);
  $("#size").parentElement.hidden = !["brush", "eraser"].includes(view.tool);
  $("#hint").textContent = view.finding ? "finding the outline \u2026" : HINTS[view.tool];
  $("#picture").dataset.tool = view.tool;
  for (const each of all("#stop, #progress")) each.hidden = !view.running;
  $("#follow").hidden = !view.running || view.following;
  for (const each of all("[data-download]")) {
    each.setAttribute("aria-disabled", !idle || !view.masked.size);
    each.href = `/api/download/${each.dataset.download}`;
  }
  $("#leave").disabled = !has;
  $("#name").textContent = has ? view.clip.name : "";
  if (has) { fit(); showWhere(); showObjects(); showBars(); showRun(); }
}

function showWhere() {
  const { frames: count, rate } = view.clip;
  $("#scrub").value = view.position;
  $("#where").textContent = `${view.position + 1} / ${count}`;
  $("#time").textContent = `${(Math.max(0, view.position) / rate).toFixed(2)} s`;
  $("#play").textContent = view.playing ? "\u275A\u275A" : "\u25B6\uFE0E";
}

function showRun() {
  const run = view.run || {};
  $("#progress").max = run.total || 1;
  $("#progress").value = run.done || 0;
  if (view.running && !run.done) $("#progress").removeAttribute("value");
  let text = "";
  if (view.running && !run.done) text = run.is_waiting ? "waiting for another visitor's frame \u2026" : "preparing \u2026";
  else if (view.running) text = `${run.done} of ${run.total} frames${left(run.seconds_left)}`;
  else if (run.error) text = run.error;
  else if (run.total !== undefined) text = run.done < run.total ? `stopped after ${run.done} of ${run.total} frames` : `${run.done} frames tracked`;
  $("#status").textContent = text;
}

function left(seconds) {
  if (seconds === null || seconds === undefined) return "";
  const rounded = Math.ceil(seconds);
  return rounded < 90 ? `, ${rounded} s left` : `, ${Math.ceil(rounded / 60)} min left`;
}

// Shows which frames have masks.
function showBars() {
  const bars = $("#bars"), count = view.clip.frames, ratio = window.devicePixelRatio || 1;
  const style = getComputedStyle(bars), context = bars.getContext("2d");
  bars.width = bars.clientWidth * ratio; bars.height = bars.clientHeight * ratio;
  const bar = (position, name) => {
    context.fillStyle = style.getPropertyValue(name);
    const from = position * bars.width / count;
    context.fillRect(from, 0, Math.max(2, bars.width / count - (count < 150 ? ratio : 0)), bars.height);
  };
  for (const position of view.masked) bar(position, "--masked");
  for (const position of view.given) bar(position, "--given");
}

// ---- Objects

function showObjects() {
  const list = $("#objects"), shown = JSON.stringify([view.objects, view.current, view.running, [...view.hidden]]);
  if (list.dataset.shown === shown || list.contains(document.activeElement?.closest("[type=text], [type=color]"))) return;  // A rename or color choice in progress keeps the focus.
  const focused = document.activeElement?.dataset?.key;
  list.dataset.shown = shown;
  list.replaceChildren(...Object.entries(view.objects).map(([id, object]) => objectRow(Number(id), object)));
  if (focused) list.querySelector(`[data-key="${focused}"]`)?.focus();
}

function objectRow(id, object) {
  const make = (tag, values) => Object.assign(document.createElement(tag), values);
  const button = (className, textContent, title, onclick) => {
    const made = make("button", { className, textContent, title, ariaLabel: `${title} ${object.name}`, onclick });
    made.dataset.key = `${className}${id}`;
    return made;
  };
  const item = make("li", { onclick: () => select(id) });
  item.setAttribute("aria-current", id === view.current);
  item.dataset.id = id;
  const color = make("input", { type: "color", value: object.color, title: "Color", ariaLabel: `Color of ${object.name}` });
  color.oninput = () => { object.color = color.value; draw(); };
  color.onchange = () => saveObject(id, { color: color.value });
  const name = button("name", object.name, "Select", () => {});
  const startRenaming = () => rename(id, object, name);
  name.ondblclick = startRenaming;
  const isHidden = view.hidden.has(id);
  const eye = button("eye", isHidden ? "\u25CC" : "\u25C9", isHidden ? "Show" : "Hide", () => toggle(id));
  eye.setAttribute("aria-pressed", !isHidden);
  const remove = button("remove", "\u2715", "Remove", guarded(() => removeObject(id, object)));
  remove.disabled = view.running;
  item.append(color, name, make("small", { textContent: id, title: "Id in the masks" }), eye, button("rename", "\u270E", "Rename", startRenaming), remove);
  return item;
}

function select(id) {
  if (!view.objects[id] || id === view.current) return;
  view.current = id;
  drawOver();
  refresh();
}

function toggle(id) {
  if (!view.hidden.delete(id)) view.hidden.add(id);
  draw();
  refresh();
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
    if (name && name !== object.name) saveObject(id, { name });
  };
  field.onblur = () => end(field.value.trim());
  field.onkeydown = (event) => {
    if (event.key === "Enter") end(field.value.trim());
    if (event.key === "Escape") end("");
  };
  button.replaceWith(field);
  field.select();
}

// Changes the objects as they are once earlier changes have been made.
const saveObjects = guarded((changed) => inOrder(() => send("objects", "PUT", JSON.stringify(changed(view.objects)))));
const saveObject = (id, values) => saveObjects((objects) => ({ ...objects, [id]: { ...objects[id], ...values } }));

async function addObject() {
  let id = 1;
  await saveObjects((objects) => {
    while (objects[id]) id++;
    return { ...objects, [id]: { name: `object ${id}`, color: COLORS[(id - 1) % COLORS.length] } };
  });
  select(id);
}

async function removeObject(id, object) {
  if (view.masked.size && !(await agrees(`Remove \u201C${object.name}\u201D and its masks from all frames? This cannot be undone.`, "Remove"))) return;
  await inOrder(() => send(`objects/${id}`, "DELETE"));
  for (const key of [...view.marks.keys()]) if (key.endsWith(`/${id}`)) view.marks.delete(key);
  [history.undo, history.redo] = [[], []];
  frames.forgetMasks();
  if (!Object.keys(view.objects).length) await addObject();
  await go(view.position, true);
}

// ---- Frames

const go = guarded(async (position, again = false) => {
  if (!view.clip || (position === view.wanted && position === view.position && !again)) return;
  view.wanted = position;
  const [image, mask] = await Promise.all([frames.image(position), frames.mask(position)]);
  if (position !== view.wanted) return;  // Another frame has been requested since.
  Object.assign(view, { position, image, mask });
  draw();
  refresh();
});
Object.assign(page, { send, go, refresh, stopPlaying });

// Goes to a frame that the user chose, and stays there.
function look(position) {
  stopPlaying();
  view.following = false;
  return go(Math.max(0, Math.min(view.clip.frames - 1, position)));
}

// ---- Running

async function track(direction) {
  const { position } = view;
  stopPlaying();
  view.following = true;
  await inOrder(() => send("run", "POST", JSON.stringify({ position, direction })));
  watch();
}

// Shows every new frame unless the user is looking at another one.
const watch = guarded(async () => {
  while (view.running) {
    await pause(250);
    const before = view.run.done;
    await send("state", "GET");
    if (view.run.done === before || view.drag || view.finding) continue;
    frames.forgetMasks();
    await go(view.following ? view.run.position : view.wanted, true);
  }
  frames.forgetMasks();
  if (!view.drag) await go(view.wanted, true);
});

for (const button of all("[data-run]")) button.onclick = guarded(() => track(button.dataset.run));
$("#stop").onclick = guarded(() => send("stop", "POST"));
$("#follow").onclick = () => { view.following = true; go(view.run.position); refresh(); };

// The server, or a new one in its place, is responding again.
server.onReturn = async () => {
  const had = view.clip;
  const state = await send("state", "GET");
  if (had && !state.clip) report("your clip and masks are gone: they were removed, or the server was restarted");
  if (!state.clip) return;
  frames.forgetMasks();
  if (!view.drag) await go(view.wanted, true);
  watch();
};
// The answer is not shown: it may be older than a change that is on its way.
setInterval(guarded(() => ask("state")), SIGN_OF_LIFE_EVERY_MS);

// ---- Playback and scrubbing

function stopPlaying() { view.playing = false; if (view.clip) showWhere(); }

// Plays at the clip's frame rate; late frames are skipped.
$("#play").onclick = guarded(async () => {
  if (view.playing) return stopPlaying();
  view.following = false;
  view.playing = true;
  const { frames: count, rate } = view.clip, first = view.position;
  const ahead = (from) => frames.load(Array.from({ length: AHEAD }, (_, i) => (from + i) % count));
  await ahead(first + 1);
  const begin = performance.now();
  for (let shown = 0; view.playing;) {
    const due = Math.floor((performance.now() - begin) / 1000 * rate);
    if (due <= shown) { await new Promise(requestAnimationFrame); continue; }
    shown = due;
    ahead(first + shown + 1).catch(() => {});
    await go((first + shown) % count);
  }
});
$("#scrub").oninput = (event) => look(Number(event.target.value));

// ---- Clips

const load = guarded(async (path, body) => {
  const count = view.masked.size;
  if (view.clip && count && !(await agrees(`The new clip replaces this one and its masks (${number(count)}).`, "Replace"))) return;
  stopPlaying();
  view.loading = true;
  $("#empty h2").textContent = "Reading the clip \u2026";
  refresh();
  try {
    await inOrder(() => send(path, "POST", body));
  } finally {
    view.loading = false;
    $("#empty h2").textContent = "Drop a video here";
    refresh();
  }
});
const number = (count) => `${count} frame${count === 1 ? "" : "s"}`;

// Loads a video, or images in the order of their names.
async function loadFiles(files) {
  files = [...files].sort((a, b) => a.name.localeCompare(b.name, "en", { numeric: true })).slice(0, MOST_PICTURES);
  if (!files.length) return;
  if (files.length > 1 && files.some((each) => each.type.startsWith("video/"))) return report("expected one video, or the frames of one as images, found several files with a video among them");
  const asked = new URLSearchParams({ name: files[0].name });
  if (files.length > 1) asked.set("sizes", files.map((each) => each.size).join());
  await load(`clip?${asked}`, files.length > 1 ? new Blob(files) : files[0]);
}

for (const each of all("#choose, #choose_again")) each.onclick = () => $("#file").click();
// The input is cleared at once: choosing the same file again must fire the event, too.
$("#file").onchange = ({ target }) => { const files = [...target.files]; target.value = ""; loadFiles(files); };
$("#example").onclick = () => load("example");
document.addEventListener("dragover", (event) => { event.preventDefault(); document.body.classList.add("dropping"); });
document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) document.body.classList.remove("dropping"); });
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dropping");
  loadFiles(event.dataTransfer.files);
});
$("#leave").onclick = guarded(async () => {
  if (!(await agrees(`Remove this clip and its masks (${number(view.masked.size)}) from this machine?`, "Remove"))) return;
  await ask("leave", { method: "POST" });
  location.reload();
});

// ---- Buttons and keys

$("#add").onclick = addObject;
for (const link of all("[data-download]")) link.onclick = (event) => { if (link.matches("[aria-disabled=true]")) event.preventDefault(); };
$("#opacity").oninput = draw;
for (const button of all("[data-tool]")) button.onclick = () => { view.tool = button.dataset.tool; refresh(); drawOver(); };
for (const button of all("[data-sign]")) button.onclick = () => { view.sign = Number(button.dataset.sign); refresh(); };

const resize = (step) => { $("#size").value = Number($("#size").value) + step; drawOver(); };
const tool = (name) => () => $(`[data-tool=${name}]`).click();
const KEYS = {
  c: tool("click"), x: tool("box"), s: tool("scribble"), b: tool("brush"), e: tool("eraser"), h: tool("hand"),
  "[": () => resize(-3), "]": () => resize(3), "+": () => zoomTo(view.zoom * 1.5), "-": () => zoomTo(view.zoom / 1.5), "0": () => zoomTo(1),
  " ": () => $("#play").click(), arrowleft: () => look(view.wanted - 1), arrowright: () => look(view.wanted + 1),
  home: () => look(0), end: () => look(view.clip.frames - 1),
};
for (const digit of "123456789") KEYS[digit] = () => select(Number(Object.keys(view.objects)[digit - 1]));

document.addEventListener("keydown", (event) => {
  const { target } = event, key = event.key.toLowerCase();
  if (!view.clip || target.type === "text" || $("#question").open || event.altKey) return;
  if (event.ctrlKey || event.metaKey) {
    const button = key === "y" || (key === "z" && event.shiftKey) ? "#redo" : key === "z" ? "#undo" : "";
    if (button) { $(button).click(); event.preventDefault(); }
    return;
  }
  // Buttons and sliders use these keys themselves.
  const isTaken = (key === " " && target.closest("button, a, [type=color]")) || (/^(arrow|home|end)/.test(key) && target.closest("#size, #opacity"));
  if (!KEYS[key] || isTaken) return;
  KEYS[key]();
  event.preventDefault();
});
// Clicked controls give up the focus, so that keys reach the page; those reached with Tab keep it.
document.addEventListener("click", (event) => { if (event.detail) event.target.closest("button, a, [type=range]")?.blur(); });
window.addEventListener("resize", () => { if (view.clip) showBars(); });

guarded(async () => {
  const state = await send("state", "GET");
  if (state.running) watch();
})();
