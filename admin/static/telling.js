// Who will be told of a call: the account's recipients and those typed here, each mailbox once, while one types.
function toldOf(account, typed) {
  const told = new Map(account.map((email) => [email.toLowerCase(), [email, "account"]]));
  for (const email of typed) {
    const key = email.toLowerCase();
    const known = told.get(key);
    told.set(key, known && known[1] !== "this location" ? [known[0], "account and this location, one mail"] : known ?? [email, "this location"]);
  }
  return [...told.values()];
}

const words = (text) => text.split(/[\s,]+/).filter(Boolean);

for (const box of document.querySelectorAll("[data-told]")) {
  const area = document.getElementById(box.dataset.told);
  const list = box.querySelector("ul");
  const show = () => {
    const told = toldOf(words(box.dataset.account), words(area.value));
    list.replaceChildren(...told.map(([email, why]) => {
      const line = document.createElement("li");
      const because = document.createElement("span");
      because.className = "muted small";
      because.textContent = why;
      line.append(`${email} `, because);
      return line;
    }));
    const nobody = box.querySelector(".nobody"); // none where somebody is told by SMS or chat
    if (nobody) nobody.hidden = told.length > 0;
  };
  area.addEventListener("input", show);
}
