// The page of the sandbox: the list of requests, live, and the controls.

import { entryItem, make, spoken } from "./entry.js";

const byId = (id) => document.getElementById(id);

// As many as the sandbox keeps.
const MOST = 1000;

const PLAYS = [
  { label: "401", text: "wrong credentials", outcome: "rejected", play: { status: 401 } },
  { label: "400", text: "bad request", outcome: "rejected", play: { status: 400 } },
  { label: "429", text: "rate limit, again after 2 s", outcome: "rejected", play: { retry_after: 2 } },
  { label: "200", text: "but the JSON holds errors", outcome: "rejected", play: { json: "errors" } },
  { label: "500", text: "server error", outcome: "unknown", play: { status: 500 } },
  { label: "503", text: "unavailable", outcome: "unknown", play: { status: 503 } },
  { label: "closed", text: "processed, no answer", outcome: "unknown", play: { close: true, when: "after" } },
  { label: "silent", text: "processed, then silence", outcome: "unknown", play: { silent: true, when: "after" } },
  { label: "HTML", text: "processed, a web page", outcome: "unknown", play: { html: true, when: "after" } },
  { label: "JSON", text: "processed, broken JSON", outcome: "unknown", play: { json: "wrong", when: "after" } },
  { label: "slow", text: "answered after 5 s", outcome: "accepted", play: { delay: 5, when: "after" } },
];

const MEANINGS = [
  ["+15005550SSS", "that HTTP status, 200 to 599"],
  ["+15005551001", "processed, then closed"],
  ["+15005551002", "processed, then silent"],
  ["+15005551003", "200 with an HTML page"],
  ["+15005551004", "200 with broken JSON"],
  ["+15005551005", "200 whose JSON holds errors"],
  ["+15005551006", "429 with Retry-After: 2"],
  ["+15005551007", "answered after 2 s"],
];

const SUGGESTED = ["+911234567890", "+15005550401", "+15005550429", "+15005550503",
  ...MEANINGS.slice(1).map(([number]) => number)];

function say(text) {
  byId("said").textContent = text;
}

async function call(method, path, body) {
  const reply = await fetch(`/_sandbox/${path}`, {
    method,
    body: body && JSON.stringify(body),
    headers: body && { "Content-Type": "application/json" },
  });
  const value = await reply.json();
  if (!reply.ok) throw new Error(value.error);
  return value;
}

// An order of the person at the page; what goes wrong with it is said, and changes nothing.
async function order(method, path, body, done) {
  try {
    await call(method, path, body);
    say(done);
  } catch (error) {
    say(`Not done: ${error.message}`);
  }
  await refresh();
}

// The list

const log = { run: undefined, last: 0, entries: [] };
const filter = { digits: "", outcome: "" };

function matches({ entry }) {
  return (!filter.outcome || entry.outcome === filter.outcome)
    && (!filter.digits || (entry.to ?? "").includes(filter.digits));
}

function showCounts() {
  const counts = { "": log.entries.length, accepted: 0, rejected: 0, unknown: 0 };
  for (const { entry } of log.entries) counts[entry.outcome] += 1;
  for (const node of document.querySelectorAll("[data-count]")) {
    node.textContent = counts[node.dataset.count] || "";
  }
  const shown = log.entries.filter(({ item }) => !item.hidden).length;
  const all = log.entries.length;
  byId("shown").textContent = shown < all ? `${shown} of ${all}` : "";
  byId("empty").hidden = all > 0 || log.run === undefined;
  byId("none").hidden = all === 0 || shown > 0;
  byId("entries").hidden = shown === 0;
}

function applyFilter() {
  filter.digits = byId("number").value.replace(/[^\d]/g, "");
  filter.outcome = document.querySelector("[name=outcome]:checked").value;
  for (const row of log.entries) row.item.hidden = !matches(row);
  showCounts();
}

function addEntries(entries, live) {
  const rows = entries.map((entry) => ({ entry, item: entryItem(entry) }));
  for (const row of rows) row.item.hidden = !matches(row);
  if (live) for (const { item } of rows.slice(-50)) item.classList.add("fresh");
  rows.reverse();
  byId("entries").prepend(...rows.map(({ item }) => item));
  log.entries.unshift(...rows);
  for (const { item } of log.entries.splice(MOST)) item.remove();
  if (live) announce(entries);
}

// Said at most once a second: who listens is not to be flooded.
const unsaid = [];

function announce(entries) {
  if (unsaid.push(...entries) > entries.length || entries.length === 0) return;
  setTimeout(() => {
    say(unsaid.length === 1 ? spoken(unsaid[0]) : `${unsaid.length} new requests`);
    unsaid.length = 0;
  }, 1000);
}

function take(answer) {
  const live = answer.run === log.run;
  if (!live) {
    // Another run of the log: it was cleared, or the sandbox was started again.
    byId("entries").replaceChildren();
    Object.assign(log, { run: answer.run, last: 0, entries: [] });
  }
  const entries = answer.messages.filter(({ n }) => n > log.last);
  if (entries.length > 0) log.last = entries[entries.length - 1].n;
  addEntries(entries, live);
  showCounts();
}

function showLink(state, text) {
  const link = byId("link");
  if (link.dataset.state === state) return;
  link.dataset.state = state;
  link.lastElementChild.textContent = text;
}

const pause = (milliseconds) => new Promise((done) => { setTimeout(done, milliseconds); });

