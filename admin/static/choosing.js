// Ticking many rows at once, and showing only the fields that the chosen action needs.
const ticks = (name, form) => [...form.querySelectorAll(`input[type=checkbox][name="${name}"]`)];

function count(form) {
  for (const told of form.querySelectorAll("[data-ticked]")) {
    const boxes = ticks(told.dataset.ticked, form);
    const on = boxes.filter((box) => box.checked).length;
    told.textContent = on ? `${on} of ${boxes.length} on this page ticked` : "";
    for (const all of form.querySelectorAll(`[data-tick-all="${told.dataset.ticked}"]`)) {
      all.checked = on > 0 && on === boxes.length;
      all.indeterminate = on > 0 && on < boxes.length;
    }
  }
}

function showFields(form) {
  const action = form.elements.action?.value;
  for (const field of form.querySelectorAll("[data-shown-for]")) field.hidden = !field.dataset.shownFor.split(" ").includes(action);
}

document.addEventListener("change", (event) => {
  const form = event.target.form;
  if (!form) return;
  if (event.target.dataset.tickAll) {
    for (const box of ticks(event.target.dataset.tickAll, form)) box.checked = event.target.checked;
  }
  count(form);
  if (event.target.name === "action") showFields(form);
});

for (const form of document.querySelectorAll("form:has([data-shown-for]), form:has([data-ticked])")) {
  showFields(form);
  count(form);
}
