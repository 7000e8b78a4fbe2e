// SPDX-License-Identifier: MIT
//
// The console's page in a real browser: its views in all widths, light and
// dark, what is live, what acts, the keyboard, and names and payloads that
// would be markup.

import assert from "node:assert/strict";
import { join } from "node:path";
import { end, goTo, it, lua, makeStore, open, serve, shots, work }
  from "./kit.mjs";

const store = makeStore("store");
await work(store, "workshop");
const at = await serve(store, "--writable");
const page = await open(at);

const said = (text) => page.waitForFunction(
  (t) => document.getElementById("said").textContent.includes(t), text);
const row = (name) => page.locator("tbody tr", {
  has: page.getByRole("link", { name, exact: true }) });
const press = (name) => page.getByRole("button", { name, exact: true }).click();
const dialog = () => page.locator("dialog");
const inDialog = (name) => dialog().getByRole("button", { name, exact: true });

function ask(code) {
  return lua(`local s = require "respool".open(arg[1], { log = false,
    create = false }) io.write(tostring((function() ${code} end)()))
    s:close()`, store).trim();
}


// Views.

const VIEWS = [
  ["overview", "#/"], ["queue", "#/queue/mails"], ["busy", "#/queue/busy"],
  ["item", "#/queue/mails/item/42"], ["finished", "#/queue/orders/finished"],
  ["dlqs", "#/dead"], ["dead letters", "#/dead/mails"],
  ["dead letter", "#/dead/mails/2"], ["replays", "#/replays"],
  ["workers", "#/workers"], ["schedules", "#/schedules"], ["store", "#/store"], ["partitions", "#/queue/tenants"],
];

// Everything that can be used must have a name; ids are used once.
function nameless() {
  const list = document.querySelectorAll(
    "a, button, input, select, textarea, summary, progress, [role=img]");
  const name = (e) => e.getAttribute("aria-label") || e.textContent.trim() ||
    (e.labels && e.labels[0] && e.labels[0].textContent.trim());
  return [...list].filter((e) => !name(e)).map((e) => e.outerHTML);
}

for (const [width, colorScheme] of [[360, "light"], [360, "dark"],
  [1280, "light"], [1280, "dark"], [2560, "light"], [2560, "dark"]]) {
  await it(`fits ${width} pixels, ${colorScheme}`, async () => {
    await page.setViewportSize({ width, height: 900 });
    await page.emulateMedia({ colorScheme });
    for (const [name, hash] of VIEWS) {
      await goTo(page, hash);
      await page.waitForTimeout(250);
      await page.screenshot({ fullPage: true, path: join(shots,
        `${name.replace(" ", "-")}-${width}-${colorScheme}.png`) });
      const wide = await page.evaluate(
        () => document.scrollingElement.scrollWidth);
      assert.ok(wide <= width, `${name} is ${wide} pixels wide`);
      assert.deepEqual(await page.evaluate(nameless), [], name);
    }
  });
}
await page.setViewportSize({ width: 1280, height: 900 });
await page.emulateMedia({ colorScheme: "light" });

// The texts whose colour is too near that of what lies behind: WCAG 2.1 AA
// wants 4.5 : 1, of large ones 3 : 1.
function pale() {
  const parse = (css) => css.match(/[\d.]+/g).map(Number);
  const over = ([r, g, b, a = 1], [r2, g2, b2]) =>
    [r * a + r2 * (1 - a), g * a + g2 * (1 - a), b * a + b2 * (1 - a)];
  const light = (rgb) => {
    const [r, g, b] = rgb.map((v) => v / 255).map(
      (v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (e) => {
    if (!e) return [255, 255, 255];
    const own = parse(getComputedStyle(e).backgroundColor);
    return own[3] === 0 ? behind(e.parentElement)
      : over(own, own[3] === undefined ? own : behind(e.parentElement));
  };
  const found = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const e = walk.currentNode.parentElement, style = getComputedStyle(e);
    if (!walk.currentNode.data.trim() || !e.checkVisibility() ||
        e.closest("svg, script, noscript")) continue;
    const back = behind(e), front = over(parse(style.color), back);
    const [a, b] = [light(front), light(back)].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    const size = parseFloat(style.fontSize), bold = style.fontWeight >= 700;
    if (ratio < (size >= 24 || size >= 18.6 && bold ? 3 : 4.5))
      found.push(`${e.className} "${walk.currentNode.data.slice(0, 30)}" ` +
        ratio.toFixed(2));
  }
  return found;
}

await it("can be read by those who see colours less well", async () => {
  for (const colorScheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme });
    for (const [name, hash] of VIEWS) {
      await goTo(page, hash);
      await page.waitForTimeout(100);
      assert.deepEqual(await page.evaluate(pale), [], `${name} ${colorScheme}`);
    }
  }
  await page.emulateMedia({ colorScheme: "light" });
});

