// The filters as controls, as removable chips, and as options of a search.

import { debounced, icon, make } from "./dom.js";
import { OPERATORS, compose, conditionsOf } from "./where.js";
import * as words from "./words.js";

const FEW_CAMERAS = 24;
const TYPING = 450; // ms until what is being typed counts
const RERANKED = 200; // rows ordered anew if that is on: the same ones for every page of hits

const nothing = () => ({
  cameras: new Map(), // camera -> "in" or "out"
  from: "",
  until: "",
  pid: "",
  rows: [], // {field, operator, value}
  otherCameras: false,
  queryCamera: "", // JSON of the camera that the query image is from, "" if not said
});

/** Fires "change" when a search would come out differently. */
export class Filters extends EventTarget {
  constructor(panel, chips) {
    super();
    this.panel = panel;
    this.chips = chips;
    this.values = nothing();
    this.options = { k: 50, group: false, rerank: false };
    this.later = debounced(() => this.#changed(), TYPING);
    this.part = (name) => panel.querySelector(`[data-part="${name}"]`);
    for (const name of ["from", "until", "pid"]) {
      this.part(name).addEventListener("input", () => {
        this.values[name] = this.part(name).value;
        this.later();
      });
    }
    this.part("other-cameras").addEventListener("change", (event) => {
      this.values.otherCameras = event.target.checked;
      this.#changed();
    });
    this.part("query-camera").addEventListener("change", (event) => {
      this.values.queryCamera = event.target.value;
      if (this.values.otherCameras) this.#changed();
    });
    this.part("add-row").addEventListener("click", () => {
      const field = this.gallery.fields.find((name) => !TOLD.includes(name));
      this.values.rows.push({
        field: field ?? this.gallery.fields[0],
        operator: "=",
        value: "",
      });
      this.#drawRows();
      this.part("rows").lastElementChild.querySelector("input").focus();
    });
    for (const name of ["group", "rerank"]) {
      this.part(name).addEventListener("change", (event) => {
        this.options[name] = event.target.checked;
        this.#changed();
      });
    }
    this.part("k").addEventListener("change", (event) => {
      this.options.k = Number(event.target.value);
      this.#changed();
    });
    this.part("reset").addEventListener("click", () => this.reset());
  }

  /** Fits the controls to what the gallery has. */
  setGallery(gallery) {
    this.gallery = gallery;
    const has = (field) => gallery.fields.includes(field);
    this.part("cameras-box").hidden = !gallery.cameras.length;
    this.part("own-camera-box").hidden = !gallery.cameras.length;
    this.part("time-box").hidden = !gallery.time;
    this.part("pid-box").hidden = !has("pid");
    this.part("group-box").hidden = !has("pid");
    this.part("rows-box").hidden = !gallery.fields.length;
    if (gallery.time) {
      const { min, max } = gallery.time;
      this.part("from").placeholder = words.text(min);
      this.part("until").placeholder = words.text(max);
      const mode = typeof min === "number" ? "decimal" : "text";
      this.part("from").inputMode = mode;
      this.part("until").inputMode = mode;
    }
    const most = gallery.limits.k;
    const choices = [20, 50, 100, 200].filter((k) => k <= most);
    if (!choices.length) choices.push(most);
    if (!choices.includes(this.options.k)) this.options.k = choices.at(-1);
    this.part("k").replaceChildren(...choices.map((k) => make("option", { value: k }, String(k))));
    this.part("k").value = String(this.options.k);
    this.part("query-camera").replaceChildren(
      make("option", { value: "" }, "not known"),
      ...gallery.cameras.map(({ value }) =>
        make("option", { value: JSON.stringify(value) }, words.text(value)),
      ),
    );
    this.#draw();
  }

  /** The camera of the row that is searched by, or null for an image. */
  setQueryRow(record) {
    this.queryRecord = record;
    this.part("query-camera-box").hidden = Boolean(record) || !this.values.otherCameras;
    this.#drawChips();
  }

  /** The options of a search for the hits after the first `offset`. */
  search(offset) {
    const k = Math.min(this.options.k, this.most - offset);
    const found = { k, offset, where: compose(conditionsOf(this.values)) };
    if (this.values.otherCameras) found.exclude_camera = this.ownCamera;
    if (this.options.group) found.group_by = "pid";
    if (this.options.rerank) found.rerank = this.most;
    return found;
  }

  /** Hits that can be had in all; of those that are re-ranked there are fewer. */
  get most() {
    const { window, rerank } = this.gallery.limits;
    return this.options.rerank ? Math.min(window, rerank, RERANKED) : window;
  }

  get ownCamera() {
    if (this.queryRecord) return this.queryRecord.camera ?? null;
    return this.values.queryCamera === "" ? null : JSON.parse(this.values.queryCamera);
  }

  /** All of it as JSON, to be kept and given to `restore`. */
  get kept() {
    return {
      ...this.values,
      cameras: [...this.values.cameras],
      options: this.options,
    };
  }

  restore({ options, cameras, ...values }) {
    this.values = { ...nothing(), ...values, cameras: new Map(cameras) };
    this.options = { ...this.options, ...options };
  }

  reset() {
    this.values = nothing();
    this.#draw();
    this.#changed();
  }

  #changed() {
    this.later.cancel();
    this.#drawChips();
    this.part("query-camera-box").hidden = Boolean(this.queryRecord) || !this.values.otherCameras;
    this.dispatchEvent(new Event("change"));
  }

