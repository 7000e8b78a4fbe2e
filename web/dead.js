// SPDX-License-Identifier: MIT
//
// Dead letters: by DLQ, in groups by error, filtered, one by one, and what can
// be done about them: replay and purge, each with a preview.

import { button, field, h, refresh, replace } from "./dom.js";
import * as f from "./format.js";
import { get, now, post, query, remove, session } from "./api.js";
import { chart, sparkbars } from "./chart.js";
import { announce, ask, confirm, perform, ready } from "./dialog.js";
import { pushAgain } from "./queue.js";
import { record } from "./record.js";
import { empty, table } from "./table.js";
import { course, RANGES } from "./trend.js";

const path = (seg) => "dead/" + seg;

function failed(place) {
  return (err) => replace(place, h("p", { class: "bad", role: "alert" },
    err.message));
}


// DLQs.

const DLQS = [
  { title: "DLQ", class: "name", cell: (d) => h("a", {
    href: "#/dead/" + f.segment(d.name) }, h("bdi", {}, f.shown(d.name))) },
  { title: "Dead letters", class: "right",
    cell: (d) => f.number(d.dead_letters) },
];

export function dlqs(main) {
  const place = h("div");
  let gone = false;
  async function look() {
    if (gone || document.hidden) return;
    const told = await get("dead");
    const list = told.dead_letter_queues.sort(
      (a, b) => b.dead_letters - a.dead_letters);
    refresh(place, list.length ? table("Dead-letter queues", DLQS, list)
      : empty("No dead letters."));
  }
  replace(main, h("h1", {}, "Dead letters"), place);
  look().catch(failed(place));
  const timer = setInterval(() => look().catch(() => {}), 5000);
  return () => {
    gone = true;
    clearInterval(timer);
  };
}


// The filter of a DLQ, as the server takes it.

const AGES = [["", "any age"], ["3600", "died in the last hour"],
  ["86400", "died in the last day"], ["-86400", "died over a day ago"],
  ["-604800", "died over a week ago"]];

function parametersOf(filter) {
  const seconds = Number(filter.age || 0);
  return {
    "group=": filter.group, "reason=": filter.reason,
    text: filter.text || null, field: filter.field || null,
    since: seconds > 0 ? (now() - seconds).toFixed(3) : null,
    until: seconds < 0 ? (now() + seconds).toFixed(3) : null,
  };
}

function described(filter) {
  const parts = [];
  if (filter.group !== undefined)
    parts.push(`of group "${f.unsegment(filter.group)}"`);
  if (filter.reason !== undefined)
    parts.push(`of reason ${f.unsegment(filter.reason)}`);
  if (filter.text) parts.push(`with the text "${f.visible(filter.text)}"`);
  if (filter.field) parts.push("where " + f.visible(filter.field));
  const age = AGES.find(([value]) => value === (filter.age || ""));
  if (filter.age) parts.push("that " + age[1]);
  return parts.length ? "dead letters " + parts.join(", ")
    : "all dead letters";
}


// Replay and purge.

function newName() {
  return "console-" + new Date().toISOString().replace(/\D/g, "").slice(0, 14);
}

// What a dry run told: counts, and the first payloads that it would change.
function previewed(counts) {
  return [h("p", {}, `${f.number(counts.moved)} would be moved, ` +
    `${f.number(counts.skipped)} skipped, ${f.number(counts.failed)} would ` +
    "fail. ", counts.errors.map(
    (e) => h("span", { class: "bad" }, f.visible(e), " "))),
  counts.samples.map((s) => h("section", { class: "change" },
    h("h3", {}, `Dead letter ${s.number}`),
    h("figure", {}, h("figcaption", {}, "before"),
      h("pre", {}, f.visible(s.before))),
    h("figure", {}, h("figcaption", {}, "after"),
      h("pre", {}, f.visible(s.after)))))];
}

