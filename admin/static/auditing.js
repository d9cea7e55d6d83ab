// The audit log's filters answer while one types. The state lives in the address, so it can be shared and comes back.
import { UNREACHABLE, say } from "./say.js";

const parser = new DOMParser();
const PARTS = ["audit-rows", "audit-pager", "audit-count"];
const OWN_PARTS = ["audit-state", "audit-notes"]; // of the log's own page: the card in Settings has none
let waiting;
let running;

const form = () => document.getElementById("audit-filters");
const boxes = (access) => [...form().elements].filter((element) => element.name === "event" && (!access || element.dataset.access === access));

function query() {
  const filled = [...new FormData(form())].filter(([name, value]) => value && name !== "limit");
  return new URLSearchParams(filled);
}

function showState(asked) {
  document.getElementById("clear-filters").hidden = asked.size === 0;
  const chosen = boxes().filter((box) => box.checked).length;
  const opener = document.getElementById("event-opener");
  opener.querySelector("span").textContent = chosen ? `${chosen} event${chosen === 1 ? "" : "s"}` : "Any event";
  for (const button of document.querySelectorAll("#event-picker [data-toggle]")) {
    button.setAttribute("aria-pressed", String(boxes(button.dataset.toggle).every((box) => box.checked)));
  }
}

// In a page where the log is one card of several its filters stand in the address as `audit.…`, and so does the card.
function noteInCard(asked, address) {
  const others = [...new URLSearchParams(location.search)].filter(([name]) => !name.startsWith("audit."));
  const all = new URLSearchParams([...others, ...[...asked].map(([name, value]) => [`audit.${name}`, value])]);
  history.replaceState(history.state, "", location.pathname + (all.size ? `?${all}` : "") + location.hash);
  document.querySelector('[data-part="audit-values"]').dataset.expand = address;
}

async function refresh() {
  clearTimeout(waiting);
  running?.abort();
  running = new AbortController();
  const asked = query();
  showState(asked);
  const limit = form().elements.limit.value;
  const address = asked.size ? `/audit?${asked}` : "/audit";
  try {
    const response = await fetch(`${address}${asked.size ? "&" : "?"}limit=${limit}`, { signal: running.signal });
    const page = parser.parseFromString(await response.text(), "text/html");
    for (const id of [...PARTS, ...OWN_PARTS]) {
      const part = page.getElementById(id);
      if (!part) throw new Error(page.querySelector(".error-page h1 + p")?.textContent.trim());
      document.getElementById(id)?.replaceChildren(...document.adoptNode(part).childNodes);
    }
    if (location.pathname === "/audit") history.replaceState(null, "", address);
    else noteInCard(asked, `${address}${asked.size ? "&" : "?"}limit=${limit}`);
    document.dispatchEvent(new CustomEvent("listed"));
  } catch (error) {
    if (error.name === "AbortError") return;
    const why = error instanceof TypeError ? UNREACHABLE : error.message;
    say(why);
    document.getElementById("audit-count").textContent = why;
  }
}

document.addEventListener("input", (event) => {
  if (event.target.form?.id !== "audit-filters") return;
  clearTimeout(waiting);
  if (event.target.matches("[type^=date]") && event.target.value.startsWith("0")) return; // a year that is still being typed
  waiting = setTimeout(refresh, event.target.matches("[type=checkbox], select") ? 0 : 300);
});

document.addEventListener("submit", (event) => {
  if (event.target.id !== "audit-filters") return;
  event.preventDefault();
  refresh();
});

document.addEventListener("click", (event) => {
  const toggle = event.target.closest("#event-picker [data-toggle]");
  if (toggle) {
    const mine = boxes(toggle.dataset.toggle);
    const isOn = mine.every((box) => box.checked);
    for (const box of mine) box.checked = !isOn;
    refresh();
  }
  if (event.target.closest("#clear-filters")) {
    event.preventDefault();
    for (const element of form().elements) {
      if (element.type === "checkbox") element.checked = false;
      else if (element.name !== "limit") element.value = "";
    }
    refresh();
    form().elements.keyword.focus();
  }
});

document.addEventListener("relist", refresh);
document.addEventListener("filled", () => { if (form()) showState(query()); });
if (form()) showState(query());