await it("is told by a screen reader", async () => {
  const of = (role, name) => page.getByRole(role, { name });
  for (const [name, hash] of VIEWS) {
    await goTo(page, hash);
    await page.waitForTimeout(100);
    assert.equal(await page.getByRole("heading", { level: 1 }).count(), 1);
    assert.equal(await page.getByRole("main").count(), 1);
    assert.equal(await page.locator("table:not(:has(caption))").count(), 0,
      name);
    assert.equal(await page.locator("th:not([scope])").count(), 0, name);
  }
  assert.equal(await of("navigation", "Views").count(), 1);
  assert.equal(await page.locator("nav [aria-current=page]").count(), 1);
  await goTo(page, "#/queue/mails");
  for (const name of ["Items a second", "Backlog", "Times"])
    await of("img", new RegExp("^" + name)).waitFor();
  assert.equal(await page.locator("#said[aria-live=polite]").count(), 1);
  assert.equal(await page.locator("#live[role=status]").count(), 1);
});

await it("shows names and payloads as text", async () => {
  for (const [, hash] of VIEWS) {
    await goTo(page, hash);
    await page.waitForTimeout(100);
    assert.equal(await page.evaluate(() => window.hacked), undefined);
    assert.equal(await page.locator("main script, main img").count(), 0);
  }
  await goTo(page, "#/");
  assert.ok(await row("\\u202etxt.exe").count());
  assert.ok(await row("bytes\\xffname").count());
  await page.getByRole("link", { name: "bytes\\xffname" }).click();
  await page.getByRole("heading", { name: "Items" }).waitFor();
  await page.getByRole("link", { name: "1", exact: true }).click();
  await page.locator(".tree").getByText("3").waitFor();
});

await it("does not draw a large payload unless asked", async () => {
  await goTo(page, "#/queue/mails/item/43");
  await page.getByText("This payload is large").waitFor();
  assert.ok((await page.content()).length < 1e5);
  await press("Text");
  await page.waitForFunction(() =>
    document.querySelector("main pre").textContent.length > 2 ** 20);
});

await it("tells every digit of a number", async () => {
  await goTo(page, "#/queue/mails/item/42");
  await press("Text");
  await page.getByText('"exact": 1234567890123456').waitFor();
});


// Live.

await it("follows the store", async () => {
  await goTo(page, "#/");
  const cell = row("orders").locator("td").nth(1);
  await cell.getByText("8", { exact: true }).waitFor();
  ask(`s:queue("orders"):push_many { 1, 2, 3 } return ""`);
  await cell.getByText("11", { exact: true }).waitFor();
});

await it("asks once for the last hour, and then for what is new", async () => {
  const asked = await page.evaluate(async () => {
    const { lastHour } = await import("./trend.js");
    const fetched = window.fetch, clock = performance.now.bind(performance);
    const urls = [], before = JSON.stringify([...await lastHour()].length);
    window.fetch = (url, o) => { urls.push(url); return fetched(url, o); };
    performance.now = () => clock() + 61000;
    const after = JSON.stringify([...await lastHour()].length);
    window.fetch = fetched;
    delete performance.now;
    return { urls, before, after };
  });
  assert.equal(asked.after, asked.before);
  assert.equal(asked.urls.length, 1);
  assert.match(asked.urls[0], /^api\/trend\?since=\d+$/);
});

