// SPDX-License-Identifier: MIT
//
// Lines over time.

import { h, say, svg } from "./dom.js";
import { time } from "./format.js";
import uPlot from "./uplot.js";

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

// Bars of a row, one for each number, that update(values) draws.
export function sparkbars(label) {
  const bars = svg("path", { class: "bars" });
  const title = svg("title", {}, label);
  const element = svg("svg", {
    class: "spark", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img",
    preserveAspectRatio: "none",
  }, title, bars);
  function update(values) {
    const top = Math.max(...values, 1), step = WIDTH / values.length;
    bars.setAttribute("d", values.map((v, i) => {
      const tall = v ? Math.max(v / top * HEIGHT, 2) : 0;
      return `M${(i * step).toFixed(1)} ${HEIGHT}v${-tall.toFixed(1)}` +
        `h${(step * 0.8).toFixed(1)}v${tall.toFixed(1)}z`;
    }).join(""));
    title.textContent = `${label}: ${values.join(", ")}`;
  }
  return { element, update };
}


// Charts, drawn by uPlot in the colours of the style sheet.

const TALL = 150;
const plots = new Set(); // that are on the page

function color(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name);
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const plot of plots) {
    if (plot.root.isConnected) plot.redraw(false);
    else plots.delete(plot);
  }
});

// Times beside the axis, as finely as they are apart.
function moments(plot, splits, axis, space, apart) {
  return splits.map((at) => apart >= 86400 ? time(at).slice(5, 10)
    : time(at).slice(11, apart >= 60 ? 16 : 19));
}

const DASHES = [[], [6, 3], [2, 3]];

function axis(more) {
  return { stroke: () => color("--soft"), font: "12px system-ui, sans-serif",
    grid: { stroke: () => color("--rule"), width: 1 },
    ticks: { show: false }, ...more };
}

function options(lines, format, onCursor) {
  return {
    width: 300, height: TALL, legend: { show: false },
    cursor: { y: false, drag: { setScale: false, x: false, y: false },
      points: { size: 6 } },
    scales: { y: { range: (plot, least, most) => [0, (most || 1) * 1.05] } },
    axes: [axis({ values: moments, size: 24, space: 74 }),
      axis({ values: (plot, splits) => splits.map(format), size: 62 })],
    series: [{}, ...lines.map((l, i) => ({
      stroke: () => color("--l" + i), width: 1.5, dash: DASHES[i],
      fill: i === 0 ? () => color("--l0-area") : null,
      points: { show: false } }))],
    hooks: { setCursor: [onCursor] },
  };
}

// A chart of several lines, [{ key, label }], of points { at, key: value }:
// update(points) draws them. Its caption has the values of the last point, or
// of the one under the pointer.
export function chart(title, lines, format) {
  let points = [];
  const values = lines.map(() => h("b", {}));
  const when = h("span", { class: "when" });
  const picture = h("div", { role: "img" });
  const element = h("figure", { class: "chart" },
    h("figcaption", {}, h("strong", {}, title),
      lines.map((l, i) => h("span", { class: "key l" + i }, l.label, " ",
        values[i])), when), picture);
  const plot = new uPlot(options(lines, format, caption), [[], ...lines.map(
    () => [])], picture);

  function caption() {
    const at = plot && points[plot.cursor.idx];
    const shown = at || points.at(-1) || {};
    lines.forEach((l, i) => say(values[i], format(shown[l.key] || 0)));
    say(when, at ? time(at.at) : "");
  }
  function update(fresh) {
    points = fresh;
    const columns = lines.map((l) => points.map((p) => p[l.key]));
    plot.setData([points.map((p) => p.at), ...columns]);
    caption();
    if (!points.length) return picture.setAttribute("aria-label", title);
    picture.setAttribute("aria-label", `${title}, from ${time(points[0].at)} ` +
      `to ${time(points.at(-1).at)}: ` + lines.map((l, i) =>
      `${l.label} ${format(columns[i].at(-1) || 0)}, at most ` +
      format(Math.max(0, ...columns[i]))).join("; "));
  }
  plots.add(plot);
  picture.setAttribute("aria-label", title);
  new ResizeObserver(() => picture.clientWidth && plot.setSize(
    { width: picture.clientWidth, height: TALL })).observe(picture);
  return { element, update };
}
