// SPDX-License-Identifier: MIT
//
// Tables. A column has a title, perhaps a class ("right", "wide": not on narrow
// screens), and cell(row), which returns text or an element. A table of the
// class "stack" has its columns one under the other on narrow screens.

import { h } from "./dom.js";

export const STACK = { class: "stack" };

export function table(caption, columns, rows, attributes) {
  const inside = attributes === STACK ? (...c) => h("div", {}, ...c)
    : (...c) => c;
  return h("div", { class: "scroll" }, h("table", attributes,
    h("caption", {}, caption),
    h("thead", {}, h("tr", {}, columns.map((c) =>
      h("th", { scope: "col", class: c.class }, c.title)))),
    h("tbody", {}, rows.map((row) => h("tr", {}, columns.map((c) =>
      h("td", { class: c.class, "data-title": c.title },
        inside(c.cell(row)))))))));
}

// Names and values; a third element "long" gives a value more room.
export function facts(list) {
  return h("dl", { class: "facts" }, list.filter((f) => f).map(
    ([name, value, kind]) => h("div", { class: kind }, h("dt", {}, name),
      h("dd", {}, value))));
}

export function empty(text) {
  return h("p", { class: "empty" }, text);
}
