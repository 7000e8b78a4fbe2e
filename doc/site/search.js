// SPDX-License-Identifier: MIT
// The search box: sections that have all the words, those first that have them
// in their title. INDEX is a list of [title, place, text].

const input = document.getElementById("search");
const found = document.getElementById("found");
const MOST = 20, AROUND = 60;

function search(text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  if (!words.length) return [];
  const hits = [];
  for (const [title, place, body] of INDEX) {
    const head = title.toLowerCase(), all = head + " " + body.toLowerCase();
    if (!words.every(word => all.includes(word))) continue;
    const inTitle = words.filter(word => head.includes(word)).length;
    const exact = words.some(word => head.endsWith(word)) ? 1 : 0;
    hits.push({ title, place, body, rank: inTitle * 2 + exact });
  }
  return hits.sort((a, b) => b.rank - a.rank || a.title.length - b.title.length)
    .slice(0, MOST).map(hit => ({ ...hit, shown: excerpt(hit.body, words) }));
}

function excerpt(body, words) {
  const low = body.toLowerCase();
  const at = words.map(word => low.indexOf(word)).find(i => i >= 0) ?? 0;
  const from = Math.max(0, at - AROUND);
  return (from ? "…" : "") + body.slice(from, at + 2 * AROUND);
}

function show() {
  const hits = search(input.value);
  found.hidden = !input.value.trim();
  found.replaceChildren(...hits.map(hit => {
    const link = document.createElement("a");
    link.href = document.body.dataset.root + hit.place;
    link.textContent = hit.title;
    const text = document.createElement("small");
    text.textContent = hit.shown;
    link.append(text);
    return link;
  }));
  if (!hits.length) found.textContent = "Nothing found.";
}

input.addEventListener("input", show);
found.addEventListener("click", () => { found.hidden = true; });
document.addEventListener("keydown", event => {
  if (event.key === "/" && document.activeElement !== input) {
    event.preventDefault();
    input.focus();
  } else if (event.key === "Escape") {
    input.value = "";
    show();
  } else if (event.key === "Enter" && document.activeElement === input) {
    found.querySelector("a")?.click();
  }
});
