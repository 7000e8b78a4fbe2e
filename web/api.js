// SPDX-License-Identifier: MIT
//
// What the page asks its server, and what the server keeps it up to date with.

import { segment } from "./format.js";

export const session = {};

let token = null;
try {
  token = sessionStorage.getItem("respool-token");
} catch { /* kept for this page alone */ }

export function setToken(given) {
  token = given || null;
  try {
    sessionStorage.setItem("respool-token", given || "");
  } catch { /* as above */ }
}

export function hasToken() {
  return Boolean(token);
}

// An error that the server told.
export class Refusal extends Error {
  constructor(status, told) {
    super(told.message || told.error || "HTTP " + status);
    this.status = status;
    this.code = told.error;
    this.told = told;
  }
}

function headers(more) {
  return token ? { ...more, Authorization: "Bearer " + token } : more;
}

async function request(method, path, body) {
  const acts = method !== "GET";
  const answer = await fetch("api/" + path, {
    method, body, cache: "no-store",
    headers: headers(acts ? { "X-Respool": "1" } : {}),
  });
  if (answer.ok) return answer;
  const text = await answer.text();
  let told = { message: text.slice(0, 200) };
  try {
    told = JSON.parse(text);
  } catch { /* no JSON: an answer of something between */ }
  throw new Refusal(answer.status, told);
}

// A query of the parameters that have a value. Values are segments already
// where their name ends in "=".
export function query(parameters) {
  const parts = [];
  for (const [name, value] of Object.entries(parameters)) {
    if (value === null || value === undefined) continue;
    if (name.endsWith("=")) parts.push(name + value);
    else parts.push(name + "=" + encodeURIComponent(value));
  }
  return parts.length ? "?" + parts.join("&") : "";
}

export async function get(path) {
  return (await request("GET", path)).json();
}

export async function getText(path) {
  return (await request("GET", path)).text();
}

export async function getBlob(path) {
  return (await request("GET", path)).blob();
}

export async function post(path, body) {
  return (await request("POST", path, body)).json();
}

export async function remove(path) {
  return (await request("DELETE", path)).json();
}


// Live figures.

export const live = {
  state: "connecting", now: 0, at: 0, queues: new Map(), store: null,
  replays: [], trouble: null,
};

const SAMPLES = 120; // of each queue, one a look
const listeners = new Set();

export function onLook(fn) {
  listeners.add(fn);
  return () => listeners.delete(fn);
}

function tell() {
  for (const fn of [...listeners]) fn();
}

// The time by the store's clock.
export function now() {
  return live.now + (performance.now() - live.at) / 1000;
}

const failures = (q) => q.retried + q.died + q.crashed;

function sample(queue, before, seconds, at) {
  const made = before && seconds > 0
    ? { done: Math.max(0, queue.done - before.done) / seconds,
        failed: Math.max(0, failures(queue) - failures(before)) / seconds,
        pushed: Math.max(0, queue.pushed - before.pushed) / seconds }
    : { done: 0, failed: 0, pushed: 0 };
  queue.rates = made;
  queue.samples = before ? before.samples : [];
  queue.samples.push({ ...made, at, backlog: queue.ready + queue.leased +
    queue.scheduled + queue.retrying });
  if (queue.samples.length > SAMPLES) queue.samples.shift();
}

function onEvent(look) {
  const seconds = live.now ? look.now - live.now : 0;
  const seen = new Set();
  for (const queue of look.queues) {
    queue.seg = segment(queue.name);
    seen.add(queue.seg);
    sample(queue, live.queues.get(queue.seg), seconds, look.now);
    live.queues.set(queue.seg, queue);
  }
  for (const name of look.gone) live.queues.delete(segment(name));
  for (const queue of live.queues.values())
    if (!seen.has(queue.seg)) sample(queue, queue, seconds, look.now);
  Object.assign(live, {
    now: look.now, at: performance.now(), store: look.store,
    replays: look.replays, state: "live", trouble: null,
  });
  tell();
}

function onBlock(block) {
  let name = "", data = "";
  for (const line of block.split("\n")) {
    if (line.startsWith("event: ")) name = line.slice(7);
    if (line.startsWith("data: ")) data += line.slice(6);
  }
  if (name === "look") onEvent(JSON.parse(data));
  if (name === "trouble") {
    live.trouble = JSON.parse(data).message;
    tell();
  }
}

async function listen() {
  const answer = await request("GET", "events");
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    blocks.forEach(onBlock);
  }
}

const AGAIN = 2000; // milliseconds

// Keeps `live` up to date for as long as the page is open. EventSource cannot
// send a token, so this reads the events itself.
export async function follow(onRefused) {
  for (;;) {
    try {
      await listen();
    } catch (problem) {
      if (problem.status === 401) await onRefused();
    }
    live.state = "lost";
    tell();
    await new Promise((go) => setTimeout(go, AGAIN));
  }
}
