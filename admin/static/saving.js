// Two ways of saving. Text fields: Save and Cancel appear with the first change and vanish when it is typed back.
// Dropdowns and switches: saved at once by one PATCH; refused, they go back to what is stored and say why.
// Somebody else's change of other fields hinders neither: it is taken over and told. One of the same field does.
import { UNREACHABLE, say, sentenceOf } from "./say.js";

const versions = new Map(); // address of a resource → the ETag we have seen

function versionOf(form, address) {
  return versions.get(address) ?? `"${form.dataset.version}"`;
}

const overtaken = new Set(); // addresses that somebody else changed while this page was open

function learn(address, response) {
  const tag = response.headers.get("ETag");
  versions.set(address, tag);
  // forms that are sent the plain way name the version too; their fields do not catch up, so once somebody else was
  // quicker they stay of the version they were made of, and the server brings both changes together
  if (overtaken.has(address)) return;
  for (const field of document.querySelectorAll(`input[data-version-of="${address}"]`)) field.value = tag.replaceAll('"', "");
}

async function patchOnce(form, address, changes) {
  const response = await fetch(address, {
    method: "PATCH",
    headers: { "Content-Type": "application/json", "If-Match": versionOf(form, address), Accept: "application/json" },
    body: JSON.stringify(changes),
  });
  if (response.ok) learn(address, response);
  return response;
}

const ATTEMPTS = 4; // whoever is overtaken more often than that is told, and tries again
const same = (one, other) => String(one ?? "") === String(other ?? "");

// Send the changes; when somebody else changed other fields only, take theirs over and send them again.
// `before`: what those fields held when they were shown. Gives the answer, and who changed what meanwhile.
async function patchMerging(form, address, changes, before) {
  let who = "";
  for (let attempt = 1; ; attempt += 1) {
    const response = await patchOnce(form, address, changes);
    if (response.status !== 412) return { response, who };
    who = (await whoChanged(response)) || "Somebody else changed this meanwhile.";
    const stored = await catchUp(address);
    const isFree = (name) => name in stored && (same(stored[name], before[name]) || same(stored[name], changes[name]));
    if (!stored || attempt === ATTEMPTS || !Object.keys(changes).every(isFree)) return { response, who };
  }
}

const turns = new Map(); // address of a resource → the change under way: one page's changes follow one another

function patch(form, address, changes, before) {
  const turn = (turns.get(address) ?? Promise.resolve()).catch(() => {}).then(() => patchMerging(form, address, changes, before));
  turns.set(address, turn);
  return turn;
}

// what the refusal says of the other's change, without what it says to callers of the API
async function whoChanged(response) {
  const sentence = await sentenceOf(response.clone());
  return sentence.replace("This was changed after you read it. Read it again and repeat your change.", "").trim();
}

const savedWith = (who) => (who ? `Saved. ${who} What is stored now is shown.` : "Saved");

function tell(form, text, isBad = false) {
  const line = form.querySelector(".saved");
  line.textContent = text;
  line.classList.toggle("bad", isBad);
}

function textsOf(form) {
  return [...form.elements].filter((element) => element.matches("input:not([type=hidden]):not([type=checkbox])"));
}

function isEdited(element) {
  return element.value !== element.defaultValue;
}

const isTypedSince = (element, sent) => (element.name in sent ? !same(element.value, sent[element.name]) : isEdited(element));

function refresh(form) {
  const isChanged = textsOf(form).some(isEdited);
  const buttons = form.querySelector(".until-changed");
  // a button that vanishes under the keyboard leaves the focus nowhere: the field typed into last takes it
  const holdsFocus = !isChanged && buttons.contains(document.activeElement);
  buttons.hidden = !isChanged;
  if (holdsFocus) (form.typedLast ?? textsOf(form)[0]).focus();
  return isChanged;
}

function clearFaults(form) {
  for (const line of form.querySelectorAll(".fault")) line.remove();
  for (const element of textsOf(form)) {
    element.removeAttribute("aria-invalid");
    if (document.getElementById(`h-${element.id}`)) element.setAttribute("aria-describedby", `h-${element.id}`);
    else element.removeAttribute("aria-describedby");
  }
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
    element.setAttribute("aria-describedby", `${line.id} h-${element.id}`);
    element.after(line);
  }
}

// what a control shows of a stored value, and what it sends
const shown = (value) => (value === true || value === false ? value : value ?? "");
const sent = (element) => (element.type === "checkbox" ? element.checked : element.value);
const fieldOf = (element) => element.dataset.field ?? element.name;

function put(element, value) {
  if (element.type === "checkbox") {
    element.checked = element.defaultChecked = Boolean(value);
  } else if (element.matches("select")) {
    element.value = value;
    element.dataset.stored = value;
  } else {
    // what somebody is typing stays theirs; beneath it is what is stored now
    const isTyped = isEdited(element);
    element.defaultValue = value;
    if (!isTyped) element.value = value;
  }
}

