// Cards that load when they are opened and forget when they are closed: what they show is not in the page before, nor after.
// A card of secrets may ask for the password first.
import { UNREACHABLE, say } from "./say.js";

const parser = new DOMParser();

async function partOf(response, part) {
  const page = parser.parseFromString(await response.text(), "text/html");
  return { node: page.getElementById(part), page };
}

// Which card is open stands in the address, so that a link or a reload opens it again; the page is not left for it.
function noteInAddress(button, isOpen) {
  const card = button.closest("section[id]");
  if (!card) return;
  const address = location.pathname + location.search + (isOpen ? `#${card.id}` : "");
  if (isOpen || location.hash === `#${card.id}`) history.replaceState(history.state, "", address);
}

function fill(button, node) {
  const panel = document.getElementById(button.getAttribute("aria-controls"));
  panel.replaceChildren(document.adoptNode(node));
  panel.hidden = false;
  button.setAttribute("aria-expanded", "true");
  noteInAddress(button, true);
  panel.dispatchEvent(new CustomEvent("filled", { bubbles: true }));
}

function complain(button, text) {
  const line = document.createElement("p");
  line.className = "fault";
  line.setAttribute("role", "alert");
  line.textContent = text;
  const panel = document.getElementById(button.getAttribute("aria-controls"));
  panel.replaceChildren(line);
  panel.hidden = false;
}

function prove(button) {
  const dialog = document.getElementById("prove-dialog");
  const form = dialog.querySelector("form");
  const fault = form.querySelector(".fault");
  form.reset();
  form.elements.next.value = button.dataset.expand;
  fault.hidden = true;
  form.onsubmit = async (event) => {
    event.preventDefault();
    const response = await fetch(form.action, { method: "POST", body: new URLSearchParams(new FormData(form)) }).catch(() => null);
    const { node, page } = response ? await partOf(response, button.dataset.part) : {};
    if (node) {
      fill(button, node);
      dialog.close();
      return;
    }
    fault.textContent = (page?.querySelector(".fault") ?? page?.querySelector(".note.bad"))?.textContent.trim() || UNREACHABLE;
    fault.hidden = false;
    form.elements.password.select();
  };
  dialog.showModal();
}

async function expand(button) {
  button.setAttribute("aria-busy", "true");
  try {
    const response = await fetch(button.dataset.expand, { headers: { Accept: "text/html" } });
    const { node, page } = await partOf(response, button.dataset.part);
    if (node) fill(button, node);
    else if (page.querySelector('form[action="/prove"]')) prove(button);
    else complain(button, page.querySelector(".error-page h1 + p")?.textContent.trim() || UNREACHABLE);
  } catch {
    complain(button, UNREACHABLE);
  } finally {
    button.removeAttribute("aria-busy");
  }
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-expand]");
  if (!button) return;
  if (button.getAttribute("aria-expanded") === "true") {
    const panel = document.getElementById(button.getAttribute("aria-controls"));
    panel.hidden = true;
    panel.replaceChildren();
    button.setAttribute("aria-expanded", "false");
    noteInAddress(button, false);
    say("Collapsed.");
  } else {
    expand(button);
  }
});

const wanted = location.hash && document.querySelector(`${CSS.escape(location.hash).replace(/^\\#/, "#")} > h2 > [data-expand]`);
if (wanted) expand(wanted);
