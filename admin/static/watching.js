// A page that waits for a phone's first fetch asks every four seconds and shows it when it has come. It gives up after ten minutes.
const EVERY_MS = 4000;
const TIMES = 150;
const waiting = document.querySelector("[data-watch]");

async function look(times) {
  if (times > TIMES) return;
  if (document.visibilityState === "visible") {
    const response = await fetch(waiting.dataset.watch).catch(() => null);
    if (response?.ok && (await response.json()).last_fetch_at) {
      location.reload();
      return;
    }
  }
  setTimeout(look, EVERY_MS, times + 1);
}

if (waiting) setTimeout(look, EVERY_MS, 1);
