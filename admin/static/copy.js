// Copy buttons: `data-copy` names the element that holds the text. navigator.clipboard exists only on HTTPS and localhost;
// an admin page on http://192.168.… has none, so the older command is the second way, and a marked text the last one.
import { say } from "./say.js";

async function copyText(text) {
  if (window.isSecureContext && navigator.clipboard) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch { /* refused by the browser's settings: the older command may still be allowed */ }
  }
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

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const source = document.getElementById(button.dataset.copy);
  const held = (source.content ?? source).textContent.trim();
  const text = source.dataset.kind === "json" ? JSON.stringify(JSON.parse(held), null, 2) : held;
  const what = (button.getAttribute("aria-label") ?? "Copy").replace(/^Copy /, "");
  if (await copyText(text)) {
    confirmOn(button, "Copied");
    say(`Copied ${what}.`);
  } else {
    if (!source.content) markForHand(source);
    confirmOn(button, "Press Ctrl+C");
    say("The browser did not allow copying. The text is marked: press Ctrl+C.");
  }
});
