// Replaces the parts of the page as newer ones arrive. The page is complete without it.
"use strict";

const connection = document.getElementById("connection");
const pause = document.createElement("button");
pause.type = "button";

const shown = new Map();
let newest = null;
let paused = false;

function show(parts) {
  const selection = document.getSelection();
  for (const [id, html] of Object.entries(parts)) {
    if (shown.get(id) === html) continue;
    const part = document.getElementById(id);
    // What somebody is marking, to copy it, stays as it is until they are done.
    if (!part || (!selection.isCollapsed && selection.containsNode(part, true))) continue;
    replace(part, html);
    shown.set(id, html);
  }
}

// What was open stays open, and the keyboard keeps its place.
function replace(part, html) {
  const open = Array.from(part.querySelectorAll("details[open]"), (details) => details.id);
  const active = part.contains(document.activeElement) ? document.activeElement : null;
  const href = active?.getAttribute("href");
  const summary = active?.localName === "summary" ? active.parentElement.id : null;
  part.innerHTML = html;
  for (const id of open) document.getElementById(id)?.setAttribute("open", "");
  const again = summary
    ? document.getElementById(summary)?.querySelector("summary")
    : href && part.querySelector(`a[href="${CSS.escape(href)}"]`);
  if (again) again.focus({ preventScroll: true });
}

function say(state, words) {
  if (connection.textContent === words) return;
  connection.className = state;
  connection.textContent = words;
}

function setPaused(value) {
  paused = value;
  pause.textContent = paused ? "Resume" : "Pause";
  say(paused ? "paused" : "live", paused ? "Paused" : "Live");
  if (!paused && newest) show(newest);
}

function follow() {
  connection.after(pause);
  pause.addEventListener("click", () => setPaused(!paused));
  setPaused(false);
  const events = new EventSource(connection.dataset.events);
  events.addEventListener("message", (event) => {
    newest = JSON.parse(event.data);
    if (paused) return;
    say("live", "Live");
    show(newest);
  });
  events.addEventListener("error", () => {
    if (!paused) say("lost", "Connection lost, trying again");
  });
}

// Pages without live parts have no place to say so.
if (connection) follow();
