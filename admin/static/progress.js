// What goes on by itself is shown as it goes: a dry run's progress bar, a roll-out's counts.
const EVERY_MS = 1000;
const bar = document.querySelector("[data-progress]");
const rolling = document.querySelector("[data-rollout]");

let isRefused = false;

// null: nothing was learned now. What the server refuses once it refuses again, so it is asked no more.
async function asked(address) {
  if (document.visibilityState !== "visible") return null;
  const response = await fetch(address).catch(() => null);
  isRefused = response?.status >= 400 && response.status < 500;
  return response?.ok ? response.json() : null;
}

async function advance() {
  const run = await asked(bar.dataset.progress);
  if (run) {
    const meter = bar.querySelector("progress");
    meter.max = run.total || 1;
    meter.value = run.done;
    bar.querySelector("[data-progress-text]").textContent = `${run.done} of ${run.total} phones`;
    if (run.state !== "running") {
      location.reload();
      return;
    }
  }
  if (!isRefused) setTimeout(advance, EVERY_MS);
}

async function watch() {
  const rollout = await asked(rolling.dataset.rollout);
  if (rollout) {
    const counts = { fetched: 0, failed: 0, waiting: 0 };
    for (const phone of rollout.canary) {
      if (phone.reached === "fetched") counts.fetched += 1;
      else if (phone.reached === "failed" || phone.reached === "silent") counts.failed += 1;
      else counts.waiting += 1;
    }
    if (`${rollout.state} ${counts.fetched} ${counts.failed} ${counts.waiting}` !== rolling.dataset.was) {
      location.reload();
      return;
    }
  }
  if (!isRefused) setTimeout(watch, 2 * EVERY_MS);
}

if (bar) setTimeout(advance, EVERY_MS);
if (rolling) setTimeout(watch, 2 * EVERY_MS);
