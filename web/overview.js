// SPDX-License-Identifier: MIT
//
// All queues, the sick first.

import { button, h, replace, say } from "./dom.js";
import * as f from "./format.js";
import { live, now, onLook } from "./api.js";
import { sparkline } from "./chart.js";
import { empty } from "./table.js";
import { lastHour } from "./trend.js";

const FEW = 200; // rows that are drawn unless all are asked for

function age(q) {
  return q.oldest ? Math.max(0, now() - q.oldest) : null;
}

// How much a queue needs somebody: 0, it does not.
function sickness(q) {
  return (q.damaged ? 8 : 0) + (q.fill > 0.9 ? 4 : 0) +
    (q.rates.failed > 0 ? 3 : 0) + (age(q) > 3600 ? 2 : 0) +
    (q.dead ? 1 : 0) + (q.paused ? 0.5 : 0);
}

const by = (value) => (a, b) => (value(b) || 0) - (value(a) || 0);

const SORTS = {
  sick: ["The sick first", by(sickness)],
  name: ["Name", () => 0],
  ready: ["Ready", by((q) => q.ready)],
  dead: ["Dead", by((q) => q.dead)],
  oldest: ["Oldest", by(age)],
  done: ["Done a second", by((q) => q.rates.done)],
  failed: ["Failed a second", by((q) => q.rates.failed)],
};

const COLUMNS = [
  ["Queue", "name"], ["Ready", "right"], ["Leased", "right wide"],
  ["Scheduled", "right wide"], ["Retrying", "right wide"], ["Dead", "right"],
  ["Oldest", "right"], ["Done/s", "right wide"], ["Failed/s", "right wide"],
  ["Done, last hour", "wide chartcell"],
];

// What is to be known of a queue, as marks: [text, kind].
export function marksOf(q) {
  const marks = [];
  if (q.paused) marks.push(["paused", "warn"]);
  if (q.held_until)
    marks.push(["held until " + f.time(q.held_until).slice(11), "warn"]);
  if (q.breaker !== "closed")
    marks.push(["breaker " + q.breaker.replace("_", " "), "warn"]);
  if (q.fill > 0.9) marks.push(["full " + f.percent(q.fill), "bad"]);
  if (q.damaged) marks.push([f.number(q.damaged) + " damaged", "bad"]);
  return marks;
}

// Draws marks in an element, unless they are there.
export function drawMarks(place, marks) {
  const text = marks.map(([said]) => said).join(", ");
  if (place.dataset.text === text) return;
  place.dataset.text = text;
  replace(place, marks.map(([said, kind]) =>
    [" ", h("span", { class: "mark " + kind }, said)]));
}

// A number in a cell, or in what lies in it; one that is none stands back.
function figure(cell, text, place) {
  say(place || cell, text);
  cell.classList.toggle("none", text === "0" || text === "–");
}

// The row of a queue, which update(q) writes.
function newRow(q) {
  const cells = COLUMNS.map(([, kind]) => h("td", { class: kind }));
  const name = h("a", { href: "#/queue/" + q.seg },
    h("bdi", {}, f.shown(q.name)));
  const marks = h("span", { class: "marks" });
  const dead = h("a", { href: "#/dead/" + q.seg });
  const line = sparkline("done a second");
  name.title = f.shown(q.name);
  cells[0].append(marks, name);
  cells[5].append(dead);
  cells[9].append(line.element);
  const element = h("tr", {}, cells);
  function update(q) {
    const texts = [, f.number(q.ready), f.number(q.leased),
      f.number(q.scheduled), f.number(q.retrying), , f.duration(age(q)),
      f.rate(q.rates.done), f.rate(q.rates.failed)];
    texts.forEach((text, i) => figure(cells[i], text));
    figure(cells[5], f.number(q.dead), dead);
    drawMarks(marks, marksOf(q));
    element.className = sickness(q) >= 1 ? "sick" : "";
    line.update(past.get(q.seg) || []);
  }
  return { element, update };
}

