// The front desk's page: calls as they happen, a sound until somebody acknowledges, and a clear word when this page is blind.
//
// One stream of server-sent events brings whole states of calls, so hearing one twice does no harm. A beat comes every ten
// seconds: without one for 25 the page says since when it is blind and begins the stream anew, naming the last event it had.
// A tab that slept finds out by its own clock and does the same. Nothing is asked again and again by a timer.
import { say, sentenceOf } from "./say.js";

const BLIND_AFTER_MS = 25000;
const SLEPT_MS = 15000;
const PAUSES_MS = [500, 1000, 2000, 5000, 10000];
const RING_EVERY_MS = 2000;
const BLIND_TONE_EVERY_MS = 30000;

const list = document.getElementById("alert-list");
const shown = (id) => document.getElementById(id);
const parser = new DOMParser();
const calls = new Map(); // id → what the stream told of it
const title = document.title;
const state = { source: null, last: "", heardAt: Date.now(), blindSince: null, tries: 0, skew: 0, ended: false, timer: null, opened: false };

// ---------------------------------------------------------------- sound

const sound = { context: null, wanted: false, testsToo: false, blindAt: 0 };

function stored(name, value) {
  try {
    if (value !== undefined) localStorage.setItem(name, value);
    return localStorage.getItem(name);
  } catch {
    return null; // a browser that keeps nothing: the choice holds until the page is closed
  }
}

function isArmed() {
  return sound.wanted && sound.context?.state === "running";
}

function tone(frequency, atS, forS, loudness = 0.35) {
  const { context } = sound;
  const oscillator = context.createOscillator();
  const gain = context.createGain();
  const start = context.currentTime + atS;
  oscillator.type = "square";
  oscillator.frequency.value = frequency;
  gain.gain.setValueAtTime(0, start);
  gain.gain.linearRampToValueAtTime(loudness, start + 0.02);
  gain.gain.setValueAtTime(loudness, start + forS - 0.03);
  gain.gain.linearRampToValueAtTime(0, start + forS);
  oscillator.connect(gain).connect(context.destination);
  oscillator.start(start);
  oscillator.stop(start + forS);
}

function ring() {
  for (let at = 0; at < 3; at += 1) {
    tone(960, at * 0.5, 0.24);
    tone(720, at * 0.5 + 0.25, 0.24);
  }
}

function showArmed() {
  const button = shown("arm");
  const armed = isArmed();
  button.setAttribute("aria-pressed", String(armed));
  button.querySelector("span").textContent = armed ? "Sound is armed" : "Arm sound";
  button.classList.toggle("primary", !armed);
  const line = shown("armed");
  line.classList.toggle("fault-text", !armed);
  const wasText = line.textContent;
  const text = armed
    ? "Sound is armed: this page rings until each call is acknowledged."
    : "No sound: this browser makes none until somebody presses Arm sound. Press it after each reload.";
  if (wasText !== text) line.textContent = text;
}

async function makeContext() {
  sound.context ??= new AudioContext();
  if (sound.context.state !== "running") await sound.context.resume();
  sound.context.onstatechange = showArmed;
}

shown("arm").addEventListener("click", async () => {
  if (isArmed()) {
    sound.wanted = false;
  } else {
    await makeContext();
    sound.wanted = true;
    ring();
  }
  showArmed();
  say(isArmed() ? "Sound is armed" : "Sound is off");
});

shown("try-sound").addEventListener("click", async () => {
  await makeContext();
  ring();
});

sound.testsToo = stored("callpoint-tests-sound") === "yes";
shown("tests-sound").checked = sound.testsToo;
shown("tests-sound").addEventListener("change", (event) => {
  sound.testsToo = event.target.checked;
  stored("callpoint-tests-sound", sound.testsToo ? "yes" : "no");
});

setInterval(() => {
  if (isArmed() && ringing().length) ring();
}, RING_EVERY_MS);

// ---------------------------------------------------------------- calls

function ringing() {
  return [...calls.values()].filter((call) => call.rings);
}

