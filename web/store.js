// SPDX-License-Identifier: MIT
//
// The store: its figures, its health, and its check on request.

import { button, h, replace } from "./dom.js";
import * as f from "./format.js";
import { get, post } from "./api.js";
import { facts, STACK, table } from "./table.js";

function tell(place) {
  return (err) => replace(place, h("p", { class: "bad", role: "alert" },
    err.message));
}

function mean(histogram) {
  return histogram && histogram.count
    ? histogram.sum / histogram.count : null;
}

function figures(s) {
  const p = (share) => f.duration(f.quantile(s.commits, share));
  return facts([
    ["Place", h("bdi", {}, f.visible(s.path)), "long"],
    ["Id", f.shown(s.id), "long"],
    ["File", f.bytes(s.file_bytes)], ["Used", f.bytes(s.used_bytes)],
    ["Limit", f.bytes(s.max_bytes)], ["Address space", f.bytes(s.map_bytes)],
    ["Disk free", f.bytes(s.available_bytes)],
    s.disk_full && ["Disk", h("strong", { class: "bad" }, "full")],
    ["Readers", `${f.number(s.readers)} of ${f.number(s.max_readers)}`],
    ["Last transaction", f.number(s.last_txn)],
    ["Commits of this process", f.number(s.commits && s.commits.count)],
    s.commits && s.commits.count > 0 && ["Commit p50, p95",
      `≤ ${p(0.5)}, ≤ ${p(0.95)}`],
    s.journal_flushes > 0 && ["Journal: items", f.number(s.journal_items)],
    s.journal_flushes > 0 && ["Journal: bytes", f.bytes(s.journal_bytes)],
    s.journal_flushes > 0 && ["Journal: flushes",
      f.number(s.journal_flushes)],
    s.commit_operations && s.commit_operations.count > 0 &&
      ["Operations a commit", mean(s.commit_operations).toFixed(1)],
  ]);
}

const value = (v) => typeof v === "object" ? JSON.stringify(v)
  : typeof v === "number" ? String(Math.round(v * 1000) / 1000) : String(v);

const KINDS = { healthy: "good", degraded: "warn", unhealthy: "bad" };

function status(text) {
  return h("span", { class: "mark " + (KINDS[text] || "") }, text || "–");
}

const COMPONENTS = [
  { title: "Part", class: "name", cell: ([name]) => h("bdi", {}, name) },
  { title: "Status", cell: ([, part]) => status(part.status) },
  { title: "Figures", cell: ([, part]) => Object.entries(part)
    .filter(([key, v]) => key !== "status" && v !== null)
    .map(([key, v]) => [h("span", { class: "figure" },
      f.visible(key).replace(/_/g, " "), " ", h("b", {}, f.visible(value(v)))),
    " "]) },
];

function health(told) {
  const { queues, buffers, ...rest } = told.components;
  const named = (kind, of) => Object.entries(of || {}).map(([name, part]) =>
    [kind + f.visible(name), part]);
  return [h("p", {}, status(told.status)), table("Parts, and the queues that " +
    "are not healthy", COMPONENTS, [...named("", rest),
    ...named("queue ", queues), ...named("buffer of ", buffers)], STACK)];
}

export function store(main) {
  const about = h("div"), state = h("div"), found = h("div",
    { role: "status" });
  let gone = false;
  async function look() {
    if (gone || document.hidden) return;
    replace(about, figures(await get("store")));
    replace(state, health(await get("health")));
  }
  async function check() {
    replace(found, h("p", {}, "Checking …"));
    const { findings } = await post("store/check");
    replace(found, findings.length ? h("ul", {}, findings.map(
      (line) => h("li", { class: "bad" }, f.visible(line))))
      : h("p", { class: "good" }, "No damage found."));
  }
  replace(main, h("h1", {}, "Store"), about, h("h2", {}, "Health"), state,
    h("h2", {}, "Check"), h("p", {}, "Reads the whole store and verifies ",
      "every record. It changes nothing, and takes a while for a large one."),
    h("p", { class: "actions" }, button("Check now",
      () => check().catch(tell(found)))), found);
  look().catch(tell(about));
  const timer = setInterval(() => look().catch(tell(state)), 10000);
  return () => {
    gone = true;
    clearInterval(timer);
  };
}
