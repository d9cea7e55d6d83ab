// A barcode scanner types fast and may or may not press Enter: each full address gets its own line, and the vendor that
// owns its block comes first in the menu of models.
const form = document.querySelector("[data-mac-entry]");

function digitsOf(line) {
  const plain = line.replace(/[\s:.\-]/g, "");
  return /^(?:[0-9a-f]{12})+$/i.test(plain) ? plain.toLowerCase().match(/.{12}/g) : [];
}

function show() {
  const lines = form.elements.mac.value.split(/[\r\n,;]+/);
  const macs = new Set(lines.flatMap(digitsOf));
  const blocks = new Set([...macs].map((mac) => mac.slice(0, 6)));
  const groups = [...form.elements.model.querySelectorAll("optgroup")];
  const owners = groups.filter((group) => group.dataset.blocks.split(" ").some((block) => blocks.has(block)));
  for (const group of groups) group.hidden = owners.length > 0 && !owners.includes(group) && !group.querySelector("option:checked");
  const names = owners.map((group) => group.label).join(" or ");
  const told = macs.size ? `${macs.size} ${macs.size === 1 ? "phone" : "phones"}${names ? `, by the address ${names}` : ""}` : "";
  form.querySelector("[data-mac-count]").textContent = told;
}

if (form) {
  const box = form.elements.mac;
  box.addEventListener("input", (event) => {
    const atEnd = box.selectionStart === box.value.length;
    const last = box.value.slice(box.value.lastIndexOf("\n") + 1);
    const typed = event.inputType === "insertText" || event.inputType === undefined;
    if (typed && atEnd && digitsOf(last).length) box.value += "\n";
    show();
  });
  show();
}
