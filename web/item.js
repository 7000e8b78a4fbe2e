// SPDX-License-Identifier: MIT
//
// One item, and what can be done about it: run now, edit, move, kill, remove
// while it waits; cancel while somebody works on it.

import { button, field, h } from "./dom.js";
import * as f from "./format.js";
import { getText, live, post, query, remove, session } from "./api.js";
import { announce, ask, confirm, perform, ready } from "./dialog.js";
import { pushAgain } from "./queue.js";
import { record } from "./record.js";

// A dialog with the item's payload to be changed.
async function edit(at, id, again) {
  if (!await ready()) return;
  let text;
  try {
    text = (await getText(at + "/payload?as=json")).trim();
  } catch (err) {
    return announce(err.message, true);
  }
  const payload = h("textarea", { rows: 12, spellcheck: "false",
    required: true, value: text });
  await ask({
    title: `Edit item ${id}`, action: "Save",
    body: field("Payload, in JSON", payload),
    submit: async () => {
      JSON.parse(payload.value); // tells where it is wrong
      await post(at + "/payload", payload.value);
      announce(`Item ${id} is changed`);
      again();
    },
  });
}

async function move(at, id, seg) {
  if (!await ready()) return;
  const others = [...live.queues.values()].filter((q) => q.seg !== seg);
  const to = h("select", { required: true }, others.map((q) =>
    h("option", { value: q.seg }, f.shown(q.name))));
  await ask({
    title: `Move item ${id}`, action: "Move",
    body: field("To the queue", to, "It keeps its payload, attempts and " +
      "failures, and gets a new id there."),
    submit: async () => {
      const told = await post(at + "/move" + query({ "to=": to.value }));
      announce(`It is item ${told.id} there`);
      location.hash = `#/queue/${to.value}/item/${told.id}`;
    },
  });
}

async function kill(at, id, seg) {
  if (!await ready()) return;
  const error = h("input", { maxlength: 1000 });
  const done = await ask({
    title: `Kill item ${id}`, action: "Kill", danger: true,
    body: [h("p", {}, "It becomes a dead letter, which can be replayed."),
      field("Why", error, "The error of its last failure, if empty")],
    submit: () => post(at + "/kill" + query({ error: error.value || null })),
  });
  if (!done) return;
  announce(`Item ${id} is a dead letter`);
  location.hash = "#/dead/" + seg;
}

function cancel(at, id, seg) {
  return confirm({
    title: `Cancel item ${id}`, action: "Cancel it",
    text: "Whoever works on it is told, and what comes of it is refused. The " +
      "item is removed for good.",
    act: () => post(at + "/cancel"), done: () => `Item ${id} is cancelled`,
  }).then((done) => { if (done) location.hash = "#/queue/" + seg; });
}

async function removeItem(at, id, seg) {
  if (await confirm({
    title: `Remove item ${id}`, action: "Remove",
    text: "The item is removed for good.",
    act: () => remove(at), done: () => `Item ${id} is removed`,
  })) location.hash = "#/queue/" + seg;
}

export function item(main, seg, id) {
  const at = `queues/${seg}/items/${id}`;
  const draw = () => record(main, {
    title: `Item ${id}`, path: at,
    back: h("a", { href: "#/queue/" + seg },
      h("bdi", {}, f.unsegment(seg))),
    actions: (r) => session.writable && [
      ["scheduled", "retrying"].includes(r.state) && button("Run now",
        async () => await perform(() => post(at + "/run"),
          `Item ${id} is due now`) && draw()),
      r.state !== "leased" && [
        button("Edit …", () => edit(at, id, draw)),
        button("Move …", () => move(at, id, seg))],
      button("Edit and push again …", () => pushAgain(seg, at)),
      r.state === "leased" && button("Cancel …", () => cancel(at, id, seg),
        { class: "danger" }),
      r.state !== "leased" && [
        button("Kill …", () => kill(at, id, seg), { class: "danger" }),
        button("Remove …", () => removeItem(at, id, seg),
          { class: "danger" })]],
  });
  draw();
}
