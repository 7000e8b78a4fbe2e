// SPDX-License-Identifier: MIT
//
// Named replays: how far they are, and stopping, resuming and forgetting them.

import { button, h, replace } from "./dom.js";
import * as f from "./format.js";
import { live, now, onLook, post, remove, session } from "./api.js";
import { confirm, perform } from "./dialog.js";
import { empty, STACK, table } from "./table.js";

const path = (r) => "replays/" + f.segment(r.name);

function progress(r) {
  if (r.state !== "running" || r.history || !r.upto) return f.number(r.seen);
  return [h("progress", { max: r.upto, value: r.cursor,
    "aria-label": "progress" }), " ", f.number(r.seen)];
}

function actions(r) {
  if (!session.writable) return "";
  if (r.state === "running")
    return button("Stop", () => perform(() => post(path(r) + "/cancel"),
      `Replay ${f.shown(r.name)} is stopped`));
  return [
    r.asked && r.state !== "finished" && button("Resume", () => perform(
      () => post(path(r) + "/resume"),
      `Replay ${f.shown(r.name)} goes on`)),
    " ", button("Forget …", () => confirm({
      title: "Forget the replay", action: "Forget",
      text: "Its counts and its place are forgotten. Dead letters stay where " +
        "they are.",
      act: () => remove(path(r)),
      done: () => `Replay ${f.shown(r.name)} is forgotten`,
    }))];
}

const COLUMNS = [
  { title: "Name", class: "name", cell: (r) => h("bdi", {}, f.shown(r.name)) },
  { title: "From", class: "name", cell: (r) => r.history
    ? ["history of ", h("bdi", {}, f.shown(r.dlq))]
    : h("a", { href: "#/dead/" + f.segment(r.dlq) },
      h("bdi", {}, f.shown(r.dlq))) },
  { title: "To", class: "wide", cell: (r) => r.to
    ? h("bdi", {}, f.shown(r.to))
    : r.history ? h("bdi", {}, f.shown(r.dlq)) : "each one's own queue" },
  { title: "State", cell: (r) => [r.state,
    r.asked && r.asked.change && h("small", {}, ", changes payloads"),
    r.failure &&
    h("span", { class: "bad" }, " ", f.visible(r.failure))] },
  { title: "Seen", class: "right", cell: progress },
  { title: "Moved", class: "right", cell: (r) => f.number(r.moved) },
  { title: "Skipped", class: "right wide", cell: (r) => f.number(r.skipped) },
  { title: "Failed", class: "right wide", cell: (r) => f.number(r.failed) },
  { title: "Updated", class: "right wide", cell: (r) =>
    f.duration(now() - r.updated_at) + " ago" },
  { title: "", cell: actions },
];

// What is drawn, so that a button that is used stays.
const signature = () => JSON.stringify(live.replays);

export function replays(main) {
  const place = h("div");
  let drawn = null;
  function draw() {
    if (drawn === signature()) return;
    drawn = signature();
    replace(place, live.replays.length
      ? table("Named replays", COLUMNS, live.replays, STACK)
      : empty("No named replays."));
  }
  replace(main, h("h1", {}, "Replays"), place);
  draw();
  return onLook(draw);
}
