// A form that only has to be sent on, such as one that was kept while a password was typed. Who comes back to its page
// by the browser's Back button is not made to send it twice: then the button stands there.
const [visit] = performance.getEntriesByType("navigation");
const form = document.querySelector("form[data-send-at-once]");
if (form && visit?.type === "navigate") form.requestSubmit();