function put(call) {
  const before = calls.get(call.id);
  calls.set(call.id, call);
  const fresh = parser.parseFromString(call.html, "text/html").querySelector("li");
  const present = shown(`alert-${call.id}`);
  if (present) {
    const focus = present.contains(document.activeElement);
    present.replaceWith(document.adoptNode(fresh));
    if (focus) (shown(`alert-${call.id}`).querySelector(".alert-do :is(button, a)") ?? list).focus();
  } else {
    place(document.adoptNode(fresh), call);
  }
  if (!before && state.opened) announce(call);
  else if (before && before.rings && call.is_acknowledged) say(`${call.sentence} Acknowledged by ${call.acknowledged_by}.`);
}

// Newest first; the list's own order is that of the calls' times.
function place(entry, call) {
  const next = [...list.children].find((other) => (calls.get(other.id.slice(6))?.sent_at ?? "") < call.sent_at);
  list.insertBefore(entry, next ?? null);
}

function announce(call) {
  if (call.is_acknowledged) return;
  const line = document.createElement("p");
  line.textContent = call.sentence;
  shown("announce").replaceChildren(line);
  if (!isArmed()) return;
  if (call.rings) ring();
  else if (call.kind === "test" && sound.testsToo) tone(520, 0, 0.4, 0.15);
}

function showCount() {
  const count = ringing().length;
  document.title = count ? `(${count}) ${ringing().some((call) => call.kind === "emergency") ? list.dataset.number : "DRILL"} · ${title}` : title;
  document.querySelector("link[rel=icon]").href = count ? list.dataset.alarm : list.dataset.calm;
  list.dataset.ringing = count;
  shown("no-alerts").hidden = calls.size > 0;
}

function tellAges() {
  const now = Date.now() + state.skew;
  for (const age of list.querySelectorAll("[data-since]")) {
    const seconds = Math.max(0, Math.floor((now - Date.parse(age.dataset.since)) / 1000));
    const text = seconds < 60 ? `${seconds} s ago` : seconds < 3600 ? `${Math.floor(seconds / 60)} min ${seconds % 60} s ago` : `${Math.floor(seconds / 3600)} h ${Math.floor(seconds / 60) % 60} min ago`;
    if (age.textContent !== text) age.textContent = text;
  }
}

// ---------------------------------------------------------------- the stream

function heard(event) {
  const told = JSON.parse(event.data);
  state.heardAt = Date.now();
  state.skew = Date.parse(told.now) - state.heardAt;
  if (event.lastEventId) state.last = event.lastEventId;
  return told;
}

function seeing() {
  state.tries = 0;
  if (state.blindSince) say("This page sees calls again.");
  state.blindSince = null;
  shown("blind").hidden = true;
  const text = "Watching: calls show here within a second.";
  if (shown("watching").textContent !== text) shown("watching").textContent = text;
}

function blind(why, link = "") {
  state.blindSince ??= new Date(state.heardAt);
  shown("blind-since").textContent = `This page has not seen calls since ${state.blindSince.toLocaleTimeString()}.`;
  const words = shown("blind-why");
  words.textContent = `${why} ${list.dataset.number} calls go out all the same, and mails are sent. `;
  if (link) {
    const anchor = document.createElement("a");
    anchor.href = link;
    anchor.textContent = "Sign in again";
    words.append(anchor);
  }
  shown("blind").hidden = false;
  shown("watching").textContent = "Not watching.";
}

function opening(event) {
  const told = heard(event);
  if (told.is_whole) {
    const known = new Set(told.calls.map((call) => call.id));
    for (const id of [...calls.keys()]) {
      if (!known.has(id)) {
        calls.delete(id);
        shown(`alert-${id}`)?.remove();
      }
    }
    for (const entry of [...list.children]) if (!known.has(entry.id.slice(6))) entry.remove();
  }
  for (const call of [...told.calls].reverse()) put(call);
  if (!state.opened && ringing().length) shown("announce").textContent = ringing().map((call) => call.sentence).join(" ");
  state.opened = true;
  seeing();
  showCount();
}