// After somebody else's change: every control of this resource shows what is stored now, but for what is being typed.
async function catchUp(address) {
  const response = await fetch(address, { headers: { Accept: "application/json" } });
  if (!response.ok) return null;
  overtaken.add(address);
  learn(address, response);
  const stored = await response.json();
  for (const control of document.querySelectorAll(`[data-autosave="${address}"], [data-patch="${address}"] input:not([type=hidden])`)) {
    if (fieldOf(control) in stored) put(control, shown(stored[fieldOf(control)]));
  }
  for (const form of document.querySelectorAll(`[data-patch="${address}"]`)) refresh(form);
  return stored;
}

const AGAIN = "What is stored now is shown; your text still stands in its field. Save once more to put it in place of theirs.";

const SIGNED_OUT = "You were signed out. Your text still stands here.";

// a way to sign in that leaves this page, and what was typed into it, as it is
function offerSignIn(form) {
  const link = document.createElement("a");
  link.href = "/login";
  link.target = "_blank";
  link.textContent = "Sign in (opens a new tab), then save again.";
  form.querySelector(".saved").append(" ", link);
}

async function whyNot(response, who, isTyped) {
  if (response.status === 401) return SIGNED_OUT;
  if (response.status !== 412) return sentenceOf(response);
  const told = `Not saved: somebody else was quicker. ${who}`.trim();
  return `${told} ${isTyped ? AGAIN : "What is stored now is shown: make your change again if it is still right."}`;
}

// Send what was changed. Gives whether it is stored.
async function save(form) {
  const edited = textsOf(form).filter(isEdited);
  const changes = Object.fromEntries(
    edited.map((element) => [element.name, element.name.endsWith("_number") ? element.value || null : element.value]));
  const before = Object.fromEntries(edited.map((element) => [element.name, element.defaultValue]));
  underWay.set(form, changes);
  clearFaults(form);
  tell(form, "Saving…");
  try {
    const { response, who } = await patch(form, form.dataset.patch, changes, before);
    if (!response.ok) {
      await showFaults(form, response);
      tell(form, await whyNot(response, who, true), true);
      if (response.status === 401) offerSignIn(form);
      return false;
    }
    const stored = await response.json();
    for (const element of textsOf(form)) {
      const { name } = element;
      const isTyped = isTypedSince(element, changes); // what was typed since stays, and is not saved yet
      if (name in stored) element.defaultValue = stored[name] ?? "";
      else if (name in changes) element.defaultValue = changes[name] ?? "";
      if (!isTyped) element.value = element.defaultValue;
    }
    tell(form, refresh(form) ? `${savedWith(who)} What you typed since then is not saved yet.` : savedWith(who));
    return true;
  } catch {
    tell(form, UNREACHABLE, true);
    return false;
  }
}

const underWay = new Map(); // form → the changes of it that are being saved
const askedAgain = new Set(); // forms with a save under way that were told to save what was typed since

// One save at a time. Pressed twice it is one; pressed again after more was typed, another follows the first.
async function saveInTurn(form) {
  if (underWay.has(form)) {
    if (textsOf(form).some((element) => isTypedSince(element, underWay.get(form)))) askedAgain.add(form);
    return;
  }
  try {
    do askedAgain.delete(form);
    while ((await save(form)) && askedAgain.has(form) && refresh(form));
  } finally {
    underWay.delete(form);
  }
}

for (const form of document.querySelectorAll(".save-form")) {
  form.addEventListener("input", (event) => { form.typedLast = event.target; tell(form, ""); refresh(form); });
  form.addEventListener("reset", () => setTimeout(() => { clearFaults(form); tell(form, ""); refresh(form); form.querySelector("input:not([type=hidden])").focus(); }));
  form.addEventListener("submit", (event) => { event.preventDefault(); if (refresh(form)) saveInTurn(form); });
  addEventListener("beforeunload", (event) => { if (refresh(form)) event.preventDefault(); });
}

for (const control of document.querySelectorAll("[data-autosave]")) {
  const isSwitch = control.type === "checkbox";
  control.dataset.stored = isSwitch ? "" : control.value;
  control.addEventListener("change", async () => {
    tell(control.form, "Saving…");
    const wished = isSwitch ? sent(control) : sent(control) || null;
    const { autosave: address, field } = control.dataset;
    const before = isSwitch ? control.defaultChecked : control.dataset.stored;
    try {
      const { response, who } = await patch(control.form, address, { [field]: wished }, { [field]: before });
      if (!response.ok) throw new Error(await whyNot(response, who, false));
      put(control, shown(wished));
      tell(control.form, savedWith(who));
    } catch (error) {
      if (isSwitch) control.checked = control.defaultChecked;
      else control.value = control.dataset.stored;
      const why = error instanceof TypeError ? UNREACHABLE : error.message;
      tell(control.form, why, true);
      if (why === SIGNED_OUT) offerSignIn(control.form);
      say(why);
    }
  });
}