async function follow() {
  for (;;) {
    try {
      const known = log.run;
      let answer = await call("GET", `messages?all=1&after=${log.last}${known ? `&wait=20&run=${known}` : ""}`);
      if (known && answer.run !== known) answer = await call("GET", "messages?all=1");
      take(answer);
      if (!known) await refresh();
      showLink("live", "live");
      // What comes close together is shown together.
      await pause(100);
    } catch {
      showLink("lost", "not connected; trying again");
      await pause(1000);
    }
  }
}

// The state

function showMinute({ last_minute: used, settings }) {
  const limit = settings.per_minute;
  byId("minute").textContent = used;
  byId("minute-limit").textContent = limit ? ` of ${limit} permitted` : used === 1 ? " request" : " requests";
  const meter = byId("meter");
  meter.hidden = !limit;
  meter.max = limit || 1;
  meter.value = Math.min(used, limit || 1);
  meter.classList.toggle("full", Boolean(limit) && used >= limit);
}

// Fields that somebody is filling in are left alone.
function showSettings(settings) {
  for (const field of byId("settings").elements) {
    if (!field.name || field === document.activeElement) continue;
    const value = settings[field.name];
    if (field.type === "checkbox") field.checked = value;
    else field.value = value || "";
  }
}

function left(count) {
  if (count < 0) return "all requests";
  return count === 1 ? "1 request" : `${count} requests`;
}

function showWaiting(waiting) {
  const list = byId("waiting-list");
  const items = waiting.map((play) => make("li", {},
    make("span", {}, play.says), make("span", {}, left(play.left))));
  const text = items.map((item) => item.textContent).join();
  byId("waiting").hidden = items.length === 0;
  if (list.dataset.text === text) return;
  list.dataset.text = text;
  list.replaceChildren(...items);
}

async function refresh() {
  try {
    const [state, play] = await Promise.all([call("GET", "state"), call("GET", "play")]);
    byId("host").textContent = state.host;
    byId("post").textContent = `${state.host}/api/public/bot/${state.bot_id}/outboundsms`;
    showMinute(state);
    showSettings(state.settings);
    showWaiting(play.waiting);
  } catch {
    // The list says that there is no connection.
  }
}

async function watch() {
  for (;;) {
    if (!document.hidden) await refresh();
    await pause(1500);
  }
}

// The controls

function fillLists() {
  byId("plays").append(...PLAYS.map(({ label, text, outcome, play }) => {
    const button = make("button", { type: "button", "data-outcome": outcome },
      make("b", {}, label), " ", text);
    button.addEventListener("click", () => {
      const times = Number(byId("times").value);
      order("POST", "play", { ...play, times }, `Waiting: ${label}, ${text}, for ${left(times)}`);
    });
    return make("li", {}, button);
  }));
  byId("meanings-table").append(...MEANINGS.map(([number, text]) =>
    make("tr", {}, make("td", {}, number), make("td", {}, text))));
  byId("meanings").append(...SUGGESTED.map((number) => make("option", { value: number })));
}

// What a field of the settings holds, as the sandbox takes it.
function settingOf(field) {
  if (field.type === "checkbox") return field.checked;
  if (field.value !== "") return Number(field.value);
  return field.name === "latency" ? 0 : false;
}

function send(event) {
  event.preventDefault();
  const to = byId("to").value.trim();
  order("POST", "messages", { to }, `Sent to ${to}`);
}

// Up and down go from one request to the next.
function walk(event) {
  const step = { ArrowUp: -1, ArrowDown: 1 }[event.key];
  if (!step || event.target.tagName !== "SUMMARY") return;
  const lines = [...byId("entries").querySelectorAll("li:not([hidden]) > details > summary")];
  const next = lines[lines.indexOf(event.target) + step];
  if (!next) return;
  event.preventDefault();
  next.focus();
}

function listen() {
  byId("send").addEventListener("submit", send);
  byId("first").addEventListener("click", () => {
    order("POST", "messages", { to: byId("to").value.trim() }, "Sent");
    byId("log").focus();
  });
  byId("clear-plays").addEventListener("click", () => {
    order("DELETE", "play", undefined, "Nothing is waiting any more");
    byId("times").focus();
  });
  byId("settings").addEventListener("change", ({ target }) => {
    if (target.reportValidity()) {
      order("POST", "settings", { [target.name]: settingOf(target) }, "Set");
    }
  });
  byId("settings").addEventListener("submit", (event) => event.preventDefault());
  byId("reset-settings").addEventListener("click", () =>
    order("DELETE", "settings", undefined, "The settings are as at the start"));
  byId("filters").addEventListener("input", applyFilter);
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  byId("unfilter").addEventListener("click", () => {
    byId("filters").reset();
    applyFilter();
    byId("number").focus();
  });
  byId("clear").addEventListener("click", () => order("DELETE", "messages", undefined, "Cleared"));
  // A page that comes from another machine without TLS has no clipboard.
  byId("copy").hidden = !navigator.clipboard;
  byId("copy").addEventListener("click", async () => {
    await navigator.clipboard.writeText(byId("host").textContent);
    say("Copied");
  });
  byId("entries").addEventListener("keydown", walk);
  document.querySelector('a[href="#meanings-title"]').addEventListener("click", () => {
    byId("meanings-title").closest("details").open = true;
  });
}

// Where there is little room, the requests come first.
if (matchMedia("(max-width: 52rem)").matches) {
  for (const panel of document.querySelectorAll(".panel")) panel.open = false;
}

fillLists();
listen();
follow();
watch();