await it("filters and sorts queues", async () => {
  await goTo(page, "#/");
  await page.getByLabel("Filter queues by name").fill("ORD");
  assert.equal(await page.locator("tbody tr").count(), 1);
  await page.getByLabel("Filter queues by name").fill("");
  await page.mouse.move(0, 0); // rows stay where they are under a pointer
  for (const [sort, busy] of [["name", false], ["ready", true]]) {
    await page.getByLabel("Sort by").selectOption(sort);
    await page.waitForFunction((is) => is === (document.querySelector(
      "tbody tr a").textContent === "busy"), busy);
  }
  await page.getByLabel("Sort by").selectOption("sick");
});


// Acting.

await it("keeps the token out of the address", async () => {
  assert.ok(at.url.includes("#token="));
  assert.ok(!page.url().includes("token"));
});

await it("pauses and resumes", async () => {
  await goTo(page, "#/queue/orders");
  await press("Pause");
  await press("Resume");
  await said("Resumed");
  assert.equal(ask(`return s:queue("orders"):stats().paused`), "false");
});

await it("pushes, edits and pushes again, and removes", async () => {
  await goTo(page, "#/queue/orders");
  await press("Push an item …");
  await dialog().getByLabel("Payload").fill('{"order":');
  await inDialog("Push").click();
  await dialog().getByRole("alert").filter({ hasText: "JSON" }).waitFor();
  await dialog().getByLabel("Payload").fill('{"order":"mine"}');
  await inDialog("Push").click();
  await said("Item 24 is pushed");
  await goTo(page, "#/queue/orders/item/24");
  await press("Edit and push again …");
  await dialog().getByLabel("Payload").fill('{"order":"mended"}');
  await inDialog("Push").click();
  await said("Item 25 is pushed");
  await goTo(page, "#/queue/orders/item/24");
  await press("Remove …");
  await inDialog("Remove").click();
  await said("Item 24 is removed");
  assert.equal(ask(`return s:queue("orders"):get(25).payload.order`),
    "mended");
  assert.equal(ask(`return (s:queue("orders"):get(24))`), "nil");
});

await it("searches items", async () => {
  await goTo(page, "#/queue/mails");
  await page.getByPlaceholder("customer.id=42").fill("n=33");
  await press("Search");
  await page.getByRole("link", { name: "33", exact: true }).waitFor();
  await page.waitForFunction(
    () => document.querySelectorAll(".items tbody tr").length === 1);
});

await it("shows the partitions of a queue", async () => {
  await goTo(page, "#/queue/tenants");
  const cells = (name) => page.locator("tbody tr", { hasText: name })
    .locator("td");
  await page.getByRole("heading", { name: "Partitions" }).waitFor();
  assert.equal(await cells("tenant-12").nth(1).textContent(), "12");
  assert.match(await cells("tenant-07").nth(4).textContent(),
    /^for \d+ min, 429 of <script>/);
  await page.getByLabel("Order of partitions").selectOption("By key");
  await page.waitForFunction(() => document.querySelector(
    "section tbody td").textContent.startsWith("<script>"));
});

await it("changes the policy of a queue", async () => {
  await goTo(page, "#/queue/holiday");
  await page.getByText("Policy", { exact: true }).click();
  await press("Change max_attempts …");
  await dialog().getByLabel("max_attempts").fill('"many"');
  await inDialog("Change").click();
  await dialog().getByRole("alert").filter({ hasText: "max_attempts" })
    .waitFor();
  await dialog().getByLabel("max_attempts").fill("null");
  await inDialog("Change").click();
  await said("max_attempts is changed");
  await row("max_attempts").or(page.locator("tr", { hasText: "max_attempts" }))
    .getByText("no limit").waitFor();
  assert.equal(ask(`return s:queue("holiday"):config().max_attempts`), "inf");
});

await it("drops a queue, after it said what goes with it", async () => {
  ask(`s:queue("passing"):push_many { 1, 2 } return ""`);
  await goTo(page, "#/queue/passing");
  await press("Drop …");
  await dialog().getByText("its 2 items are removed").waitFor();
  await dialog().getByLabel("Type").fill("passing");
  await inDialog("Drop").click();
  await said("Queue passing is removed");
  assert.ok(!ask(`return table.concat(s:queues(), " ")`).includes("passing"));
});