async function replayDialog(seg, filter) {
  if (!await ready()) return;
  const name = h("input", { value: newName(), required: true });
  const to = h("input", { placeholder: "each dead letter's own queue" });
  const rate = h("input", { type: "number", min: 0, step: "any",
    placeholder: "as fast as it goes" });
  const limit = h("input", { type: "number", min: 1, placeholder: "all" });
  const change = h("textarea", { rows: 3, spellcheck: "false",
    placeholder: '{"customer":{"email":"new@example.org"},"old":null}' });
  const told = h("div", { role: "status" });
  const asked = (more) => post(path(seg) + "/replay" + query({
    ...parametersOf(filter), to: to.value || null, rate: rate.value || null,
    limit: limit.value || null, ...more }), change.value.trim());
  async function preview() {
    try {
      if (change.value.trim()) JSON.parse(change.value);
      replace(told, previewed(await asked({ dry_run: true })));
    } catch (err) {
      failed(told)(err);
    }
  }
  await ask({
    title: "Replay", action: "Replay",
    body: [h("p", {}, `Moves ${described(filter)} back to a queue.`),
      field("Name, under which it can be stopped and resumed", name),
      field("To the queue", to), field("A second, at most", rate),
      field("At most, in all", limit),
      field("Change payloads, by a JSON merge patch", change, "Members are " +
        "set as they are here, and removed where they are null. Empty: " +
        "payloads go back as they are."),
      h("p", { class: "actions" }, button("Preview", preview)), told],
    submit: async () => {
      if (change.value.trim()) JSON.parse(change.value); // tells where
      await asked({ name: name.value });
      announce(`Replay ${name.value} is running`);
      location.hash = "#/replays";
    },
  });
}

async function purgeDialog(seg, filter, after) {
  if (!await ready()) return;
  const asked = (more) => path(seg) + "/purge" +
    query({ ...parametersOf(filter), ...more });
  try {
    const told = await post(asked({ dry_run: true }));
    await confirm({
      title: "Purge", action: "Purge", word: String(told.removed),
      text: `${f.number(told.removed)} are removed for good: ` +
        described(filter) + ".",
      act: () => post(asked({})),
      done: (counts) => `${f.number(counts.removed)} are removed`,
    });
    after();
  } catch (err) {
    announce(err.message, true);
  }
}


// One DLQ.

const LETTERS = (seg) => [
  { title: "No.", class: "right", cell: (d) => h("a", {
    href: `#/dead/${seg}/${d.number}` }, String(d.number)) },
  { title: "Died", class: "right", cell: (d) => d.died_at
    ? f.duration(now() - d.died_at) + " ago" : "–" },
  { title: "Reason", class: "wide", cell: (d) => f.shown(d.reason) },
  { title: "Attempts", class: "right wide", cell: (d) => f.number(d.attempts) },
  { title: "Error", class: "cut", cell: (d) =>
    h("bdi", {}, f.shown(d.error)) },
  { title: "Payload", class: "wide cut", cell: (d) =>
    h("bdi", {}, f.visible(d.preview)) },
];

const SAMPLES = 10; // groups whose newest dead letter is shown

// The newest dead letter of a group: how long ago it died, with its error.
async function sample(seg, g, place) {
  const d = await get(`${path(seg)}/items/${g.newest}?brief=true`);
  place.append(" ", h("bdi", {}, f.shown(d.error)));
}

function newest(seg, g, i) {
  const place = h("span", {}, h("a", { href: `#/dead/${seg}/${g.newest}` },
    g.last_died_at ? f.duration(Math.max(0, now() - g.last_died_at)) + " ago"
      : String(g.newest)));
  if (i < SAMPLES) sample(seg, g, place).catch(() => {}); // gone by now
  return place;
}

// How many of a group died in each hour of the last day.
function trend(g) {
  const bars = sparkbars("deaths an hour, the last day");
  bars.update(g.hours);
  return bars.element;
}

// Deaths over time, of the queue whose name the DLQ bears; nothing where there
// are no samples of such a queue.
async function showTrend(seg, range, place) {
  const points = await course(seg, range);
  if (points.every((p) => !p.died)) return replace(place);
  const deaths = chart(RANGES[range].title + ": dead letters a second",
    [{ key: "died", label: "died" }], f.rate);
  deaths.update(points);
  replace(place, deaths.element);
}

