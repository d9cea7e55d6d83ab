// Copy buttons: `data-copy` names the element that holds the text. navigator.clipboard exists only on HTTPS and localhost;
// an admin page on http://192.168.… has none, so the older command is the second way, and a marked text the last one.
import { UNREACHABLE, say } from "./say.js";

// `text`: a string, or the promise of one. Safari lets a page write after a wait only when it is handed the promise.
async function copyText(text) {
  if (window.isSecureContext && navigator.clipboard) {
    try {
      if (typeof text === "string") await navigator.clipboard.writeText(text);
      else await navigator.clipboard.write([new ClipboardItem({ "text/plain": text.then((told) => new Blob([told], { type: "text/plain" })) })]);
      return true;
    } catch { /* refused by the browser's settings: the older command may still be allowed */ }
  }
  text = await text;
  const focused = document.activeElement;
  const box = document.createElement("textarea");
  box.value = text;
  box.readOnly = true;
  box.className = "sr-only";
  box.setAttribute("aria-hidden", "true");
  (focused?.closest("dialog[open]") ?? document.body).append(box);
  box.select();
  let copied = false;
  try { copied = document.execCommand("copy"); } catch { copied = false; }
  box.remove();
  focused?.focus?.();
  return copied;
}

function markForHand(element) {
  const range = document.createRange();
  range.selectNodeContents(element);
  const selection = getSelection();
  selection.removeAllRanges();
  selection.addRange(range);
}

function confirmOn(button, text) {
  const label = button.querySelector("span");
  button.dataset.label ??= label?.textContent ?? "";
  if (label) label.textContent = text;
  button.classList.add("copied");
  clearTimeout(Number(button.dataset.timer));
  button.dataset.timer = setTimeout(() => {
    if (label) label.textContent = button.dataset.label;
    button.classList.remove("copied");
  }, 2500);
}

async function entryOf(address) {
  const response = await fetch(address, { headers: { Accept: "application/json" } }).catch(() => { throw new Error(UNREACHABLE); });
  const told = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(told.detail ?? UNREACHABLE);
  return JSON.stringify(told, null, 2);
}

// A record that is not in the page is fetched when it is copied.
async function copyFetched(button) {
  if (button.getAttribute("aria-busy")) return;
  button.setAttribute("aria-busy", "true");
  const what = button.getAttribute("aria-label").replace(/^Copy /, "");
  try {
    const text = entryOf(button.dataset.copyFrom + button.closest("[data-id]").dataset.id);
    if (await copyText(text)) {
      confirmOn(button, "Copied");
      say(`Copied ${what}.`);
    } else {
      say("The browser did not allow copying. Open the entry: its page shows the same text.");
    }
  } catch (error) {
    say(error.message);
  } finally {
    button.removeAttribute("aria-busy");
  }
}

document.addEventListener("click", async (event) => {
  const fetched = event.target.closest("[data-copy-from]");
  if (fetched) copyFetched(fetched);
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const source = document.getElementById(button.dataset.copy);
  const text = source.textContent.trim();
  const what = (button.getAttribute("aria-label") ?? "Copy").replace(/^Copy /, "");
  if (await copyText(text)) {
    confirmOn(button, "Copied");
    say(`Copied ${what}.`);
  } else {
    markForHand(source);
    confirmOn(button, "Press Ctrl+C");
    say("The browser did not allow copying. The text is marked: press Ctrl+C.");
  }
});
