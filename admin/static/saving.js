// Two ways of saving. Text fields: Save and Cancel appear with the first change and vanish when it is typed back.
// Dropdowns: saved at once by one PATCH; refused, they go back to what they were and say why.
import { UNREACHABLE, say, sentenceOf } from "./say.js";

const versions = new Map(); // address of a resource → the ETag we have seen

function versionOf(form, address) {
  return versions.get(address) ?? `"${form.dataset.version}"`;
}

async function patch(form, address, changes) {
  const response = await fetch(address, {
    method: "PATCH",
    headers: { "Content-Type": "application/json", "If-Match": versionOf(form, address), Accept: "application/json" },
    body: JSON.stringify(changes),
  });
  if (response.ok) {
    const tag = response.headers.get("ETag");
    versions.set(address, tag);
    // forms that are sent the plain way name the version too
    for (const field of document.querySelectorAll(`input[data-version-of="${address}"]`)) field.value = tag.replaceAll('"', "");
  }
  return response;
}

function tell(form, text, isBad = false) {
  const line = form.querySelector(".saved");
  line.textContent = text;
  line.classList.toggle("bad", isBad);
}

async function whyNot(response) {
  if (response.status === 412) return "Somebody else changed this account meanwhile. Reload the page to see it, then make your change again.";
  return sentenceOf(response);
}

function textsOf(form) {
  return [...form.elements].filter((element) => element.matches("input:not([type=hidden])"));
}

function refresh(form) {
  const isChanged = textsOf(form).some((element) => element.value !== element.defaultValue);
  form.querySelector(".until-changed").hidden = !isChanged;
  return isChanged;
}

function clearFaults(form) {
  for (const line of form.querySelectorAll(".fault")) line.remove();
  for (const element of textsOf(form)) element.removeAttribute("aria-invalid");
}

async function showFaults(form, response) {
  const problem = await response.clone().json().catch(() => ({}));
  for (const fault of problem.errors ?? problem.fields ?? []) {
    const element = form.elements[fault.field];
    if (!element) continue;
    const line = document.createElement("p");
    line.className = "fault";
    line.id = `e-${element.id}`;
    line.textContent = fault.detail;
    element.setAttribute("aria-invalid", "true");
    element.setAttribute("aria-describedby", line.id);
    element.after(line);
  }
}

async function save(form) {
  const changes = Object.fromEntries(
    textsOf(form).filter((element) => element.value !== element.defaultValue)
      .map((element) => [element.name, element.name.endsWith("_number") ? element.value || null : element.value]));
  clearFaults(form);
  tell(form, "Saving…");
  try {
    const response = await patch(form, form.dataset.patch, changes);
    if (!response.ok) {
      await showFaults(form, response);
      tell(form, await whyNot(response), true);
      return;
    }
    const stored = await response.json();
    for (const element of textsOf(form)) {
      if (element.name in stored) element.value = stored[element.name] ?? "";
      element.defaultValue = element.value;
    }
    refresh(form);
    tell(form, "Saved");
  } catch {
    tell(form, UNREACHABLE, true);
  }
}

for (const form of document.querySelectorAll(".save-form")) {
  form.addEventListener("input", () => { tell(form, ""); refresh(form); });
  form.addEventListener("reset", () => setTimeout(() => { clearFaults(form); tell(form, ""); refresh(form); form.querySelector("input:not([type=hidden])").focus(); }));
  form.addEventListener("submit", (event) => { event.preventDefault(); if (refresh(form)) save(form); });
  addEventListener("beforeunload", (event) => { if (refresh(form)) event.preventDefault(); });
}

for (const select of document.querySelectorAll("select[data-autosave]")) {
  let before = select.value;
  select.addEventListener("change", async () => {
    tell(select.form, "Saving…");
    try {
      const response = await patch(select.form, select.dataset.autosave, { [select.dataset.field]: select.value || null });
      if (!response.ok) throw new Error(await whyNot(response));
      before = select.value;
      tell(select.form, "Saved");
    } catch (error) {
      select.value = before;
      const why = error instanceof TypeError ? UNREACHABLE : error.message;
      tell(select.form, why, true);
      say(why);
    }
  });
}