  #draw() {
    for (const name of ["from", "until", "pid"]) this.part(name).value = this.values[name];
    this.part("other-cameras").checked = this.values.otherCameras;
    this.part("query-camera").value = this.values.queryCamera;
    this.part("query-camera-box").hidden = Boolean(this.queryRecord) || !this.values.otherCameras;
    this.part("group").checked = this.options.group;
    this.part("rerank").checked = this.options.rerank;
    this.#drawCameras(false);
    this.#drawRows();
    this.#drawChips();
  }

  #drawCameras(all) {
    const list = this.part("cameras");
    const { cameras } = this.gallery;
    const shown = all ? cameras : cameras.slice(0, FEW_CAMERAS);
    list.replaceChildren(...shown.map((camera) => this.#camera(camera)));
    if (shown.length < cameras.length) {
      list.append(
        make("button", { class: "text", type: "button",
          on: { click: () => this.#drawCameras(true) } }, `all ${cameras.length}`),
      );
    }
  }

  /** A chip that a click makes "only these", the next "without these", the next neutral. */
  #camera({ value, rows }) {
    const name = words.text(value);
    const chip = make("button", { class: "chip camera", type: "button" },
      icon("same"), icon("different"), make("span", { class: "name" }, name),
      make("span", { class: "count" }, words.count(rows)));
    const show = () => {
      const way = this.values.cameras.get(value);
      chip.dataset.way = way ?? "";
      const said = { in: "only these", out: "without these" }[way] ?? "no filter";
      chip.setAttribute("aria-label", `Camera ${name}, ${words.count(rows)} rows: ${said}`);
    };
    chip.addEventListener("click", () => {
      const way = this.values.cameras.get(value);
      if (!way) this.values.cameras.set(value, "in");
      else if (way === "in") this.values.cameras.set(value, "out");
      else this.values.cameras.delete(value);
      show();
      this.#changed();
    });
    show();
    return chip;
  }

  #drawRows() {
    this.part("rows").replaceChildren(...this.values.rows.map((row) => this.#row(row)));
  }

  #row(row) {
    const input = make("input", { type: "text", value: row.value, "aria-label": "Value",
      placeholder: "value", autocomplete: "off", spellcheck: "false",
      on: { input: () => {
        row.value = input.value;
        this.later();
      } } });
    const choice = (label, names, name) => {
      const select = make("select", { "aria-label": label, on: { change: () => {
        row[name] = select.value;
        if (row.value.trim()) this.#changed();
      } } }, ...names.map((one) => make("option", { value: one }, one)));
      select.value = row[name];
      return select;
    };
    return make("div", { class: "row" },
      choice("Field", this.gallery.fields, "field"),
      choice("Comparison", Object.keys(OPERATORS), "operator"),
      input,
      make("button", { class: "quiet", type: "button", "aria-label": "Remove this condition",
        on: { click: () => {
          this.values.rows.splice(this.values.rows.indexOf(row), 1);
          this.#drawRows();
          this.#changed();
        } } }, icon("close")));
  }

  /** [label, what takes it away] of every filter that is on. */
  #active() {
    const { values } = this;
    const found = [];
    for (const [camera, way] of values.cameras) {
      const label = `${way === "in" ? "camera" : "not camera"} ${words.text(camera)}`;
      found.push([label, () => values.cameras.delete(camera)]);
    }
    if (values.from.trim()) found.push([`from ${values.from.trim()}`, () => (values.from = "")]);
    if (values.until.trim()) {
      found.push([`until ${values.until.trim()}`, () => (values.until = "")]);
    }
    if (values.pid.trim()) found.push([`identity ${values.pid.trim()}`, () => (values.pid = "")]);
    for (const row of values.rows) {
      if (!row.value.trim()) continue;
      const label = `${row.field} ${row.operator} ${row.value.trim()}`;
      found.push([label, () => values.rows.splice(values.rows.indexOf(row), 1)]);
    }
    if (values.otherCameras) {
      const own = this.ownCamera;
      const label =
        own === null
          ? "the query's camera: not known, none left out"
          : `not camera ${words.text(own)}, the query's`;
      found.push([label, () => (values.otherCameras = false)]);
    }
    return found;
  }

  get count() {
    return this.#active().length;
  }

  #drawChips() {
    const active = this.#active();
    this.chips.hidden = !active.length;
    this.chips.replaceChildren(
      ...active.map(([label, takeAway]) =>
        make("button", { class: "chip active", type: "button",
          "aria-label": `Remove the filter: ${label}`,
          on: { click: () => {
            takeAway();
            this.#draw();
            this.#changed();
          } } }, make("span", { class: "name" }, label), icon("close")),
      ),
    );
    if (active.length) {
      this.chips.append(
        make("button", { class: "text", type: "button", on: { click: () => this.reset() } },
          "Reset"),
      );
    }
    this.part("reset").hidden = !active.length;
  }
}

const TOLD = ["image", "pid", "camera", "time"]; // have a control of their own