await it("purges a queue whose name was typed", async () => {
  await goTo(page, "#/queue/bytes%FFname");
  await page.getByRole("heading", { name: "Items" }).waitFor();
  await goTo(page, "#/queue/orders");
  await press("Purge …");
  await dialog().getByLabel("Type").fill("order");
  await inDialog("Purge").click();
  await dialog().getByRole("alert").filter({ hasText: "not" }).waitFor();
  await dialog().getByLabel("Type").fill("orders");
  await inDialog("Purge").click();
  await said("items are removed");
  assert.equal(ask(`return s:queue("orders"):length().ready`), "0");
});

await it("replays and removes one dead letter", async () => {
  await goTo(page, "#/dead/mails/1");
  await page.getByRole("heading", { name: "Failures" }).waitFor();
  await press("Replay");
  await said("back in its queue");
  await goTo(page, "#/dead/mails/3");
  await press("Remove …");
  await inDialog("Remove").click();
  await said("Dead letter 3 is removed");
  assert.equal(ask(`return s:dead("mails"):count()`), "6");
});

await it("shows when the dead letters of each group died", async () => {
  await goTo(page, "#/dead/busy");
  const trend = page.locator("tbody tr", { has: page.getByRole("button",
    { name: "past", exact: true }) }).getByRole("img");
  const [, text] = (await trend.textContent()).match(/last day: (.*)/);
  const hours = text.split(", ").map(Number);
  assert.equal(hours.length, 24);
  assert.equal(hours.reduce((a, b) => a + b), 32);
  assert.ok(hours.filter((n) => n > 0).length >= 3);
});

await it("shows the newest dead letter of each group", async () => {
  await goTo(page, "#/dead/mails");
  const group = page.locator("tbody tr", {
    has: page.getByRole("button", { name: "HTTP 410", exact: true }) });
  await group.getByText("HTTP 410: gone").waitFor();
  await group.getByRole("link").click();
  await page.getByRole("heading", { name: "Failures" }).waitFor();
  await page.getByText("HTTP 410: gone").first().waitFor();
});

await it("replays a group, with a preview, and forgets the replay",
  async () => {
    await goTo(page, "#/dead/mails");
    await press("HTTP 410");
    await page.getByText('Shown: dead letters of group "HTTP 410"').waitFor();
    await press("Replay these …");
    await press("Preview");
    await dialog().getByText("3 would be moved").waitFor();
    await dialog().getByLabel("Name").fill("again");
    await page.screenshot({ path: join(shots, "replay-dialog.png") });
    await inDialog("Replay").click();
    await said("Replay again is running");
    await row("again").or(page.locator("tbody tr")).getByText("finished")
      .waitFor();
    assert.equal(ask(`return s:dead("mails"):count()`), "3");
    await press("Forget …");
    await inDialog("Forget").click();
    await page.getByText("No named replays").waitFor();
  });

