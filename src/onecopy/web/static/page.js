// The page: it asks for snapshots of one pool, and shows them.

import { ask, takeToken } from "./api.js";
import { Charts, History } from "./charts.js";
import { Colours } from "./colours.js";
import { Table, column, find, make, mark, name, number, say } from "./dom.js";
import { Memory } from "./memory.js";
import { Picture } from "./picture.js";
import { count, duration, percent, rate, size } from "./words.js";

const AGAIN = 2; // seconds, after a problem

const colours = new Colours();
const past = new History(colours);
const charts = new Charts(find("rates"), find("depths"), past);
const memory = new Memory(colours);
const picture = new Picture();

// ---- tables

const series = {
  title: "",
  make: () => make("button", { type: "button", class: "series" }, make("i")),
  fill(cell, record) {
    const button = cell.firstChild;
    const one = past.series.get(record.id);
    button.style.setProperty("--colour", colours.of(record.id));
    button.setAttribute("aria-pressed", String(one?.shown ?? false));
    button.setAttribute("aria-label", `Show ${record.name} in the charts`);
    button.title = "Show or hide it in the charts";
    button.onclick = () => {
      charts.toggle(record.id);
      button.setAttribute("aria-pressed", String(past.series.get(record.id)?.shown ?? false));
    };
  },
};
const unreadable = (record) => (record.readable ? "" : " (could not be read)");
const closed = (record) => (record.closed ? " (shut down)" : "");
const waits = (record, ...kinds) =>
  kinds.filter(([, many]) => many > 0).map(([what, many]) => `${many} ${what}`).join(", ") || null;

const queues = new Table(find("queues"), "Queues", [
  series,
  name("Queue", (each) => each.name + closed(each) + unreadable(each)),
  number("Depth", (each) => (each.room === null ? count(each.depth) : `${count(each.depth)} of ${count(each.room)}`)),
  number("Put/s", (each) => rate(each.put_rate)),
  number("Taken/s", (each) => rate(each.taken_rate)),
  number("Oldest", (each) => (each.oldest === null ? null : `> ${duration(each.oldest)}`), { class: "minor" }),
  column("Waiting", (each) => waits(each, ["to put", each.putting], ["to get", each.getting]), { class: "wrap" }),
  number("Memory", (each) => size(each.bytes), { class: "minor" }),
], "This pool has no queue.");

const streams = new Table(find("streams"), "Streams", [
  series,
  name("Stream", (each) => each.name + closed(each) + unreadable(each)),
  column("Policy", (each) => each.policy, { class: "minor" }),
  number("Published", (each) => count(each.published)),
  number("Per s", (each) => rate(each.rate)),
  number("Subscribers", (each) => count(each.subscribers), { class: "minor" }),
  number("Behind", (each) => count(each.behind)),
  number("Missed", (each) => count(each.missed)),
  column("Waiting", (each) => waits(each, ["to publish", each.publishing], ["to read", each.reading]), { class: "wrap" }),
  number("Memory", (each) => size(each.bytes), { class: "minor" }),
], "This pool has no stream.");

const frames = new Table(find("frames"), "Frame pools", [
  name("Frames", (each) => each.name + unreadable(each)),
  number("Free", (each) => `${count(each.free)} of ${count(each.count)}`),
  column("Held by", (each) => each.holders.map((one) => `${one.frames} by ${one.by}`).join(", ") || null, { class: "wrap" }),
  number("Waiting", (each) => count(each.waiting)),
], "This pool has no frame pool.");

const locks = new Table(find("locks"), "Locks", [
  name("Lock", (each) => each.name + unreadable(each)),
  column("Kind", (each) => each.kind + (each.details === "" ? "" : ` (${each.details})`), { class: "wrap minor" }),
  column("Held by", (each) => each.holders.join(", ") || null, { class: "wrap" }),
  number("For", (each) => duration(each.seconds)),
  column("Waiting", (each) => (each.waiters.length > 0 ? each.waiters.join(", ") : each.waiting > 0 ? count(each.waiting) : null), { class: "wrap" }),
], "This pool has no lock.");

const processes = new Table(find("processes"), "Processes", [
  number("Pid", (each) => String(each.pid) + (each.here ? "" : " (other namespace)")),
  name("Program", (each) => each.program || "–", (each) => each.command),
  column("State", (each) => each.state, { look: (each) => each.state }),
  number("Holds", (each) => size(each.bytes), { class: "minor" }),
  column("Waits for, and since when", (each) => (each.since === null ? null : `${each.waits.join(", ")} · ${duration(each.since)}`), { class: "wrap" }),
  number("Member for", (each) => duration(each.member_for), { class: "minor" }),
], "No process is a member of this pool.");

// ---- one pool

function summary(pool) {
  const parts = [
    ["In use", size(pool.used), `of ${size(pool.size)} · ${percent(pool.used, pool.size)}`],
    ["Reserved", size(pool.committed), "of memory"],
    ["Processes", count(pool.counts.processes), `of ${count(pool.slots)} slots`],
    ["Threads that wait", count(pool.waiting), ""],
  ];
  const place = find("summary");
  if (place.children.length === 0) {
    place.append(...parts.map(([title]) => make("div", {}, make("dt", { text: title }), make("dd", {}, make("span"), " ", make("small")))));
  }
  parts.forEach(([, value, more], index) => {
    const [first, second] = place.children[index].querySelectorAll("dd > *");
    say(first, value);
    say(second, more);
  });
}

let lastWhy = "";

