// SPDX-License-Identifier: MIT
//
// Who works on the queues: what each has in hand, since when, and asking it to
// stop.

import { button, h, refresh, replace } from "./dom.js";
import * as f from "./format.js";
import { get, now, post, session } from "./api.js";
import { perform } from "./dialog.js";
import { progress } from "./record.js";
import { empty, STACK, table } from "./table.js";

const OFTEN = 2000; // milliseconds

function leases(w) {
  if (!w.leases.length) return "nothing";
  const seg = f.segment(w.queue);
  return h("ul", { class: "leases" }, w.leases.map((l) => h("li", {},
    h("a", { href: `#/queue/${seg}/item/${l.id}` }, `item ${l.id}`),
    l.items > 1 && ` and ${f.number(l.items - 1)} more`,
    ", lease until " + f.time(l.expires_at),
    l.progress && [`; item ${l.progress.id}: `,
      h("bdi", {}, progress(l.progress))])));
}

function stop(w, after) {
  if (!session.writable || w.state !== "running") return "";
  return button("Ask to stop", async () => {
    await perform(() => post(`workers/${w.number}/stop`),
      `Worker ${w.number} stops after the item in hand`);
    after();
  });
}

const columns = (after) => [
  { title: "Worker", class: "right wide", cell: (w) => String(w.number) },
  { title: "Name", class: "name", cell: (w) => h("bdi", {}, f.shown(w.name)) },
  { title: "Queue", class: "name", cell: (w) => h("a", {
    href: "#/queue/" + f.segment(w.queue) },
  h("bdi", {}, f.shown(w.queue))) },
  { title: "State", class: "wide", cell: (w) => w.state },
  { title: "Where", class: "wide", cell: (w) =>
    [h("bdi", {}, f.shown(w.host)), ", process " + w.pid] },
  { title: "Since", class: "right wide", cell: (w) =>
    f.duration(now() - w.started_at) },
  { title: "In hand", cell: leases },
  { title: "", cell: (w) => stop(w, after) },
];

export function workers(main) {
  const place = h("div");
  async function look(draw) {
    if (document.hidden) return;
    try {
      const told = (await get("workers")).workers;
      draw(place, told.length ? table("Workers", columns(acted), told, STACK)
        : empty("Nobody works on this store."));
    } catch { /* the state of the connection is shown above */ }
  }
  const acted = () => look(replace);
  replace(main, h("h1", {}, "At work"), place);
  acted();
  const timer = setInterval(look, OFTEN, refresh);
  return () => clearInterval(timer);
}
