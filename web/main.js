// SPDX-License-Identifier: MIT
//
// The page: its views by the part of the address behind '#', and the
// connection that keeps them up to date.

import { h, replace, say } from "./dom.js";
import { follow, get, live, onLook, session, setToken } from "./api.js";
import { askToken } from "./dialog.js";
import { visible } from "./format.js";
import { overview } from "./overview.js";
import { item } from "./item.js";
import { finished, queue } from "./queue.js";
import { deadLetter, deadLetters, dlqs } from "./dead.js";
import { replays } from "./replays.js";
import { schedules } from "./schedules.js";
import { store } from "./store.js";
import { workers } from "./workers.js";

const NAV = [["#/", "Queues"], ["#/dead", "Dead letters"],
  ["#/workers", "At work"], ["#/schedules", "Schedules"],
  ["#/replays", "Replays"], ["#/store", "Store"]];

const VIEWS = [
  [/^#\/queue\/([^/]+)\/item\/(\d+)$/, item],
  [/^#\/queue\/([^/]+)\/finished$/, finished],
  [/^#\/queue\/([^/]+)$/, queue],
  [/^#\/dead\/([^/]+)\/(\d+)$/, deadLetter],
  [/^#\/dead\/([^/]+)$/, deadLetters],
  [/^#\/dead$/, dlqs],
  [/^#\/workers$/, workers],
  [/^#\/schedules$/, schedules],
  [/^#\/replays$/, replays],
  [/^#\/store$/, store],
];

const main = document.getElementById("main");
let leave = null;

function drawNav() {
  replace(document.getElementById("nav"), NAV.map(([href, title]) => {
    const here = href === "#/" ? /^#\/(queue\/.*)?$/.test(location.hash)
      : location.hash.startsWith(href);
    return h("a", { href, "aria-current": here ? "page" : null }, title);
  }));
}

function show() {
  if (!location.hash.startsWith("#/")) {
    history.replaceState(null, "", "#/");
  }
  if (leave) leave();
  drawNav();
  const [hash] = location.hash.split("?");
  const found = VIEWS.find(([form]) => form.test(hash));
  const args = found ? hash.match(found[0]).slice(1) : [];
  leave = (found ? found[1] : overview)(main, ...args) || null;
  document.title = (main.querySelector("h1")?.textContent || "") + " · respool";
}

const STATES = { connecting: "connecting …", live: "live",
  lost: "no connection" };

function drawState() {
  const state = document.getElementById("live");
  say(state, live.trouble ? visible(live.trouble) : STATES[live.state]);
  state.className = live.trouble ? "lost" : live.state;
}

// A token in the address, as respool console --writable prints it, is taken
// out of it at once.
function takeToken() {
  const given = location.hash.match(/^#token=(\w+)$/);
  if (given) setToken(given[1]);
  if (given) history.replaceState(null, "", "#/");
}

async function begin() {
  takeToken();
  for (;;) {
    try {
      Object.assign(session, await get("session"));
      break;
    } catch (err) {
      if (err.status === 401) await askToken();
      else await new Promise((go) => setTimeout(go, 2000));
    }
  }
  say(document.getElementById("where"), visible(session.store) +
    (session.writable ? "" : " (only looks)"));
  onLook(drawState);
  addEventListener("hashchange", () => {
    show();
    main.focus({ preventScroll: true });
    scrollTo(0, 0);
  });
  show();
  follow(askToken);
}

begin();
