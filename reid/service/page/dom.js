// Elements made of parts. No HTML text is ever parsed, so whatever a record holds stays text.

const SVG = "http://www.w3.org/2000/svg";

export const find = (selector) => document.querySelector(selector);

/**
 * An element with attributes and children.
 *
 * `true` sets an attribute without a value; `false`, null and undefined leave it out; `on` is an
 * object of listeners. Children are elements or texts; null is left out.
 */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "on") {
      for (const [event, listener] of Object.entries(value)) {
        element.addEventListener(event, listener);
      }
    } else if (value !== false && value !== null && value !== undefined) {
      element.setAttribute(name, value === true ? "" : String(value));
    }
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

/** One of the symbols of index.html; decoration only, its button has the words. */
export function icon(name) {
  const drawing = document.createElementNS(SVG, "svg");
  drawing.setAttribute("class", "icon");
  drawing.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#icon-${name}`);
  drawing.append(use);
  return drawing;
}

/** Opens a dialog and waits: what it was closed with, "" if it was only closed. */
export function ask(dialog) {
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue), { once: true });
  });
}

/** Buttons with data-close shut their dialog; so does a click beside it. */
export function wireDialogs() {
  for (const dialog of document.querySelectorAll("dialog")) {
    dialog.addEventListener("click", (event) => {
      if (event.target === dialog) dialog.close();
      const button = event.target.closest("[data-close]");
      if (button) dialog.close(button.dataset.close);
    });
  }
}

let fading = 0;

/** A line at the lower edge that goes away by itself, and is read out. */
export function toast(text) {
  const line = find("#toast");
  line.textContent = text;
  line.classList.add("shown");
  clearTimeout(fading);
  fading = setTimeout(() => line.classList.remove("shown"), 5000);
}

/** Calls `run` once nothing has called it for `wait` ms. */
export function debounced(run, wait) {
  let timer = 0;
  const later = (...values) => {
    clearTimeout(timer);
    timer = setTimeout(() => run(...values), wait);
  };
  later.cancel = () => clearTimeout(timer);
  return later;
}