await it("shows payloads before and after a change, and replays so",
  async () => {
    await goTo(page, "#/dead/typos");
    await press("Replay these …");
    const change = dialog().getByLabel("Change payloads");
    await change.fill("{");
    await press("Preview");
    await dialog().getByRole("alert").filter({ hasText: "JSON" }).waitFor();
    await change.fill('{"to":"ops@example.org","n":null}');
    await press("Preview");
    const one = dialog().locator(".change").first();
    const texts = one.locator("pre");
    assert.match(await texts.nth(0).textContent(), /"to": "user\d+@/);
    assert.match(await texts.nth(0).textContent(), /"n": \d/);
    assert.match(await texts.nth(1).textContent(), /"to": "ops@/);
    assert.ok(!(await texts.nth(1).textContent()).includes('"n"'));
    assert.equal(ask(`return s:dead("typos"):count()`), "3");
    await page.screenshot({ path: join(shots, "change-dialog.png") });
    await dialog().getByLabel("At most, in all").fill("1");
    await dialog().getByLabel("Name").fill("mend");
    await inDialog("Replay").click();
    await said("Replay mend is running");
    await page.locator("tbody tr", { hasText: "mend" }).getByText("stopped")
      .waitFor();
    assert.equal(ask(`for item in s:queue("typos"):each() do
      if item.payload.to == "ops@example.org" then return item.payload.n end
      end return "none"`), "nil");
    await press("Forget …");
    await inDialog("Forget").click();
    await page.getByText("No named replays").waitFor();
  });

await it("stops and resumes a replay", async () => {
  await goTo(page, "#/dead/mails");
  await press("Replay these …");
  await dialog().getByLabel("Name").fill("slow");
  await dialog().getByLabel("A second, at most").fill("0.2");
  await inDialog("Replay").click();
  await press("Stop");
  await said("Replay slow is stopped");
  await press("Resume");
  await said("Replay slow goes on");
  await press("Stop");
  await page.getByRole("button", { name: "Resume" }).waitFor();
});

await it("purges what a filter shows, and no more", async () => {
  const before = Number(ask(`return s:dead("mails"):count()`));
  await goTo(page, "#/dead/mails");
  await page.getByPlaceholder("Text in it").fill("user21@");
  await press("Search");
  await page.waitForFunction(
    () => document.querySelectorAll(".items tbody tr").length === 1);
  await press("Purge these …");
  await dialog().getByText("1 are removed for good").waitFor();
  await dialog().getByLabel("Type").fill("1");
  await inDialog("Purge").click();
  await said("1 are removed");
  assert.equal(Number(ask(`return s:dead("mails"):count()`)), before - 1);
});

await it("runs now, edits, moves and kills items", async () => {
  await goTo(page, "#/queue/mails/item/41");
  await press("Run now");
  await said("Item 41 is due now");
  await press("Edit …");
  await dialog().getByLabel("Payload").fill('{"edited":true}');
  await inDialog("Save").click();
  await said("Item 41 is changed");
  await page.locator(".tree").getByText("edited").waitFor();
  await press("Move …");
  await dialog().getByLabel("To the queue").selectOption({ label: "holiday" });
  await inDialog("Move").click();
  await said("It is item 1 there");
  await page.getByRole("link", { name: "holiday", exact: true }).waitFor();
  assert.equal(ask(`return s:queue("holiday"):get(1).payload.edited`), "true");
  await press("Kill …");
  await dialog().getByLabel("Why").fill("by hand");
  await inDialog("Kill").click();
  await said("Item 1 is a dead letter");
  assert.equal(ask(`return s:dead("holiday"):list()[1].error`), "by hand");
});

await it("shows who works, and cancels what they have in hand", async () => {
  await goTo(page, "#/workers");
  const worker = page.locator("tbody tr", { hasText: "smith" });
  await worker.getByText("item 2: 40 %, at the anvil").waitFor();
  await worker.getByRole("link", { name: "item 1", exact: true }).click();
  await press("Cancel …");
  await inDialog("Cancel it").click();
  await said("Item 1 is cancelled");
  assert.equal(ask(`return (s:queue("workshop"):get(1))`), "nil");
  await goTo(page, "#/workers");
  await worker.getByRole("button", { name: "Ask to stop" }).click();
  await said("stops after the item in hand");
  await worker.getByText("stopping").waitFor();
});

await it("runs, pauses and removes a schedule", async () => {
  await goTo(page, "#/schedules");
  await press("Run now");
  await said("Item 1 is pushed");
  await press("Pause");
  await page.getByRole("cell", { name: "paused" }).waitFor();
  await press("Resume");
  await press("Remove …");
  await inDialog("Remove").click();
  await page.getByText("No schedules").waitFor();
  assert.equal(ask(`return s:queue("reports"):length().ready`), "1");
});

await it("shows the past of a queue", async () => {
  await goTo(page, "#/queue/busy");
  for (const title of ["The last hour", "The last day", "The last month"]) {
    await page.getByLabel("Time", { exact: true }).selectOption(title);
    await page.waitForFunction(() => /done \S+, at most [\d.]*[1-9]/.test(
      document.querySelector(".chart [role=img]").ariaLabel));
    await page.screenshot({ fullPage: true,
      path: join(shots, title.split(" ").at(-1) + ".png") });
  }
});

await it("shows when the dead letters of a queue died", async () => {
  await goTo(page, "#/dead/busy");
  await page.getByText("The last day: dead letters a second").waitFor();
  await page.getByRole("img", { name: /died \S+, at most [\d.]*[1-9]/ })
    .waitFor();
});

// What a chart says of itself: from when to when its line goes, and how high.
const line = () => page.locator(".chart [role=img]").first()
  .getAttribute("aria-label");

// How many seconds a chart shows.
const span = () => page.evaluate(() => {
  const [from, to] = document.querySelector(".chart [role=img]").ariaLabel
    .match(/\d{4}-\d\d-\d\d \d\d:\d\d:\d\d/g) || [0, 0];
  return (new Date(to) - new Date(from)) / 1000;
});

await it("draws the time that was chosen last", async () => {
  let go;
  const held = new Promise((resolve) => { go = resolve; });
  await page.route(/trend.*span=1h/, async (route) => {
    await held;
    await route.continue();
  });
  await goTo(page, "#/queue/busy");
  const range = page.getByLabel("Time", { exact: true });
  const late = page.waitForResponse(/trend.*span=1h/);
  await range.selectOption("The last month");
  const next = page.waitForResponse(/trend.*span=1m/);
  await range.selectOption("The last hour");
  await (await next).finished();
  while (await span() < 3000) await page.waitForTimeout(50);
  const before = await line();
  go();
  await (await late).finished();
  await page.evaluate(() => fetch("api/session").then((r) => r.text()));
  assert.equal(await line(), before);
  await page.unroute(/trend.*span=1h/);
});

await it("checks the store", async () => {
  await goTo(page, "#/store");
  await press("Check now");
  await page.getByText("No damage found").waitFor();
});


// Keyboard, trouble, and other consoles.

await it("is used by the keyboard", async () => {
  await goTo(page, "#/");
  await page.reload();
  await page.waitForSelector("#live.live");
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.className),
    "skip");
  await page.getByRole("link", { name: "holiday" }).focus();
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: "holiday" }).waitFor();
  assert.equal(await page.evaluate(() => document.activeElement.id), "main");
  await page.getByRole("button", { name: "Push an item …" }).focus();
  await page.keyboard.press("Enter");
  await dialog().waitFor();
  await page.keyboard.press("Escape");
  await dialog().waitFor({ state: "detached" });
  assert.equal(await page.evaluate(() =>
    document.activeElement.textContent), "Push an item …");
});

