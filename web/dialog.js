// SPDX-License-Identifier: MIT
//
// Dialogs, and what the page says of actions.

import { button, field, h, replace } from "./dom.js";
import { hasToken, session, setToken } from "./api.js";

// Says something to everybody, screen readers among them, for a while.
let until = null;
export function announce(text, bad) {
  const said = document.getElementById("said");
  replace(said, h("p", { class: bad ? "bad" : "good" }, text));
  clearTimeout(until);
  until = setTimeout(() => said.replaceChildren(), bad ? 15000 : 6000);
}

// Opens a dialog with a form; resolves to true when it was submitted and
// submit() did not fail, to false when it was closed.
export function ask({ title, body, action, danger, submit }) {
  return new Promise((resolve) => {
    const problem = h("p", { class: "bad", role: "alert" });
    const go = h("button", { class: danger ? "danger" : "main" }, action);
    async function onsubmit(event) {
      event.preventDefault();
      go.disabled = true;
      try {
        await submit();
        dialog.close("done");
      } catch (err) {
        problem.textContent = err.message;
      }
      go.disabled = false;
    }
    const dialog = h("dialog", { "aria-label": title },
      h("form", { onsubmit }, h("h2", {}, title), body, problem,
        h("p", { class: "actions" },
          button("Close", () => dialog.close()), go)));
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "done");
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

// Asks for the token, which is then kept by the browser until its tab closes.
export function askToken() {
  const input = h("input", { type: "password", autocomplete: "off",
    required: true });
  return ask({
    title: "Token", action: "Use it",
    body: field("Token", input, "Of --token-file, or printed by respool " +
      "console --writable. It is kept until this tab is closed."),
    submit: async () => setToken(input.value.trim()),
  });
}

// Whether actions can be tried: asks for the token where the server wants one.
export async function ready() {
  return !session.token || hasToken() || askToken();
}

// Performs an action and says what came of it.
export async function perform(action, done) {
  try {
    if (!await ready()) return false;
    const told = await action();
    announce(typeof done === "function" ? done(told) : done);
    return true;
  } catch (err) {
    if (err.status === 401) setToken(null);
    announce(err.message, true);
    return false;
  }
}

// A dialog before an action that cannot be undone; `word` must be typed.
export async function confirm({ title, text, action, word, act, done }) {
  if (!await ready()) return false;
  const typed = word && h("input", { autocomplete: "off", required: true });
  return ask({
    title, action, danger: true,
    body: [h("p", {}, text), word && field(`Type ${word} to confirm`, typed)],
    submit: async () => {
      if (word && typed.value !== word)
        throw new Error("That is not " + word);
      announce(done(await act()));
    },
  });
}
