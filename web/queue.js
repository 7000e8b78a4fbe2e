// SPDX-License-Identifier: MIT
//
// One queue: its figures over time, its items by state, its policy, and what
// can be done about it.

import { button, field, h, refresh, replace, say } from "./dom.js";
import * as f from "./format.js";
import { get, getText, live, now, onLook, post, query, remove, session }
  from "./api.js";
import { announce, ask, confirm, perform, ready } from "./dialog.js";
import { chart } from "./chart.js";
import { drawMarks, marksOf } from "./overview.js";
import { partitions } from "./partitions.js";
import { policy } from "./policy.js";
import { empty, facts, table } from "./table.js";
import { course, RANGES } from "./trend.js";

const path = (seg) => "queues/" + seg;

const STATES = ["all", "ready", "leased", "scheduled", "retrying"];

const ITEMS = (seg) => [
  { title: "Id", class: "right", cell: (i) => h("a", {
    href: `#/queue/${seg}/item/${i.id}` }, String(i.id)) },
  { title: "State", cell: (i) => i.state },
  { title: "Attempts", class: "right wide", cell: (i) => f.number(i.attempts) },
  { title: "Age", class: "right", cell: (i) =>
    f.duration(now() - i.pushed_at) },
  { title: "Due in", class: "right wide", cell: (i) => i.visible_at
    ? f.duration(Math.max(0, i.visible_at - now())) : "" },
  { title: "Error", class: "wide cut", cell: (i) =>
    h("bdi", {}, f.shown(i.error)) },
  { title: "Payload", class: "cut", cell: (i) =>
    h("bdi", {}, f.visible(i.preview)) },
];


// Pushing.

// A dialog with a payload of JSON to be pushed.
export async function pushDialog(seg, text) {
  if (!await ready()) return;
  const payload = h("textarea", { rows: 12, spellcheck: "false",
    required: true, value: text || "" });
  const priority = h("input", { type: "number", min: 0, max: 255, value: 0 });
  const delay = h("input", { type: "number", min: 0, value: 0 });
  await ask({
    title: `Push to ${f.unsegment(seg)}`, action: "Push",
    body: [field("Payload, in JSON", payload), field("Priority", priority),
      field("Delay, in seconds", delay)],
    submit: async () => {
      JSON.parse(payload.value); // tells where it is wrong
      const told = await post(path(seg) + "/items" + query({
        priority: priority.value, delay: delay.value }), payload.value);
      announce(`Item ${told.id} is pushed`);
    },
  });
}

// The same with the payload of a record that lies at a path.
export async function pushAgain(seg, from) {
  try {
    await pushDialog(seg, (await getText(from + "/payload?as=json")).trim());
  } catch (err) {
    announce(err.message, true);
  }
}


// Items.

// A list of items of a state, which goes on where it ended.
function items(seg) {
  const list = h("div"), looked = h("p", { role: "status" });
  const state = h("select", { "aria-label": "State", onchange: begin },
    STATES.map((s) => h("option", { value: s }, s)));
  const text = h("input", { type: "search", placeholder: "Text in it",
    "aria-label": "Text in payload, error or key" });
  const member = h("input", { type: "search", placeholder: "customer.id=42",
    "aria-label": "A field of the payload and its value, path=value" });
  const found = [];
  let cursor = null;

  async function more() {
    try {
      const page = await get(path(seg) + "/items" + query({
        brief: true, limit: 50, state: state.value, cursor,
        text: text.value || null, field: member.value || null }));
      found.push(...page.items);
      cursor = page.cursor || null;
    } catch (err) {
      announce(err.message, true);
    }
    draw();
  }
  function draw() {
    const columns = ITEMS(seg).filter((c) => c.title !== "Error" ||
      found.some((i) => i.error));
    replace(list, found.length
      ? table("Items", columns, found, { class: "items" })
      : empty("No items found."));
    replace(looked, cursor && button("Look further", more));
  }
  function begin() {
    found.length = 0;
    cursor = null;
    return more();
  }
  const form = h("form", { class: "tools", role: "search",
    onsubmit: (e) => { e.preventDefault(); begin(); } },
  state, text, member, h("button", {}, "Search"));
  begin();
  return h("section", {}, h("h2", {}, "Items"), form, list, looked);
}


