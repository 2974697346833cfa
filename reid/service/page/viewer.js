// One hit, large, beside what was looked for, with its whole record.

import { find, make } from "./dom.js";
import { picture, release } from "./pictures.js";
import * as words from "./words.js";

/**
 * `hits()` gives the hits in shown order; `drawQuery(place)` puts the query's picture there;
 * `mark` and `similar` are as of the list; `markOf(hit)` is "same", "different" or undefined.
 */
export class Viewer {
  constructor({ hits, drawQuery, mark, markOf, similar, remove, closed }) {
    this.dialog = find("#viewer");
    Object.assign(this, { hits, drawQuery, mark, markOf });
    find("#viewer-back").addEventListener("click", () => this.#step(-1));
    find("#viewer-next").addEventListener("click", () => this.#step(1));
    find("#viewer-same").addEventListener("click", () => this.#mark("same"));
    find("#viewer-different").addEventListener("click", () => this.#mark("different"));
    find("#viewer-similar").addEventListener("click", () => {
      this.dialog.close();
      similar(this.hit);
    });
    find("#viewer-remove").addEventListener("click", () => remove(this.hit));
    this.dialog.addEventListener("close", () => {
      release(this.dialog);
      closed(this.hit);
    });
    this.dialog.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const key = event.key.toLowerCase();
      if (key === "arrowleft") this.#step(-1);
      else if (key === "arrowright") this.#step(1);
      else if (key === "s") this.#mark("same");
      else if (key === "d") this.#mark("different");
      else if (key === "f") find("#viewer-similar").click();
      else return;
      event.preventDefault();
    });
  }

  open(hit, removable) {
    find("#viewer-remove").hidden = !removable;
    find("#viewer-query").replaceChildren();
    this.drawQuery(find("#viewer-query"));
    this.#show(hit);
    this.dialog.showModal();
  }

  close() {
    this.dialog.close();
  }

  #step(way) {
    const hits = this.hits();
    const next = hits[hits.findIndex(({ id }) => id === this.hit.id) + way];
    if (next) this.#show(next);
  }

  #mark(mark) {
    this.mark(this.hit, mark);
    this.#showMark();
  }

  #showMark() {
    for (const kind of ["same", "different"]) {
      const on = this.markOf(this.hit) === kind;
      find(`#viewer-${kind}`).setAttribute("aria-pressed", String(on));
    }
  }

  #show(hit) {
    this.hit = hit;
    const hits = this.hits();
    const at = hits.findIndex(({ id }) => id === hit.id);
    find("#viewer-title").textContent = `Rank ${hit.rank}`;
    find("#viewer-caption").textContent = `row ${hit.id}, score ${words.score(hit.score)}`;
    find("#viewer-back").disabled = at <= 0;
    find("#viewer-next").disabled = at >= hits.length - 1;
    release(find("#viewer-hit"));
    find("#viewer-hit").replaceChildren(picture(hit));
    const lines = [
      ["row", hit.id],
      ["score", words.score(hit.score)],
      ["distance", words.score(hit.distance)],
    ];
    if (typeof hit.reranked === "number") {
      lines.push(["re-ranked distance", words.score(hit.reranked)]);
    }
    const first = ["pid", "camera", "time", "image"].filter((name) => name in hit.record);
    const others = Object.keys(hit.record).filter((name) => !first.includes(name));
    for (const name of [...first, ...others]) lines.push([name, hit.record[name]]);
    find("#viewer-record").replaceChildren(
      ...lines.map(([name, value]) =>
        make("tr", {}, make("th", { scope: "row" }, name), make("td", {}, words.text(value))),
      ),
    );
    this.#showMark();
  }
}
