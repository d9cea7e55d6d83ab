// What was just done is told where one lands: an address that ends in #trunks scrolls past the top of the page, where
// its sentence stands. It is spoken as well: a live region that came with the page is silent.
import { say } from "./say.js";

const done = document.querySelector("main > .note.ok[role=status]");
if (done) {
  const card = location.hash && document.getElementById(location.hash.slice(1))?.closest("section.card");
  if (card) {
    card.prepend(done);
    card.scrollIntoView();
  }
  setTimeout(() => say(done.textContent.trim()), 300); // a screen reader first reads the page's title
}

// A form that was refused begins at its first fault: its field says what is wrong, and is what is typed next.
const wrong = document.querySelector('main [aria-invalid="true"]');
if (wrong) {
  for (let fold = wrong.closest("details"); fold; fold = fold.parentElement.closest("details")) fold.open = true;
  wrong.focus();
}