function totals(queues) {
  const sum = (name) => queues.reduce((n, q) => n + q[name], 0);
  const rate = (name) => queues.reduce((n, q) => n + q.rates[name], 0);
  return [
    ["Queues", f.number(queues.length)], ["Ready", f.number(sum("ready"))],
    ["Leased", f.number(sum("leased"))],
    ["Scheduled", f.number(sum("scheduled"))],
    ["Retrying", f.number(sum("retrying"))],
    ["Dead", f.number(sum("dead")), sum("dead") > 0],
    ["Done/s", f.rate(rate("done"))],
    ["Failed/s", f.rate(rate("failed")), rate("failed") > 0],
    ["Disk used", live.store ? f.bytes(live.store.used_bytes) : "–"],
    ["Disk free", live.store ? f.bytes(live.store.available_bytes) : "–",
      live.store && live.store.disk_full],
  ];
}

let past = new Map(); // what queues have done in the last hour

const chosen = { filter: "", sort: "sick" }; // kept while the page is open

export function overview(main) {
  const rows = new Map();
  let all = false, shownNow = [];
  const tiles = h("dl", { class: "tiles" });
  const filter = h("input", { type: "search", placeholder: "Filter queues",
    "aria-label": "Filter queues by name", value: chosen.filter,
    oninput: () => { chosen.filter = filter.value; draw(); } });
  const sort = h("select", { "aria-label": "Sort by",
    onchange: () => { chosen.sort = sort.value; draw(); } },
  Object.entries(SORTS).map(([key, [title]]) =>
    h("option", { value: key, selected: key === chosen.sort }, title)));
  const body = h("tbody");
  const more = h("p");
  const nothing = h("div");

  function matching() {
    const wanted = chosen.filter.toLowerCase();
    const found = [...live.queues.values()].filter(
      (q) => f.shown(q.name).toLowerCase().includes(wanted));
    found.sort((a, b) => SORTS[chosen.sort][1](a, b) ||
      f.shown(a.name).localeCompare(f.shown(b.name)));
    return found;
  }

  // Rows stay where they are while somebody points at one of them, or is there
  // with the keyboard.
  function inPlace(queues) {
    if (!body.matches(":hover") && !body.contains(document.activeElement))
      return queues;
    const left = new Set(queues), kept = [];
    for (const { seg } of shownNow)
      for (const q of queues)
        if (q.seg === seg && left.delete(q)) kept.push(q);
    return kept.concat([...left]);
  }

  function place(wanted) {
    const queues = inPlace(wanted);
    shownNow = queues;
    queues.forEach((q, i) => {
      if (!rows.has(q.seg)) rows.set(q.seg, newRow(q));
      const row = rows.get(q.seg);
      row.update(q);
      if (body.children[i] !== row.element)
        body.insertBefore(row.element, body.children[i] || null);
    });
    while (body.children.length > queues.length) body.lastChild.remove();
  }

  function draw() {
    const found = matching();
    const few = all ? found : found.slice(0, FEW);
    replace(tiles, totals([...live.queues.values()]).map(
      ([name, value, bad]) => h("div", { class: bad && "bad" },
        h("dt", {}, name), h("dd", {}, value))));
    place(few);
    if (few.length === found.length) more.replaceChildren();
    else if (!more.firstChild)
      more.append(button(`Show all ${f.number(found.length)}`,
        () => { all = true; draw(); }));
    if (found.length || !live.now) nothing.replaceChildren();
    else if (!nothing.firstChild) nothing.append(empty("No queues here."));
  }

  replace(main, h("h1", {}, "Overview"), tiles,
    h("div", { class: "tools", role: "search" }, filter, sort),
    h("div", { class: "scroll" }, h("table", { class: "queues" },
      h("caption", { class: "hidden" }, "Queues"),
      h("thead", {}, h("tr", {}, COLUMNS.map(([title, kind]) =>
        h("th", { scope: "col", class: kind }, title)))), body)),
    nothing, more);
  function look() {
    draw();
    lastHour().then((fresh) => { past = fresh; }, () => {});
  }
  look();
  return onLook(look);
}