await it("asks for the token when it is wrong", async () => {
  await page.evaluate(() => sessionStorage.setItem("respool-token", "wrong"));
  await page.reload();
  await page.waitForSelector("#live.live");
  await goTo(page, "#/queue/holiday");
  await press("Resume");
  await said("token is missing or wrong");
  await press("Resume");
  await dialog().getByLabel("Token").fill(at.url.split("token=")[1]);
  await inDialog("Use it").click();
  await said("Resumed");
});

await it("has had no trouble, and asked nobody else", async () => {
  assert.deepEqual(page.problems, []);
});

await it("says when its server is gone", async () => {
  at.server.removeAllListeners("exit");
  at.server.kill("SIGKILL");
  await page.waitForSelector("#live.lost");
});
await page.close();

await it("of a console that only looks has nothing to act with", async () => {
  const looking = await open(await serve(store));
  for (const [, hash] of VIEWS) {
    await goTo(looking, hash);
    await looking.waitForTimeout(200);
    assert.equal(await looking.locator(".danger").count(), 0);
  }
  await looking.getByText("only looks").waitFor();
  await work(store, "kitchen");
  await goTo(looking, "#/workers");
  await looking.locator("tbody tr", { hasText: "kitchen" })
    .getByText("item 2: 40 %, at the anvil").waitFor();
  assert.deepEqual(looking.problems, []);
  await looking.close();
});

await it("is usable with 1,000 queues", async () => {
  const many = await open(await serve(makeStore("many", "1000")));
  await many.getByText("Show all 1,000").click();
  await many.waitForFunction(
    () => document.querySelectorAll("tbody tr").length === 1000);
  await many.getByLabel("Filter queues by name").fill("queue-0777");
  assert.equal(await many.locator("tbody tr").count(), 1);
  assert.deepEqual(many.problems, []);
  await many.close();
});

await end();