// The queue.

// Removes the queue, after it was told with what.
async function drop(seg, name) {
  if (!await ready()) return;
  try {
    const told = await remove(path(seg) + query({ dry_run: true }));
    if (await confirm({
      title: "Drop the queue", action: "Drop", word: name,
      text: `The queue and its ${f.number(told.items)} items are removed for ` +
        `good, with ${f.number(told.finished)} finished ones that it keeps. ` +
        `Its ${f.number(told.dead_letters)} dead letters stay.`,
      act: () => remove(path(seg)),
      done: () => `Queue ${name} is removed`,
    })) location.hash = "#/";
  } catch (err) {
    announce(err.message, true);
  }
}

function actionsOf(seg, name) {
  if (!session.writable) return null;
  const toggle = button("Pause", () => {
    const verb = live.queues.get(seg)?.paused ? "resume" : "pause";
    perform(() => post(`${path(seg)}/${verb}`),
      (told) => told.paused ? "Paused" : "Resumed");
  });
  const element = h("p", { class: "actions" }, toggle,
    button("Push an item …", () => pushDialog(seg)),
    button("Purge …", () => confirm({
      title: "Purge the queue", action: "Purge", word: name,
      text: "All items that are not leased are removed for good.",
      act: () => post(path(seg) + "/purge"),
      done: (told) => `${f.number(told.removed)} items are removed`,
    }), { class: "danger" }),
    button("Drop …", () => drop(seg, name), { class: "danger" }));
  return { element, update: (q) => say(toggle, q.paused ? "Resume" : "Pause") };
}

function figures(q, stats) {
  const least = (histogram, share) => {
    const value = f.quantile(histogram, share);
    return value === null ? "–" : (value === Infinity ? "" : "≤ ") +
      f.duration(value);
  };
  return facts([
    ["Ready", f.number(q.ready)], ["Leased", f.number(q.leased)],
    ["Scheduled", f.number(q.scheduled)], ["Retrying", f.number(q.retrying)],
    ["Dead", h("a", { href: "#/dead/" + q.seg }, f.number(q.dead))],
    ["Oldest", q.oldest ? f.duration(now() - q.oldest) : "–"],
    ["Stored", f.bytes(q.bytes)], ["Full", f.percent(q.fill)],
    ["Pushed", f.number(q.pushed)], ["Done", f.number(q.done)],
    ["Died", f.number(q.died)], ["Crashed", f.number(q.crashed)],
    q.damaged && ["Damaged", f.number(q.damaged)],
    stats && ["Wait p50, p95", least(stats.wait, 0.5) + ", " +
      least(stats.wait, 0.95)],
    stats && ["Handler p50, p95", least(stats.handle, 0.5) + ", " +
      least(stats.handle, 0.95)],
    q.kept && ["Finished, kept", h("a", { href: `#/queue/${q.seg}/finished` },
      f.number(q.kept))],
  ]);
}

const OFTEN = 5000; // milliseconds between looks at the histograms
const KEPT = 120;   // of these looks
const MINUTE = 60000;
const LONGEST = 7200; // seconds, beyond which a histogram tells none

// What a histogram has counted since an earlier look.
function since(now, before) {
  if (!before || now.count < before.count) return now;
  return {
    count: now.count - before.count,
    buckets: now.buckets.map((b, i) => ({ upto: b.upto,
      count: b.count - before.buckets[i].count })),
  };
}

// The times of the items between two looks; 0 where there were none.
function timesBetween(stats, before) {
  const wait = since(stats.wait, before.wait);
  const handle = since(stats.handle, before.handle);
  const time = (histogram, share) =>
    Math.min(f.quantile(histogram, share) || 0, LONGEST);
  return { at: now(), wait50: time(wait, 0.5), wait95: time(wait, 0.95),
    handle95: time(handle, 0.95) };
}