function connect() {
  if (state.ended) return;
  clearTimeout(state.timer);
  state.source?.close();
  const address = new URL(list.dataset.stream, location.href);
  if (state.last) address.searchParams.set("last", state.last);
  const source = new EventSource(address);
  state.source = source;
  source.addEventListener("opening", opening);
  source.addEventListener("call", (event) => { put(heard(event)); seeing(); showCount(); });
  source.addEventListener("beat", (event) => { heard(event); seeing(); });
  source.addEventListener("trouble", (event) => {
    const told = JSON.parse(event.data);
    if (told.again_s) state.blindSince = null; // it has just been shown the calls there are
    blind(told.sentence);
    again(told.again_s ? told.again_s * 1000 : 0);
  });
  source.addEventListener("ended", (event) => end(JSON.parse(event.data).sentence));
  source.onerror = () => { if (source === state.source) lost(source.readyState === EventSource.CLOSED); };
}

function end(sentence) {
  state.ended = true;
  state.source?.close();
  blind(sentence, `/login?next=${encodeURIComponent("/alerts")}`);
}

// The stream broke. Where the server refused it, a plain request tells whether we were signed out.
async function lost(wasRefused) {
  state.source.close();
  const response = wasRefused ? await fetch(list.dataset.stream, { method: "HEAD", redirect: "manual" }).catch(() => null) : null;
  const isSignedOut = response && (response.type === "opaqueredirect" || response.status === 401); // it leads to the door
  if (isSignedOut || response?.status === 403) {
    end(isSignedOut ? "You are signed out." : "You may not watch calls any more.");
    return;
  }
  if (state.tries > 0) blind("The server cannot be reached. Trying again.");
  again();
}

// `toldMs`: how long the server says to wait; 0: longer each time.
function again(toldMs = 0) {
  state.source?.close();
  clearTimeout(state.timer);
  state.timer = setTimeout(connect, toldMs || PAUSES_MS[Math.min(state.tries, PAUSES_MS.length - 1)]);
  state.tries += 1;
}

let tickedAt = Date.now();
setInterval(() => {
  const now = Date.now();
  const slept = now - tickedAt > SLEPT_MS;
  tickedAt = now;
  tellAges();
  showArmed();
  if (state.ended) {
    toneWhileBlind(now);
    return;
  }
  if (slept) {
    connect(); // this tab was asleep: catch up at once
  } else if (now - state.heardAt > BLIND_AFTER_MS && !state.blindSince) {
    blind("The server is silent. Trying again.");
    connect();
  } else if (now - state.heardAt > BLIND_AFTER_MS && state.source?.readyState === EventSource.OPEN) {
    again();
  }
  toneWhileBlind(now);
}, 1000);

function toneWhileBlind(now) {
  if (!state.blindSince || !isArmed() || now - state.heardAt < 2 * BLIND_AFTER_MS || now - sound.blindAt < BLIND_TONE_EVERY_MS) return;
  sound.blindAt = now;
  tone(300, 0, 0.8, 0.25);
}

addEventListener("online", connect);
addEventListener("pageshow", (event) => { if (event.persisted) connect(); });
addEventListener("offline", () => blind("This device has no network."));

// ---------------------------------------------------------------- acknowledging

list.addEventListener("submit", async (event) => {
  const form = event.target.closest("form[data-acknowledge]");
  if (!form) return;
  event.preventDefault();
  if (form.getAttribute("aria-busy")) return; // a disabled button would drop the focus of whoever pressed it
  form.setAttribute("aria-busy", "true");
  try {
    const response = await fetch(form.dataset.acknowledge, { method: "POST", headers: { Accept: "application/json" } });
    if (!response.ok) throw new Error(await sentenceOf(response));
    const done = await response.json();
    if (!done.is_first) say(`${done.acknowledged_by} had acknowledged it before.`);
  } catch (error) {
    form.removeAttribute("aria-busy");
    const why = error instanceof TypeError ? "The server cannot be reached: the call is not acknowledged. Try again." : error.message;
    say(why);
    const line = document.createElement("p");
    line.className = "fault";
    line.textContent = why;
    form.querySelector(".fault")?.remove();
    form.append(line);
  }
});

showArmed();
tellAges();
connect();
