// SPDX-License-Identifier: MIT
//
// Schedules: their last and next ticks; running now, pausing, removing.

import { button, h, replace } from "./dom.js";
import * as f from "./format.js";
import { get, now, post, remove, session } from "./api.js";
import { announce, confirm, perform } from "./dialog.js";
import { empty, STACK, table } from "./table.js";

const path = (s) => "schedules/" + f.segment(s.name);

function actions(s, look) {
  if (!session.writable) return "";
  const act = (verb, done) => async () => {
    await perform(() => post(`${path(s)}/${verb}`), done);
    look();
  };
  return h("p", { class: "actions" },
    button("Run now", act("run", (told) => `Item ${told.id} is pushed`)),
    s.paused ? button("Resume", act("resume", "Resumed"))
      : button("Pause", act("pause", "Paused")),
    button("Remove …", async () => {
      if (await confirm({
        title: "Remove the schedule", action: "Remove",
        text: "It has no more ticks. Items that it pushed stay.",
        act: () => remove(path(s)),
        done: () => `Schedule ${f.shown(s.name)} is removed`,
      })) look();
    }, { class: "danger" }));
}

function next(s) {
  if (s.paused) return "paused";
  return s.next_at ? `${f.time(s.next_at)} (in ${
    f.duration(Math.max(0, s.next_at - now()))})` : "never";
}

const columns = (look) => [
  { title: "Name", class: "name", cell: (s) => h("bdi", {}, f.shown(s.name)) },
  { title: "When", cell: (s) => [h("code", {}, s.cron), " ", s.timezone] },
  { title: "Queue", class: "name", cell: (s) => h("a", {
    href: "#/queue/" + f.segment(s.queue) },
  h("bdi", {}, f.shown(s.queue))) },
  { title: "Next", cell: next },
  { title: "Last", class: "wide", cell: (s) => f.time(s.last_at) },
  { title: "Fired", class: "right wide", cell: (s) => f.number(s.fired) },
  { title: "Missed", class: "right wide", cell: (s) =>
    f.number(s.missed_ticks) },
  { title: "", cell: (s) => actions(s, look) },
];

export function schedules(main) {
  const place = h("div");
  async function look() {
    try {
      const told = (await get("schedules")).schedules;
      replace(place, told.length
        ? table("Schedules", columns(look), told, STACK)
        : empty("No schedules."));
    } catch (err) {
      announce(err.message, true);
    }
  }
  replace(main, h("h1", {}, "Schedules"), place);
  look();
}
