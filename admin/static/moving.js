// How far phones have moved to the next URL: asked every five seconds while the page is looked at, for ten minutes.
const EVERY_MS = 5000;
const TIMES = 120;
const parser = new DOMParser();
let running = null;

async function look(times) {
  const shown = document.querySelector("[data-moving]");
  if (!shown || times > TIMES) {
    running = null;
    return;
  }
  if (document.visibilityState === "visible" && !shown.contains(document.activeElement)) {
    const response = await fetch(shown.dataset.moving, { headers: { Accept: "text/html" } }).catch(() => null);
    const fresh = response?.ok && parser.parseFromString(await response.text(), "text/html").getElementById(shown.id);
    if (fresh && !fresh.dataset.moving) {
      location.reload(); // the move has ended: what the card shows is another URL now
      return;
    }
    if (fresh) shown.replaceChildren(...document.adoptNode(fresh).childNodes);
  }
  running = setTimeout(look, EVERY_MS, times + 1);
}

function begin() {
  if (running === null && document.querySelector("[data-moving]")) running = setTimeout(look, EVERY_MS, 1);
}

begin();
document.addEventListener("filled", begin);