function why(pool) {
  const now = JSON.stringify([pool.said, pool.chains, pool.counts.chains]);
  if (now === lastWhy) return;
  lastWhy = now;
  const parts = pool.said.map((text) => make("p", { class: "said", text }));
  for (const chain of pool.chains) {
    parts.push(
      make(
        "div",
        { class: "chain" },
        ...chain.text.map((text) => make("p", { text })),
        ...chain.culprits.map((text) => make("p", { class: "culprit", text })),
      ),
    );
  }
  if (pool.counts.chains > pool.chains.length) parts.push(make("p", { class: "more", text: `and ${pool.counts.chains - pool.chains.length} more` }));
  if (pool.chains.length === 0) parts.push(make("p", { class: "empty", text: "No thread has waited longer than 1 s." }));
  find("why-body").replaceChildren(...parts);
}

function show(pool) {
  document.title = `${pool.name} – onecopy`;
  const kinds = [pool.persistent ? "persistent" : "", pool.memfd ? "memfd" : "", pool.truncated ? "only the first 65,536 things are shown" : ""];
  say(find("where"), [pool.path, ...kinds.filter(Boolean)].join(" · "));
  summary(pool);
  why(pool);
  past.add(pool, Date.now() / 1000);
  const flow = pool.queues.length + pool.streams.length > 0;
  find("flow-body").hidden = !flow;
  find("flow-empty").hidden = flow;
  find("queues").hidden = pool.queues.length === 0;
  find("streams").hidden = pool.streams.length === 0;
  queues.show(pool.queues, pool.counts.queues);
  streams.show(pool.streams, pool.counts.streams);
  frames.show(pool.frames, pool.counts.frames);
  locks.show(pool.locks, pool.counts.locks);
  processes.show(pool.processes, pool.counts.processes);
  memory.show(pool);
  picture.show(pool.streams, pool.frames);
  find("main").hidden = false;
  mark(find("main"), "");
  charts.show();
}

// ---- the loop

let chosen = null; // the key of a pool
let paused = false;
let timer = 0;
let asking = null; // an AbortController
let listed = ""; // the list of pools, as it was shown last
let nextList = 0; // when to ask for it

function tell(text, look) {
  say(find("status"), text);
  mark(find("status"), `status ${look}`);
}

function complain(text) {
  const place = find("problem");
  say(place, text);
  place.hidden = text === "";
}

function offer(pools) {
  const now = JSON.stringify([chosen, ...pools.map((each) => [each.key, each.name, each.state, each.problem])]);
  if (now === listed) return;
  listed = now;
  const place = find("pools");
  const options = pools.map((each) => {
    const state = each.state === "in_use" ? "" : ` (${{ stale: "its processes are dead", persistent: "not in use", failed: "cannot be read" }[each.state] ?? each.state})`;
    return make("option", { value: each.key, text: each.name + state });
  });
  if (chosen !== null && !pools.some((each) => each.key === chosen)) {
    const before = place.querySelector(`option[value="${CSS.escape(chosen)}"]`)?.textContent.replace(/ \([^)]*\)$/, "") ?? "this pool";
    options.unshift(make("option", { value: chosen, text: `${before} (gone)` }));
  }
  place.replaceChildren(...options);
  place.disabled = options.length === 0;
  if (chosen !== null) place.value = chosen;
}

function choose(key) {
  chosen = key;
  history.replaceState(null, "", `#pool=${encodeURIComponent(key)}`);
  past.clear();
  lastWhy = "";
  for (const each of [queues, streams, frames, locks, processes]) each.clear();
  picture.change(key);
  find("main").hidden = true;
  complain("");
}

async function step(signal) {
  if (Date.now() >= nextList) {
    const { body, every } = await ask("api/pools", { signal });
    nextList = Date.now() + Math.max(every, 3) * 1000;
    if (chosen === null && body.length > 0) choose((body.find((each) => each.state === "in_use") ?? body[0]).key);
    offer(body);
  }
  if (chosen === null) {
    complain("There is no pool yet. Start a program that makes one, and it appears here.");
    tell("No pool", "");
    return AGAIN;
  }
  const { body, every } = await ask(`api/pools/${encodeURIComponent(chosen)}`, { signal });
  complain("");
  show(body);
  tell(`Live, every ${every < 10 ? every.toFixed(1) : Math.round(every)} s`, "live");
  return every;
}

async function run() {
  clearTimeout(timer);
  asking?.abort();
  if (paused || document.hidden) {
    tell("Paused", "");
    return;
  }
  const mine = (asking = new AbortController());
  let wait;
  try {
    wait = await step(mine.signal);
  } catch (error) {
    if (mine.signal.aborted) return;
    if (error.status === undefined) throw error; // a mistake of this page: it appears in the console
    complain(error.message);
    mark(find("main"), "old");
    tell(error.status === 0 ? "No answer" : error.status === 403 ? "Refused" : "Cannot be shown", "bad");
    nextList = 0;
    if (error.status === 403) return;
    wait = AGAIN;
  }
  if (!mine.signal.aborted) timer = setTimeout(run, wait * 1000);
}

find("pools").addEventListener("change", (event) => {
  choose(event.target.value);
  run();
});
find("pause").addEventListener("click", (event) => {
  paused = !paused;
  event.target.setAttribute("aria-pressed", String(paused));
  event.target.textContent = paused ? "Resume" : "Pause";
  run();
});
document.addEventListener("visibilitychange", run);

function start() {
  const key = takeToken().get("pool");
  if (key !== null && key !== chosen) choose(key);
  nextList = 0;
  run();
}

addEventListener("hashchange", start);
start();
