// The audit log as it is written. New rows come on top while one looks at the top; whoever has scrolled down or looks at
// another tab is shown how many wait. The browser connects again by itself and names the last entry it has.
import { say } from "./say.js";

const toggle = document.getElementById("live-toggle");
const news = document.getElementById("live-news");
const MAX_WAITING = 200; // beyond it the list is read anew
const MAX_ROWS = 300;
let source;
let waiting = [];
let isTooMuch = false;

const address = () => document.querySelector("#audit-state [data-live]")?.dataset.live ?? "";
const rows = () => document.getElementById("audit-rows");
const isLookedAt = () => !document.hidden && rows().getBoundingClientRect().top >= 0;

function show(text, isOn) {
  toggle.querySelector("span").textContent = text;
  toggle.setAttribute("aria-pressed", String(isOn));
}

function count() {
  const many = isTooMuch ? `${MAX_WAITING} and more` : waiting.length;
  news.textContent = `${many} new ${many === 1 ? "entry" : "entries"}`;
  news.hidden = waiting.length === 0 && !isTooMuch;
}

function put() {
  if (isTooMuch) {
    forget();
    document.dispatchEvent(new CustomEvent("relist"));
    return;
  }
  const list = rows();
  if (waiting.length) list.querySelector("tr:not([data-id])")?.remove();
  for (const row of waiting) {
    const made = document.createElement("template");
    made.innerHTML = row;
    const fresh = made.content.firstElementChild;
    if (!list.querySelector(`[data-id="${fresh.dataset.id}"]`)) list.prepend(fresh);
  }
  while (list.rows.length > MAX_ROWS) list.rows[list.rows.length - 1].remove();
  forget();
}

function forget() {
  waiting = [];
  isTooMuch = false;
  count();
}

function take(event) {
  waiting.push(JSON.parse(event.data).row);
  if (waiting.length > MAX_WAITING) {
    waiting = [];
    isTooMuch = true;
  }
  if (isLookedAt()) put();
  else count();
}

function stop(text = "Live") {
  source?.close();
  source = undefined;
  show(text, false);
  forget();
}

function start() {
  stop();
  if (!address()) return;
  show("Connecting", true);
  source = new EventSource(address());
  source.addEventListener("begin", () => show("Live", true));
  source.addEventListener("entry", take);
  source.addEventListener("reload", () => { isTooMuch = true; if (isLookedAt()) put(); else count(); });
  source.addEventListener("error", () => {
    if (source?.readyState !== EventSource.CLOSED) {
      show("Connecting again", true);
      return;
    }
    stop();
    say("The live list has stopped: sign in again, or close another one. What is shown stays.");
  });
}

if (toggle) {
  toggle.addEventListener("click", () => {
    if (source) {
      put();
      stop();
      say("The list stands still.");
    } else {
      start();
      say("New entries are shown as they are written.");
    }
  });
  news.addEventListener("click", () => {
    rows().closest(".card").scrollIntoView();
    put();
    toggle.focus({ preventScroll: true });
  });
  document.addEventListener("listed", () => {
    toggle.hidden = !address();
    if (source) start();
  });
  document.addEventListener("visibilitychange", () => { if (source && isLookedAt()) put(); });
  document.addEventListener("scroll", () => { if (source && (waiting.length || isTooMuch) && isLookedAt()) put(); }, { passive: true });
}
