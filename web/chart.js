// SPDX-License-Identifier: MIT
//
// Lines over time.

import { svg, h } from "./dom.js";

const WIDTH = 120, HEIGHT = 24;

function path(values, top, width, height) {
  const step = width / Math.max(values.length - 1, 1);
  return values.map((v, i) => (i ? "L" : "M") + (i * step).toFixed(1) + " " +
    (height - 1 - v / top * (height - 2)).toFixed(1)).join("");
}

// A line of a row, that update(values) draws; the text says the same.
export function sparkline(label) {
  const line = svg("path", { class: "line" });
  const title = svg("title", {}, label);
  const element = svg("svg", {
    class: "spark", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img",
    preserveAspectRatio: "none",
  }, title, line);
  function update(values) {
    const top = Math.max(...values, 0) || 1;
    line.setAttribute("d", path(values, top, WIDTH, HEIGHT));
    title.textContent = `${label}: now ${(values.at(-1) || 0).toFixed(1)}, ` +
      `at most ${Math.max(...values, 0).toFixed(1)}`;
  }
  return { element, update };
}

// A chart of several lines, [{ key, label }], with a legend.
export function chart(title, lines, format) {
  const width = 600, height = 140;
  const paths = lines.map((l, i) => svg("path", { class: "line l" + i }));
  const values = lines.map(() => h("b", {}));
  const most = h("span", { class: "most" });
  const picture = svg("svg", {
    viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": title,
    preserveAspectRatio: "none",
  }, paths);
  const element = h("figure", { class: "chart" },
    h("figcaption", {}, h("strong", {}, title), most,
      lines.map((l, i) => h("span", { class: "key l" + i }, l.label, " ",
        values[i]))),
    picture);
  function update(samples) {
    const top = Math.max(...lines.flatMap(
      (l) => samples.map((s) => s[l.key])), 0) || 1;
    most.textContent = "top " + format(top);
    lines.forEach((l, i) => {
      const list = samples.map((s) => s[l.key]);
      paths[i].setAttribute("d", path(list, top, width, height));
      values[i].textContent = format(list.at(-1) || 0);
    });
  }
  return { element, update };
}
