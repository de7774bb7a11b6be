// Requests to the server: changes are sent one at a time, errors are shown as one sentence, and an
// unresponsive server is waited for.

export const $ = (selector) => document.querySelector(selector);
export const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const LOOK_EVERY_MS = 1000;
// A connection lost without notice, as in sleep, never answers. Changes may take as long as they need.
const ANSWER_WITHIN_MS = 5000, READ_WITHIN_MS = 30_000;

// Called when the server responds again.
export const server = { onReturn: async () => {} };

class Silence extends Error {}

export async function ask(path, options = {}) {
  const headers = { "x-feelvos": "1", ...options.headers }, waiting = new AbortController();
  const isRead = (options.method || "GET") === "GET", timer = isRead && setTimeout(() => waiting.abort(), READ_WITHIN_MS);
  let response;
  try {
    response = await fetch(`/api/${path}`, { ...options, headers, signal: waiting.signal });
  } catch {
    waitForReturn();
    throw new Silence();
  } finally {
    clearTimeout(timer);
  }
  if (!response.ok) {
    const { error } = await response.json().catch(() => ({ error: `the server answered ${response.status}` }));
    throw new Error(error);
  }
  return response;
}

async function waitForReturn() {
  if (!$("#silence").hidden) return;
  $("#silence").hidden = false;
  const answers = () => fetch("/api/state", { signal: AbortSignal.timeout(ANSWER_WITHIN_MS) }).then(() => true, () => false);
  while (!(await answers())) await pause(LOOK_EVERY_MS);
  $("#silence").hidden = true;
  guarded(server.onReturn)();
}

// Runs changes one at a time: simultaneous requests may overtake each other.
let queue = Promise.resolve();
export function inOrder(action) {
  const done = queue.then(action);
  queue = done.catch(() => {});
  return done;
}

export function report(error) {
  if (error instanceof Silence) return;  // The page already shows it.
  const toast = $("#toast");
  toast.textContent = error.message || String(error);
  toast.hidden = false;
  clearTimeout(report.timer);
  report.timer = setTimeout(() => { toast.hidden = true; }, 8000);
}

export const guarded = (action) => async (...values) => {
  try { return await action(...values); } catch (error) { report(error); }
};

// Returns whether the user agrees.
export async function agrees(question, action) {
  const dialog = $("#question");
  dialog.querySelector("p").textContent = question;
  dialog.querySelector("[value=yes]").textContent = action;
  dialog.returnValue = "";
  dialog.showModal();
  // The event of an earlier question may arrive while this one is open.
  await new Promise((resolve) => { dialog.onclose = () => dialog.open || resolve(); });
  return dialog.returnValue === "yes";
}
