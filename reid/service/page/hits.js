// The ranked pictures, with a divider where the threshold parts them.

import { icon, make } from "./dom.js";
import { nameOf, picture, release } from "./pictures.js";
import * as words from "./words.js";

/**
 * A list of cards. Calls `open(hit)`, `similar(hit)` and `mark(hit, "same" | "different")`.
 * One card at a time is reached by Tab; arrows go from card to card.
 */
export class HitList {
  constructor(element, { open, similar, mark }) {
    this.element = element;
    this.actions = { open, similar, mark };
    this.cards = []; // {hit, card} in the server's order
    this.threshold = -Infinity;
    this.divider = make("li", { class: "divider", role: "presentation" });
    element.addEventListener("keydown", (event) => this.#type(event));
    element.addEventListener("focusin", (event) => {
      const card = event.target.closest(".hit");
      if (card) this.#reach(card);
    });
  }

  get hits() {
    return this.cards.map(({ hit }) => hit);
  }

  /** Hits in the order in which they are shown. */
  get shown() {
    const reaching = this.hits.filter((hit) => hit.score >= this.threshold);
    return [...reaching, ...this.hits.filter((hit) => hit.score < this.threshold)];
  }

  clear() {
    release(this.element);
    this.element.replaceChildren();
    this.element.classList.remove("loading");
    this.cards = [];
  }

  /** Grey shapes of what is to come. */
  skeletons(count) {
    this.clear();
    this.element.classList.add("loading");
    for (let i = 0; i < count; i += 1) {
      this.element.append(
        make("li", { class: "hit skeleton", "aria-hidden": "true" },
          make("span", { class: "picture" }), make("span", { class: "line" }),
          make("span", { class: "line short" })),
      );
    }
  }

  append(hits, markOf) {
    if (!this.cards.length) this.clear();
    for (const hit of hits) {
      const card = this.#card(hit);
      this.cards.push({ hit, card });
      setMark(card, markOf(hit));
    }
    this.#arrange();
    if (!this.element.querySelector('.see[tabindex="0"]')) {
      const first = this.element.querySelector(".hit");
      if (first) this.#reach(first);
    }
  }

  /** Parts the hits anew; no card moves that need not. Returns how many reach it. */
  setThreshold(value) {
    this.threshold = value;
    for (const { card } of this.cards) this.#tick(card);
    return this.#arrange();
  }

  /** What a score's bar spans. */
  setScale(low, high) {
    this.scale = { low, high };
    for (const { hit, card } of this.cards) {
      this.#bar(card, hit);
      card.querySelector(".number").textContent = words.score(hit.score);
    }
  }

  showMark(id, mark) {
    const found = this.cards.find(({ hit }) => hit.id === id);
    if (found) setMark(found.card, mark);
  }

  remove(id) {
    const at = this.cards.findIndex(({ hit }) => hit.id === id);
    if (at < 0) return;
    const [{ card }] = this.cards.splice(at, 1);
    const next = card.nextElementSibling ?? card.previousElementSibling;
    release(card);
    card.remove();
    this.#arrange();
    if (next?.classList.contains("hit")) this.#reach(next);
  }

  focus(id) {
    const found = this.cards.find(({ hit }) => hit.id === id);
    found?.card.querySelector(".see").focus();
  }

  #arrange() {
    const above = this.cards.filter(({ hit }) => hit.score >= this.threshold);
    const below = this.cards.filter(({ hit }) => hit.score < this.threshold);
    const line = above.length
      ? "Below the threshold: probably nobody you asked for"
      : "Nobody in this gallery reaches the threshold";
    const hint = above.length
      ? null
      : "The nearest rows stand below, pale. Lower the threshold only with a reason.";
    this.divider.classList.toggle("nobody", !above.length);
    this.divider.replaceChildren(
      make("strong", {}, line),
      ...(hint ? [make("span", {}, hint)] : []),
    );
    const order = above.map(({ card }) => card);
    if (below.length) order.push(this.divider, ...below.map(({ card }) => card));
    else this.divider.remove();
    let at = this.element.firstChild;
    for (const element of order) {
      if (element === at) at = at.nextSibling;
      else this.element.insertBefore(element, at);
    }
    for (const { card } of above) card.classList.remove("pale");
    for (const { card } of below) card.classList.add("pale");
    return above.length;
  }

