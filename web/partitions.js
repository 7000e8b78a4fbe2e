// SPDX-License-Identifier: MIT
//
// The partitions of a queue: who has items waiting, is held, or has used up
// its rate.

import { button, h, refresh, replace } from "./dom.js";
import * as f from "./format.js";
import { get, now, query } from "./api.js";
import { announce } from "./dialog.js";
import { empty, table } from "./table.js";

const PAGE = 100;

function held(p) {
  if (!p.held_until) return "";
  return ["for " + f.duration(Math.max(0, p.held_until - now())),
    p.held_for && [", ", h("bdi", {}, f.shown(p.held_for))]];
}

function allowed(p) {
  if (p.allowed === null || p.allowed === undefined) return "";
  return f.number(p.allowed);
}

const COLUMNS = [
  { title: "Partition", class: "name", cell: (p) =>
    h("bdi", {}, f.shown(p.key)) },
  { title: "Ready", class: "right", cell: (p) => f.number(p.ready) },
  { title: "Leased", class: "right", cell: (p) => f.number(p.leased) },
  { title: "Later", class: "right", cell: (p) => f.number(p.scheduled) },
  { title: "Held", class: "wide", cell: held },
  { title: "Rate allows", class: "right wide", cell: allowed },
  { title: "Breaker", class: "wide", cell: (p) => p.breaker === "closed" ? ""
    : p.breaker.replace("_", " ") },
];

const OFTEN = 5000; // milliseconds

// A section that is there while the queue has partitions: update(q) draws it.
export function partitions(seg) {
  const list = h("div"), more = h("p");
  const order = h("select", { "aria-label": "Order of partitions",
    onchange: begin }, h("option", { value: "size" }, "Most items first"),
  h("option", { value: "key" }, "By key"));
  const element = h("section", { hidden: true }, h("h2", {}, "Partitions"),
    h("div", { class: "tools" }, order), list, more);
  let found = [], looked = 0;

  async function page(after) {
    const told = await get(`queues/${seg}/partitions` + query({
      order: order.value, limit: PAGE, "after=": after && f.segment(after) }));
    return told.partitions;
  }
  function draw(by) {
    by(list, found.length ? table("Partitions with items, or held", COLUMNS,
      found) : empty("No partition has items."));
    replace(more, order.value === "key" && found.length > 0 &&
      found.length % PAGE === 0 && button("Look further", further));
  }
  async function further() {
    try {
      found = found.concat(await page(found.at(-1).key));
      draw(replace);
    } catch (err) {
      announce(err.message, true);
    }
  }
  async function look(by) {
    looked = performance.now();
    try {
      found = await page();
      draw(by);
    } catch { /* the state of the connection is shown above */ }
  }
  function begin() {
    return look(replace);
  }
  function update(q) {
    element.hidden = !(q.partitions > 0);
    const isFirst = found.length <= PAGE;
    if (!element.hidden && isFirst && performance.now() - looked > OFTEN)
      look(refresh);
  }
  return { element, update };
}
