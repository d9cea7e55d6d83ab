// A location's name while it is typed: what the server has that holds it, in the browser's own list beneath the field.
// Whoever reads is in the audit log, each time. So a key is no question: what the list holds already is narrowed by the
// browser, and the server is asked where an answer left names out and few of those it gave still fit.
const PAUSE_MS = 400;
const FEW = 8; // as many as are looked through; with fewer, names that the answer left out may be the ones that are meant
const turns = new WeakMap(); // field → the look-up that waits for the typing to pause
const answers = new WeakMap(); // field → the text asked for last, and whether the list holds all names with it

function isHeld(field, text) {
  const fitting = [...field.list.options].filter((option) => option.value.toLowerCase().includes(text));
  const last = answers.get(field);
  if (last && text.includes(last.text)) return last.isWhole || fitting.length >= FEW;
  return fitting.some((option) => option.value.toLowerCase() === text);
}

async function find(field) {
  const text = field.value.trim().toLowerCase();
  if (!field.list || text.length < 2 || isHeld(field, text)) return;
  const response = await fetch(field.dataset.lookUp + encodeURIComponent(text), { headers: { Accept: "application/json" } }).catch(() => null);
  if (!response?.ok) return; // no list: the name can be typed all the same
  const { data, next_cursor: more } = await response.json();
  const names = data.map(({ name }) => name).sort((one, other) => one.localeCompare(other));
  field.list.replaceChildren(...names.map((name) => Object.assign(document.createElement("option"), { value: name })));
  answers.set(field, { text, isWhole: more === null });
}

document.addEventListener("input", ({ target }) => {
  if (!target.dataset?.lookUp) return;
  clearTimeout(turns.get(target));
  turns.set(target, setTimeout(find, PAUSE_MS, target));
});