  #card(hit) {
    const { record } = hit;
    const name = `Rank ${hit.rank}, ${nameOf(hit)}, score ${words.score(hit.score)}`;
    const act = (action, ...values) => ({ click: () => this.actions[action](hit, ...values) });
    const small = (kind, title, on, toggles) =>
      make("button", { class: `act ${kind}`, type: "button", title, tabindex: "-1",
        "aria-label": `${title}: rank ${hit.rank}`, "aria-pressed": toggles ? "false" : null, on },
        icon(kind));
    const card = make("li", { class: "hit", "data-id": hit.id },
      make("button", { class: "see", type: "button", tabindex: "-1", "aria-label": name,
        on: act("open") },
        picture(hit), make("span", { class: "rank" }, String(hit.rank)),
        make("span", { class: "verdict" }, icon("same"), icon("different"))),
      make("span", { class: "score" },
        make("span", { class: "bar" },
          make("span", { class: "fill" }), make("span", { class: "at" })),
        make("span", { class: "number" }, words.score(hit.score))),
      make("span", { class: "facts" },
        fact("pid", "person", "Identity", words.text(record.pid)),
        fact("camera", "camera", "Camera", words.text(record.camera)),
        fact("time", "time", "Time", words.time(record.time))),
      make("span", { class: "acts" },
        small("same", "Same person (S)", act("mark", "same"), true),
        small("different", "Different person (D)", act("mark", "different"), true),
        small("similar", "Similar to this (F)", act("similar"), false)));
    this.#bar(card, hit);
    return card;
  }

  #bar(card, hit) {
    if (!this.scale) return;
    card.querySelector(".fill").style.width = this.#along(hit.score);
    this.#tick(card);
  }

  /** The threshold on a card's bar: a variable of the whole list would restyle all of it. */
  #tick(card) {
    if (this.scale) card.querySelector(".at").style.left = this.#along(this.threshold);
  }

  /** How far along the scale a score is. */
  #along(score) {
    const { low, high } = this.scale;
    const part = Math.min(Math.max((score - low) / (high - low), 0), 1);
    return `${(100 * part).toFixed(2)}%`;
  }

  #reach(card) {
    for (const old of this.element.querySelectorAll('.hit [tabindex="0"]')) old.tabIndex = -1;
    for (const button of card.querySelectorAll("button")) button.tabIndex = 0;
  }

  #type(event) {
    const card = event.target.closest(".hit");
    if (!card || event.ctrlKey || event.metaKey || event.altKey) return;
    const found = this.cards.find((one) => one.card === card);
    if (!found) return;
    const key = event.key.toLowerCase();
    if (key === "s") this.actions.mark(found.hit, "same");
    else if (key === "d") this.actions.mark(found.hit, "different");
    else if (key === "f") this.actions.similar(found.hit);
    else {
      const all = [...this.element.querySelectorAll(".hit")];
      const target = all[neighbour(all, all.indexOf(card), event.key)];
      if (!target) return;
      target.querySelector(".see").focus();
    }
    event.preventDefault();
  }
}

/** The number of the card that an arrow leads to; by where the cards stand, for up and down. */
function neighbour(cards, at, key) {
  if (key === "ArrowRight") return at + 1;
  if (key === "ArrowLeft") return at - 1;
  if (key === "Home") return 0;
  if (key === "End") return cards.length - 1;
  if (key !== "ArrowDown" && key !== "ArrowUp") return -1;
  const step = key === "ArrowDown" ? 1 : -1;
  const { offsetTop, offsetLeft } = cards[at];
  let line = null;
  let best = -1;
  for (let i = at + step; i >= 0 && i < cards.length; i += step) {
    if (cards[i].offsetTop === offsetTop) continue;
    line ??= cards[i].offsetTop;
    if (cards[i].offsetTop !== line) break;
    const way = Math.abs(cards[i].offsetLeft - offsetLeft);
    if (best < 0 || way < Math.abs(cards[best].offsetLeft - offsetLeft)) best = i;
  }
  return best;
}

function fact(name, symbol, title, value) {
  if (value === "") return null;
  return make("span", { class: `fact ${name}`, title: `${title} ${value}` },
    icon(symbol), make("span", { class: "value" }, value));
}

function setMark(card, mark) {
  card.classList.toggle("is-same", mark === "same");
  card.classList.toggle("is-different", mark === "different");
  for (const kind of ["same", "different"]) {
    card.querySelector(`.act.${kind}`).setAttribute("aria-pressed", String(mark === kind));
  }
}
