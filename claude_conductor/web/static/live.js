// Keeps a page as it would be if it were loaded now. Without this file every page still reads and every form still works.
"use strict";

const line = document.getElementById("line");
const say = (text, kind) => { if (line) { line.textContent = text; line.dataset.kind = kind; } };

// Replaces the parts of this page (elements with an id and data-part) by those of the same page loaded anew.
let loading = null;
async function refresh() {
  if (loading) { loading.again = true; return; }
  loading = {};
  try {
    const answer = await fetch(location.href, { headers: { accept: "text/html" } });
    if (answer.redirected) { location.href = answer.url; return; }
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const parts = [...page.querySelectorAll("[data-part]")];
    if (!parts.every((part) => document.getElementById(part.id))) { location.reload(); return; }
    for (const part of parts) {
      const old = document.getElementById(part.id);
      const busy = old.hasAttribute("data-keep") && (old.contains(document.activeElement) || old.querySelector(":checked") ||
        [...old.querySelectorAll("textarea")].some((field) => field.value));
      if (!busy && !old.isEqualNode(part)) old.replaceWith(part);
    }
  } catch { say("not reachable", "lost"); } finally {
    const { again } = loading;
    loading = null;
    if (again) refresh();
  }
}

function watch(task) {
  let fresh = true;
  const source = new EventSource("/live" + (task ? `?task=${encodeURIComponent(task)}` : ""));
  source.addEventListener("open", () => { say("live", "live"); if (!fresh) refresh(); fresh = false; });
  source.addEventListener("changed", refresh);
  source.addEventListener("lost", () => say("control plane lost, trying again", "lost"));
  source.addEventListener("error", () => {
    say("connection lost, trying again", "lost");
    if (source.readyState === EventSource.CLOSED) setTimeout(() => { source.close(); watch(task); refresh(); }, 3000);
  });
}

// Appends the output of a task as it comes; the browser opens the stream again where it broke off.
const MOST = 400000;
function follow(element) {
  const decoder = new TextDecoder();
  const request = encodeURIComponent(JSON.stringify({ task_id: element.dataset.output, follow: true }));
  const source = new EventSource(`/api/claude_conductor.v1.TaskService/ReadTaskOutput?request=${request}`);
  const state = document.getElementById("output-state");
  let attempt = 0;
  source.onmessage = (event) => {
    const piece = JSON.parse(event.data);
    const low = element.scrollTop + element.clientHeight >= element.scrollHeight - 24;
    if (attempt && piece.attempt !== attempt) element.append(`\n— attempt ${piece.attempt} —\n`);
    attempt = piece.attempt || attempt;
    const bytes = Uint8Array.from(atob(piece.data || ""), (character) => character.charCodeAt(0));
    const span = document.createElement("span");
    span.className = piece.stream || "";
    span.textContent = decoder.decode(bytes, { stream: true }).replace(/\x1b\[[0-9;?]*[A-Za-z]/g, "").replace(/[\u202a-\u202e\u2066-\u2069]/g, "�");
    element.append(span);
    while (element.textContent.length > MOST && element.childNodes.length > 1) element.firstChild.remove();
    if (low) element.scrollTop = element.scrollHeight;
    state.textContent = "live";
  };
  source.addEventListener("end", () => { state.textContent = element.textContent ? "complete" : "none"; source.close(); });
  source.addEventListener("error", () => { if (source.readyState === EventSource.CLOSED) state.textContent = element.textContent ? "" : "none yet"; });
}

// Keys: g then f, t, i, m, u goes to a page; n is a new task.
const pages = { f: "/", t: "/tasks", i: "/inbox", m: "/messages", u: "/usage" };
let before = "";
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, textarea, select")) return;
  if (before === "g" && pages[event.key]) location.href = pages[event.key];
  else if (event.key === "n" && before !== "g") location.href = "/tasks/new";
  before = event.key;
});

if (document.body.dataset.live !== undefined) watch(document.body.dataset.live);
const output = document.querySelector("[data-output]");
if (output) follow(output);
