// SPDX-License-Identifier: MIT
//
// The settings of a queue, and changing them one by one.

import { button, field, h, replace } from "./dom.js";
import * as f from "./format.js";
import { get, post, session } from "./api.js";
import { announce, ask, ready } from "./dialog.js";
import { table } from "./table.js";

function written(name, value) {
  if (value === null) return "no limit";
  if (name === "dead_letter" && value === false) return "the queue's own";
  return typeof value === "object" ? f.visible(JSON.stringify(value))
    : f.shown(String(value));
}

async function change(seg, name, value, after) {
  if (!await ready()) return;
  const input = h("textarea", { rows: 3, spellcheck: "false", required: true,
    value: JSON.stringify(value) });
  const asked = () => JSON.stringify({ [name]: JSON.parse(input.value) });
  await ask({
    title: `Change ${name}`, action: "Change",
    body: field(`${name}, in JSON`, input, "Numbers are seconds, bytes or " +
      'counts; "5m" and "64KiB" are understood, too; null is no limit.'),
    submit: async () => {
      const { changes } = await post(`queues/${seg}/policy`, asked());
      announce(changes.length ? `${name} is changed`
        : `${name} was that already`);
      after();
    },
  });
}

// A list that is read once it is opened.
export function policy(seg) {
  const place = h("div");
  async function look() {
    const told = await get(`queues/${seg}/policy`);
    const columns = [
      { title: "Setting", class: "name", cell: ([name]) => name },
      { title: "Value", cell: ([name, value]) => h("bdi", {},
        written(name, value)) },
    ];
    if (session.writable) columns.push({ title: "", class: "right",
      cell: ([name, value]) => button("Change …",
        () => change(seg, name, value, again),
        { "aria-label": `Change ${name} …` }) });
    replace(place, table("Settings of the queue", columns,
      Object.entries(told).sort(([a], [b]) => a < b ? -1 : 1)));
  }
  function again() {
    return look().catch((err) => announce(err.message, true));
  }
  return h("details", { class: "policy", ontoggle: (event) => {
    if (event.target.open && !place.firstChild) again();
  } }, h("summary", {}, "Policy"), place);
}