export function queue(main, seg) {
  const name = f.unsegment(seg), facts = h("div"), state = h("span");
  const acts = actionsOf(seg, name), parts = partitions(seg);
  const rates = chart("Items a second", [
    { key: "pushed", label: "pushed" }, { key: "done", label: "done" },
    { key: "failed", label: "failed" }], f.rate);
  const backlog = chart("Backlog", [{ key: "backlog", label: "items" }],
    f.number);
  const times = chart("Times", [
    { key: "wait50", label: "wait p50" }, { key: "wait95", label: "wait p95" },
    { key: "handle95", label: "handler p95" }], f.duration);
  const range = h("select", { "aria-label": "Time", onchange: past },
    h("option", { value: "" }, "Since this page is open"),
    Object.entries(RANGES).map(([key, { title }]) =>
      h("option", { value: key }, title)));
  const seen = [];
  let stats = null, gone = false;
  async function past() {
    const chosen = range.value;
    if (!chosen) return draw();
    try {
      const points = await course(seg, chosen);
      if (range.value !== chosen) return; // another by now
      for (const one of [rates, backlog, times]) one.update(points);
    } catch (err) {
      announce(err.message, true);
    }
  }
  async function look() {
    if (gone || document.hidden) return;
    try {
      const fresh = await get(path(seg));
      if (stats) seen.push(timesBetween(fresh, stats));
      if (seen.length > KEPT) seen.shift();
      stats = fresh;
      if (!range.value) times.update(seen);
    } catch { /* the state of the connection is shown above */ }
  }
  function draw() {
    const q = live.queues.get(seg);
    drawMarks(state, q ? marksOf(q) : live.now
      ? [["there is no such queue", "bad"]] : []);
    if (!q) return;
    refresh(facts, figures(q, stats));
    if (acts) acts.update(q);
    parts.update(q);
    if (range.value) return;
    rates.update(q.samples);
    backlog.update(q.samples);
    times.update(seen);
  }
  replace(main, h("h1", {}, h("bdi", {}, name), " ", state),
    acts && acts.element, facts,
    h("div", { class: "tools" }, range),
    h("div", { class: "charts" }, rates.element, backlog.element,
      times.element),
    parts.element, items(seg), policy(seg));
  const timer = setInterval(look, OFTEN), minute = setInterval(past, MINUTE);
  look().then(draw);
  const off = onLook(draw);
  draw();
  return () => {
    gone = true;
    clearInterval(timer);
    clearInterval(minute);
    off();
  };
}


// Finished items.

const FINISHED = [
  { title: "Id", class: "right", cell: (i) => String(i.id) },
  { title: "Done", cell: (i) => f.time(i.done_at) },
  { title: "State", cell: (i) => i.state },
  { title: "Attempts", class: "right wide", cell: (i) => f.number(i.attempts) },
  { title: "Took", class: "right", cell: (i) =>
    f.duration(i.done_at - i.pushed_at) },
  { title: "Payload", class: "cut", cell: (i) =>
    h("bdi", {}, f.visible(i.preview)) },
];

export function finished(main, seg) {
  const list = h("div"), found = [];
  let cursor = null;
  async function more() {
    try {
      const page = await get(path(seg) + "/finished" + query({
        brief: true, limit: 100, cursor }));
      found.push(...page.items);
      cursor = page.items.length === 100 ? page.cursor : null;
      replace(list, found.length
        ? table("Finished items, the oldest first", FINISHED, found,
          { class: "items" }) : empty("None are kept."),
      cursor && button("More", more));
    } catch (err) {
      announce(err.message, true);
    }
  }
  replace(main, h("p", { class: "back" }, h("a", { href: "#/queue/" + seg },
    h("bdi", {}, f.unsegment(seg)))), h("h1", {}, "Finished"), list);
  more();
}
