// SPDX-License-Identifier: MIT
//
// Tables. A column has a title, perhaps a class ("right", "wide": not on narrow
// screens), and cell(row), which returns text or an element.

import { h } from "./dom.js";

export function table(caption, columns, rows, attributes) {
  return h("div", { class: "scroll" }, h("table", attributes,
    h("caption", {}, caption),
    h("thead", {}, h("tr", {}, columns.map((c) =>
      h("th", { scope: "col", class: c.class }, c.title)))),
    h("tbody", {}, rows.map((row) => h("tr", {}, columns.map((c) =>
      h("td", { class: c.class }, c.cell(row))))))));
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
