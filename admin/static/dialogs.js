// Dialogs: `data-dialog` opens one, `data-close` closes it, `data-confirm` asks before a form is sent.
function ask(text, action, kind) {
  const dialog = document.createElement("dialog");
  const heading = document.createElement("h2");
  heading.textContent = text.split("? ")[0] + (text.includes("? ") ? "?" : "");
  heading.id = "confirm-title";
  dialog.setAttribute("aria-labelledby", heading.id);
  const more = document.createElement("p");
  more.textContent = text.split("? ").slice(1).join("? ");
  const actions = document.createElement("div");
  actions.className = "actions";
  const yes = document.createElement("button");
  yes.type = "button";
  yes.className = kind;
  yes.textContent = action;
  const no = document.createElement("button");
  no.type = "button";
  no.autofocus = true;
  no.textContent = "Cancel";
  actions.append(yes, no);
  dialog.append(heading, more, actions);
  document.body.append(dialog);
  dialog.showModal();
  return new Promise((resolve) => {
    yes.addEventListener("click", () => dialog.close("yes"));
    no.addEventListener("click", () => dialog.close(""));
    dialog.addEventListener("close", () => { dialog.remove(); resolve(dialog.returnValue === "yes"); });
  });
}

document.addEventListener("click", async (event) => {
  const opener = event.target.closest("[data-dialog]");
  if (opener) document.getElementById(opener.dataset.dialog).showModal();
  const closer = event.target.closest("[data-close]");
  if (closer) closer.closest("dialog")?.close();
  const careful = event.target.closest("[data-confirm]");
  if (careful) {
    event.preventDefault();
    const kind = careful.classList.contains("primary") ? "primary" : "danger"; // a test call or a publication takes nothing away
    if (await ask(careful.dataset.confirm, careful.textContent.trim(), kind)) careful.form.submit();
    else careful.focus();
  }
});