function groupsTable(seg, groups, choose) {
  return table("Groups by error", [
    { title: "Group", class: "name", cell: (g) => button(
      f.shown(g.group) || "(no group)",
      () => choose(f.segment(g.group || ""), f.segment(g.reason)),
      { class: "link" }) },
    { title: "Reason", cell: (g) => f.shown(g.reason) },
    { title: "Count", class: "right", cell: (g) => f.number(g.count) },
    { title: "Last day", class: "chartcell", cell: trend },
    { title: "Newest", class: "wide cut",
      cell: (g) => newest(seg, g, groups.indexOf(g)) },
  ], groups);
}

export function deadLetters(main, seg) {
  const filter = {}, found = [];
  const groups = h("div"), list = h("div"), about = h("p", { role: "status" });
  const trend = h("div");
  let after = null;

  async function more() {
    try {
      const page = await get(path(seg) + "/items" + query({
        ...parametersOf(filter), brief: true, limit: 50, order: "newest",
        after }));
      found.push(...page.dead_letters);
      after = page.after || null;
    } catch (err) {
      announce(err.message, true);
    }
    replace(list, found.length
      ? table("Dead letters, the newest first", LETTERS(seg), found,
        { class: "items" }) : empty("None found."),
    after && button("Look further", more));
  }
  function begin() {
    found.length = 0;
    after = null;
    replace(about, "Shown: ", described(filter), " ",
      Object.keys(filter).some((k) => filter[k] !== undefined && filter[k]
        !== "" || k === "group") && button("Clear the filter", () => {
        for (const key of Object.keys(filter)) delete filter[key];
        form.reset();
        begin();
      }));
    return more();
  }
  async function lookAtGroups() {
    const told = await get(path(seg) + "/groups");
    replace(groups, told.groups.length > 0 && groupsTable(seg, told.groups,
      (group, reason) => {
        Object.assign(filter, { group, reason });
        begin();
      }));
  }
  function again() {
    lookAtGroups().catch(failed(groups));
    showTrend(seg, "day", trend).catch(failed(trend));
    begin();
  }

  const text = h("input", { type: "search", placeholder: "Text in it",
    "aria-label": "Text in payload, error, group or key" });
  const member = h("input", { type: "search", placeholder: "customer.id=42",
    "aria-label": "A field of the payload and its value, path=value" });
  const age = h("select", { "aria-label": "Age" }, AGES.map(
    ([value, title]) => h("option", { value }, title)));
  const form = h("form", { class: "tools", role: "search",
    onsubmit: (event) => {
      event.preventDefault();
      Object.assign(filter, { text: text.value, field: member.value,
        age: age.value });
      begin();
    } }, text, member, age, h("button", {}, "Search"));

  replace(main, h("p", { class: "back" }, h("a", { href: "#/dead" },
    "Dead letters")), h("h1", {}, "Dead letters of ",
    h("bdi", {}, f.unsegment(seg))), trend, groups, form, about,
  session.writable && h("p", { class: "actions" },
    button("Replay these …", () => replayDialog(seg, filter)),
    button("Purge these …", () => purgeDialog(seg, filter, again),
      { class: "danger" })),
  list);
  again();
}

export function deadLetter(main, seg, number) {
  const at = `${path(seg)}/items/${number}`;
  const back = "#/dead/" + seg;
  record(main, {
    title: `Dead letter ${number}`, path: at,
    back: h("a", { href: back }, h("bdi", {}, f.unsegment(seg))),
    actions: (r) => session.writable && [
      !r.damaged && button("Replay", async () => {
        if (await perform(() => post(at + "/retry"),
          `Dead letter ${number} is back in its queue`)) location.hash = back;
      }),
      !r.damaged && r.queue && button("Edit and push …",
        () => pushAgain(f.segment(r.queue), at)),
      button("Remove …", async () => {
        if (await confirm({
          title: `Remove dead letter ${number}`, action: "Remove",
          text: "It is removed for good.", act: () => remove(at),
          done: () => `Dead letter ${number} is removed`,
        })) location.hash = back;
      }, { class: "danger" })],
  });
}
