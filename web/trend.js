// SPDX-License-Identifier: MIT
//
// The course of queues' figures, of the samples that the store keeps. They are
// as far apart as somebody took them; charts need points evenly spread.

import { segment } from "./format.js";
import { get, now, query } from "./api.js";

// By what the page calls them: seconds, the span of the samples, points drawn.
export const RANGES = {
  hour: { title: "The last hour", seconds: 3600, span: "1m", points: 60 },
  day: { title: "The last day", seconds: 86400, span: "1m", points: 288 },
  month: { title: "The last month", seconds: 31 * 86400, span: "1h",
    points: 248 },
};

// Spreads samples { since, at, ... } over `points` of the time from `begin` to
// `end`. make(some, last) gets those that end within a point, or the one that
// reaches over it, the last one that ended before or in it, and its time.
function spread(samples, begin, end, points, make) {
  const step = (end - begin) / points, list = [];
  let i = 0, last = null;
  for (let k = 1; k <= points; k++) {
    const upto = begin + k * step, some = [];
    while (i < samples.length && samples[i].at <= upto)
      some.push(last = samples[i++]);
    if (!some.length && samples[i]?.since < upto) some.push(samples[i]);
    list.push(make(some, last, upto));
  }
  return list;
}

// A count of samples as a rate a second.
function rate(some, count) {
  const seconds = some.reduce((sum, s) => sum + s.at - s.since, 0);
  return some.reduce((sum, s) => sum + count(s), 0) / Math.max(seconds, 1);
}

const most = (some, name) => Math.max(0, ...some.map((s) => s[name] || 0));

const point = (some, last, at) => ({
  at,
  pushed: rate(some, (s) => s.pushed), done: rate(some, (s) => s.done),
  died: rate(some, (s) => s.died),
  failed: rate(some, (s) => s.retried + s.died + s.crashed),
  backlog: last ? last.ready + last.leased + last.scheduled + last.retrying : 0,
  wait50: most(some, "wait_p50"), wait95: most(some, "wait_p95"),
  handle95: most(some, "handle_p95"),
});

// The points of one queue in a range.
export async function course(seg, range) {
  const { seconds, span, points } = RANGES[range];
  const told = await get("trend" + query({
    "queue=": seg, span, since: Math.floor(now() - seconds) }));
  return spread(told.trends, told.now - seconds, told.now, points, point);
}

// Of each queue its samples, by its segment, and when they were asked for.
const hour = { at: 0, told: null, samples: new Map(), queues: new Map() };
const AGAIN = 60000, LONG = 3600; // milliseconds; seconds

function keep(seg, samples, from) {
  const kept = (hour.samples.get(seg) || []).filter((s) => s.at > from);
  const last = kept.at(-1)?.at || 0;
  for (const [since, at, done] of samples)
    if (at > last) kept.push({ since, at, done });
  hour.samples.set(seg, kept);
}

// What all queues have done in the last hour, by their segments, as points of
// items a second; once a minute what is new is asked for.
export async function lastHour() {
  if (hour.at && performance.now() - hour.at < AGAIN) return hour.queues;
  hour.at = performance.now();
  const told = await get("trend" + query({ since: hour.told }));
  const fresh = new Map(told.queues.map(
    ({ queue, samples }) => [segment(queue), samples]));
  for (const seg of new Set([...hour.samples.keys(), ...fresh.keys()]))
    keep(seg, fresh.get(seg) || [], told.now - LONG);
  hour.told = Math.floor(told.now);
  hour.queues = new Map([...hour.samples].map(([seg, samples]) => [seg,
    spread(samples, told.now - LONG, told.now, 60,
      (some) => rate(some, (s) => s.done))]));
  return hour.queues;
}
