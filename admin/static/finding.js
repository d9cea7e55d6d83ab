// A location's name while it is typed: what the server has that holds it, in the browser's own list beneath the field.
const PAUSE_MS = 250;
const turns = new WeakMap(); // field → the look-up that waits for the typing to pause

async function find(field) {
  const text = field.value.trim();
  const list = field.list;
  if (!list || text.length < 2 || [...list.options].some((option) => option.value === text)) return;
  const response = await fetch(field.dataset.lookUp + encodeURIComponent(text), { headers: { Accept: "application/json" } }).catch(() => null);
  if (!response?.ok || field.value.trim() !== text) return; // no list: the name can be typed all the same
  const { data } = await response.json();
  const names = data.map(({ name }) => name).sort((one, other) => one.localeCompare(other));
  list.replaceChildren(...names.map((name) => Object.assign(document.createElement("option"), { value: name })));
}

document.addEventListener("input", ({ target }) => {
  if (!target.dataset?.lookUp) return;
  clearTimeout(turns.get(target));
  turns.set(target, setTimeout(find, PAUSE_MS, target));
});
