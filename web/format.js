// SPDX-License-Identifier: MIT
//
// Numbers, times and names as people read them.

const WHOLE = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const SHORT = new Intl.NumberFormat("en",
  { notation: "compact", maximumFractionDigits: 1 });

export function number(n) {
  if (n === null || n === undefined) return "–";
  return n < 1e6 ? WHOLE.format(n) : SHORT.format(n);
}

export function rate(n) {
  if (!n) return "0";
  if (n < 0.095) return String(Number(n.toPrecision(2)));
  return n < 10 ? n.toFixed(1) : number(n);
}

export function bytes(n) {
  if (n === null || n === undefined) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let i = 0;
  while (n >= 1024 && i < 4) {
    n /= 1024;
    i++;
  }
  return (i && n < 10 ? n.toFixed(1) : Math.round(n)) + " " + units[i];
}

export function duration(s) {
  if (s === null || s === undefined) return "–";
  if (s === Infinity) return "hours";
  if (s < 0.001) return s > 0 ? Math.round(s * 1e6) + " µs" : "0 s";
  if (s < 1) return Math.round(s * 1000) + " ms";
  if (s < 90) return Math.round(s) + " s";
  if (s < 5400) return Math.round(s / 60) + " min";
  if (s < 172800) return Math.round(s / 3600) + " h";
  return Math.round(s / 86400) + " d";
}

export function percent(part) {
  return part === null || part === undefined ? "–"
    : Math.round(part * 100) + " %";
}

// Seconds since 1970, in the time of the reader.
export function time(at) {
  if (!at) return "–";
  const d = new Date(at * 1000);
  const two = (n) => String(n).padStart(2, "0");
  return `${d.getFullYear()}-${two(d.getMonth() + 1)}-${two(d.getDate())} ` +
    `${two(d.getHours())}:${two(d.getMinutes())}:${two(d.getSeconds())}`;
}

const HIDDEN = new RegExp("[\\u0000-\\u0009\\u000b-\\u001f\\u007f-\\u009f" +
  "\\u061c\\u200b-\\u200f\\u2028-\\u202e\\u2060-\\u2069\\ufeff]", "g");

// Text whose control characters, and those that turn the direction of writing,
// are spelt; new lines stay.
export function visible(text) {
  return String(text).replace(HIDDEN,
    (c) => "\\u" + c.charCodeAt(0).toString(16).padStart(4, "0"));
}

function bytesOf(name) {
  return Array.from(atob(name.$base64), (c) => c.charCodeAt(0));
}

// A string of the store, which may be no text: then it came as base64.
export function shown(name) {
  if (name === null || name === undefined) return "";
  if (typeof name === "string") return visible(name).replace(/\n/g, "\\n");
  if (name.$base64 === undefined) return visible(JSON.stringify(name));
  return bytesOf(name).map((b) => b >= 32 && b < 127
    ? String.fromCharCode(b) : "\\x" + b.toString(16).padStart(2, "0"))
    .join("");
}

// The same as a segment of a path or a value of a query, by which things are
// known in this page.
export function segment(name) {
  if (typeof name === "string") return encodeURIComponent(name);
  return bytesOf(name).map((b) => "%" + b.toString(16).toUpperCase()
    .padStart(2, "0")).join("");
}

// What a segment stands for, as far as it is text.
export function unsegment(seg) {
  try {
    return visible(decodeURIComponent(seg));
  } catch {
    return seg;
  }
}

// The value below which a share of what a histogram counted lies.
export function quantile(histogram, share) {
  if (!histogram || !histogram.count) return null;
  let below = 0;
  for (const { upto, count } of histogram.buckets) {
    below += count;
    if (below >= histogram.count * share) return upto ?? Infinity;
  }
  return null;
}
