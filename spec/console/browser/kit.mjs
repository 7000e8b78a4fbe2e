// SPDX-License-Identifier: MIT
//
// What the page's specs share: a store, `respool console` on it, a browser, and
// specs that are counted as spec/run counts.

import { execFileSync, spawn } from "node:child_process";
import { createRequire } from "node:module";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const build = process.env.RESPOOL_BUILD;
const require = createRequire(join(build, "console/x.js"));
const { chromium } = require("playwright-core");

export const shots = join(build, "console/screenshots");
const LUA = "lua5.4", HERE = "spec/console/browser/";

const dir = mkdtempSync(join(tmpdir(), "respool-page."));
const running = [];

export function lua(code, ...args) {
  return execFileSync(LUA, ["-e", code, "/dev/null", ...args],
    { encoding: "utf8" });
}

export function makeStore(name, ...args) {
  const path = join(dir, name);
  execFileSync(LUA, [HERE + "store.lua", path, ...args]);
  return path;
}

// A worker that has two items of a queue in hand until it is stopped.
export function work(store, queue) {
  const code = `local s = require "respool".open(arg[1], { log = false })
    local q = s:queue(arg[2]) q:push_many { 1, 2 }
    q:work_batches(function(batch)
      batch[2]:progress(0.4, "at the anvil")
      print "in hand" io.stdout:flush()
      io.read "*a" end, { batch = 2, name = "smith" })`;
  const worker = spawn(LUA, ["-e", code, "/dev/null", store, queue],
    { stdio: ["pipe", "pipe", "inherit"] });
  running.push(worker);
  return new Promise((resolve) => worker.stdout.once("data", resolve));
}

// Starts a console; resolves to its process and the address it prints.
export function serve(store, ...words) {
  const server = spawn(LUA, ["bin/respool", "console", store, "--listen", "0",
    ...words], { stdio: ["ignore", "pipe", "inherit"] });
  running.push(server);
  return new Promise((resolve, reject) => {
    let said = "";
    server.stdout.on("data", (text) => {
      said += text;
      const url = said.match(/at (http\S+)\n/);
      if (url) resolve({ url: url[1], server,
        origin: url[1].replace(/#.*/, "") });
    });
    server.on("exit", () => reject(new Error("the console ended: " + said)));
  });
}

const browser = await chromium.launch({
  executablePath: "/usr/bin/chromium-headless-shell",
  args: process.getuid() === 0 ? ["--no-sandbox"] : [],
});

// A page at an address. What it asks of others, and what goes wrong in it, is
// kept in `problems`.
export async function open({ url, origin }, options) {
  const page = await browser.newPage({
    viewport: { width: 1280, height: 900 }, ...options });
  page.setDefaultTimeout(10000);
  page.problems = [];
  const note = (text) => page.problems.push(text);
  page.on("pageerror", (err) => note(err.message));
  page.on("dialog", (dialog) => {
    note("a script has run: " + dialog.message());
    dialog.dismiss();
  });
  page.on("console", (m) => {
    if (m.type() === "error" && !m.text().startsWith("Failed to load resource"))
      note(m.text());
  });
  page.on("request", (r) => {
    if (!r.url().startsWith(origin) && !r.url().startsWith("blob:"))
      note("asked of another: " + r.url());
  });
  await page.goto(url);
  await page.waitForSelector("#live.live");
  return page;
}

export async function goTo(page, hash) {
  await page.evaluate((to) => { location.hash = to; }, hash);
  await page.waitForFunction(() => document.querySelector("main h1"));
}

mkdirSync(shots, { recursive: true });

const counts = { passed: 0, failed: 0 };

export async function it(sentence, body) {
  try {
    await body();
    counts.passed++;
  } catch (err) {
    counts.failed++;
    console.log("FAILED: the page " + sentence + "\n" + err.stack);
  }
}

export async function end() {
  await browser.close();
  for (const server of running) {
    server.removeAllListeners("exit");
    server.kill("SIGKILL");
  }
  rmSync(dir, { recursive: true });
  console.log(`${counts.passed} passed, ${counts.failed} failed`);
  process.exit(counts.failed || !counts.passed ? 1 : 0);
}
