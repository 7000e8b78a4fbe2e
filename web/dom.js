// SPDX-License-Identifier: MIT
//
// Elements. Text is set as text: nothing here, and nothing in the page, makes
// markup of strings.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, children) {
  for (const child of children.flat(3)) {
    if (child !== null && child !== undefined && child !== false)
      element.append(child instanceof Node ? child : String(child));
  }
  return element;
}

function set(element, name, value) {
  if (value === null || value === undefined || value === false) return;
  if (name.startsWith("on"))
    element.addEventListener(name.slice(2), value);
  else if (name === "value" || name === "checked")
    element[name] = value;
  else
    element.setAttribute(name, value === true ? "" : value);
}

// An element: h("a", { href: "#/" }, "text", anotherElement, ...).
export function h(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {}))
    set(element, name, value);
  return fill(element, children);
}

// The same of SVG.
export function svg(tag, attributes, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes || {}))
    element.setAttribute(name, value);
  return fill(element, children);
}

// Puts children in the place of those that an element has.
export function replace(element, ...children) {
  element.replaceChildren();
  return fill(element, children);
}

// The same, unless somebody is at one of those with the keyboard: they would
// lose their place.
export function refresh(element, ...children) {
  if (!element.contains(document.activeElement)) replace(element, ...children);
}

// Sets the text of an element, where it is another one.
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function button(label, onclick, attributes) {
  return h("button", { type: "button", onclick, ...attributes }, label);
}

// A labelled field of a form.
export function field(label, input, hint) {
  return h("label", { class: "field" }, h("span", {}, label), input,
    hint && h("small", {}, hint));
}
