// SPDX-License-Identifier: MIT
//
// One item or dead letter, whole: its fields, the history of its failures,
// headers, and the payload as a tree and as text.

import { button, h, replace } from "./dom.js";
import * as f from "./format.js";
import { get, getBlob, getText, now } from "./api.js";
import { announce } from "./dialog.js";
import { facts } from "./table.js";

const LARGE = 2 ** 20; // bytes of a payload that is not drawn by itself
const MANY = 200;      // members of an object that are drawn at once

function leaf(value) {
  if (typeof value === "string")
    return h("span", { class: "string" }, f.visible(value));
  return h("span", { class: "plain" }, String(value));
}

function sizeOf(value) {
  if (Array.isArray(value)) return `list of ${value.length}`;
  const n = Object.keys(value).length;
  return n === 1 ? "1 member" : n + " members";
}

function members(list, entries, from) {
  for (const [name, value] of entries.slice(from, from + MANY))
    list.append(h("li", {}, node(name, value)));
  if (entries.length <= from + MANY) return;
  const more = h("li", {}, button(
    `${entries.length - from - MANY} more`, () => {
      more.remove();
      members(list, entries, from + MANY);
    }));
  list.append(more);
}

// A value under its name; what it holds is drawn once it is opened.
function node(name, value, open) {
  const label = h("bdi", { class: "name" }, f.visible(name));
  if (value === null || typeof value !== "object")
    return [label, ": ", leaf(value)];
  const list = h("ul");
  const details = h("details", {}, h("summary", {}, label, " ",
    h("small", {}, sizeOf(value))), list);
  function onopen() {
    if (details.open && !list.firstChild)
      members(list, Object.entries(value), 0);
  }
  details.addEventListener("toggle", onopen);
  details.open = Boolean(open);
  if (open) onopen();
  return details;
}

function tree(name, value) {
  return h("div", { class: "tree" }, node(name, value, true));
}

async function download(path, name) {
  try {
    const url = URL.createObjectURL(await getBlob(path));
    h("a", { href: url, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(url), 10000);
  } catch (err) {
    announce(err.message, true);
  }
}

// The payload, as a tree or as text; one that is large when it is asked for.
function payload(record, path) {
  const place = h("div", { "aria-live": "off" });
  async function asText() {
    replace(place, h("pre", { tabindex: 0 },
      f.visible(await getText(path + "/payload?as=json"))));
  }
  async function asTree() {
    const value = "payload" in record ? record.payload
      : (await get(path)).payload;
    replace(place, value === undefined
      ? h("p", { class: "empty" }, "The bytes cannot be decoded.")
      : tree("payload", value));
  }
  const shownBy = (show) => async () => {
    try {
      await show();
    } catch (err) {
      return announce(err.message, true);
    }
    treeButton.setAttribute("aria-pressed", show === asTree);
    textButton.setAttribute("aria-pressed", show === asText);
  };
  const name = path.split("/").at(-1);
  const element = h("section", {}, h("h2", {}, "Payload"),
    h("p", { class: "actions" }, button("Tree", shownBy(asTree)),
      button("Text", shownBy(asText)),
      button("Download", () => download(path + "/payload", "payload-" + name)),
      h("small", {}, f.bytes(record.payload_bytes))),
    place);
  const [treeButton, textButton] = element.querySelectorAll("button");
  if (record.payload_bytes > LARGE)
    replace(place, h("p", {}, "This payload is large. It begins: "),
      h("pre", {}, f.visible(record.preview)));
  else
    shownBy(asTree)();
  return element;
}

function failure(one) {
  return h("li", {}, h("time", {}, f.time(one.at)), " ",
    one.group && h("b", {}, f.shown(one.group)), " ", f.shown(one.error),
    one.trace && h("details", {}, h("summary", {}, "Trace"),
      h("pre", {}, f.visible(f.shown(one.trace)))));
}

function history(record) {
  if (!record.history || !record.history.length) return null;
  const rest = record.failures - record.history.length;
  return h("section", {}, h("h2", {}, "Failures"),
    h("ol", { class: "failures" }, record.history.map(failure)),
    rest > 0 && h("p", {}, `and ${f.number(rest)} between them`));
}

function moment(at) {
  if (!at) return null;
  const ago = now() - at;
  return f.time(at) + (ago >= 0 ? ` (${f.duration(ago)} ago)`
    : ` (in ${f.duration(-ago)})`);
}

// How far a handler has come, as a text.
export function progress({ done, text, at }) {
  return [done !== undefined && `${Math.round(done * 100)} %`, f.shown(text),
    moment(at)].filter(Boolean).join(", ");
}

const DUE = { leased: "Lease until", scheduled: "Due", retrying: "Due" };

function fields(r) {
  const text = (value) => h("bdi", {}, f.shown(value));
  const optional = (name, value) => value ? [name, value, "long"] : null;
  return facts([
    optional("State", r.state), optional("Reason", r.reason),
    optional(DUE[r.state] || "Visible", moment(r.visible_at)),
    r.error && ["Error", text(r.error), "long"],
    r.group && ["Group", text(r.group), "long"],
    r.worker && ["Worker", text(r.worker.name
      ? `${r.worker.name}, process ${r.worker.pid} on ${r.worker.host}`
      : `${r.worker.number}, which is gone`), "long"],
    r.progress && ["Progress", text(progress(r.progress)), "long"],
    ["Pushed", moment(r.pushed_at) || "–", "long"],
    optional("Died", moment(r.died_at)),
    optional("Done", moment(r.done_at)),
    optional("Expires", moment(r.expires_at)),
    ["Attempts", f.number(r.attempts)], ["Deliveries", f.number(r.deliveries)],
    ["Crashes", f.number(r.crashes)], ["Replays", f.number(r.replays)],
    ["Priority", f.number(r.priority)],
    r.partition && ["Partition", text(r.partition), "long"],
    r.version > 0 && ["Version", f.number(r.version)],
    r.key && ["Key", text(r.key), "long"],
    r.origin && ["Origin", [text(r.origin.queue), ` ${r.origin.id}, `,
      f.time(r.origin.pushed_at)], "long"],
    optional("Codec", r.codec && f.shown(r.codec)),
    optional("Memo", r.memo && text(r.memo)),
    r.damaged && ["Damaged", "yes: the bytes are all there is"],
  ]);
}

async function draw(main, { title, path, back, actions }) {
  const brief = await get(path + "?brief=true");
  const whole = brief.payload_bytes > LARGE ? brief
    : { ...brief, ...await get(path) };
  replace(main, h("p", { class: "back" }, back), h("h1", {}, title),
    h("p", { class: "actions" }, actions(whole)), fields(whole),
    history(whole),
    whole.headers && h("section", {}, h("h2", {}, "Headers"),
      tree("headers", whole.headers)),
    payload(whole, path));
}

// Draws a record that lies at a path of the server; `actions` are buttons.
export function record(main, o) {
  draw(main, o).catch((err) => replace(main,
    h("p", { class: "back" }, o.back), h("h1", {}, o.title),
    h("p", { class: "bad", role: "alert" }, err.message)));
}
