// The page of a gallery: who is looked for, the filters, and the hits.

import { ApiError, ask, hasToken, keepToken, setUp } from "./api.js";
import { Cropper, drawPart } from "./crop.js";
import { ask as open, debounced, find, icon, make, toast, wireDialogs } from "./dom.js";
import { Filters } from "./filters.js";
import { HitList } from "./hits.js";
import { Marks, download } from "./marks.js";
import { nameOf, picture, release, setNeedsToken } from "./pictures.js";
import { listenForFiles, openImage } from "./upload.js";
import { Viewer } from "./viewer.js";
import { valueLike } from "./where.js";
import * as words from "./words.js";

const CROPPED = 350; // ms after the last change of a crop until it is searched with
const MOST_IMAGES = 8; // images that browser history can go back to
const SAMPLES = 16;

let gallery = null;
let marks = null;
let query = null; // {kind: "image", key, file, ...} or {kind: "row", id, record, thumbnail}
let answer = null; // the last search's, without its hits
let running = null; // AbortController of the search under way
let threshold = -Infinity; // exactly; the slider shows it on its own steps
let again = () => {}; // what "Try again" does
const images = new Map(); // key -> image query, for as long as the page is open

const filters = new Filters(find("#filters"), find("#active"));
const cropper = new Cropper(find("#stage"));
const list = new HitList(find("#hits"), {
  open: (hit) => viewer.open(hit, gallery.writable),
  similar: (hit) => lookForRow(hit),
  mark,
});
const viewer = new Viewer({
  hits: () => list.shown,
  drawQuery,
  mark,
  markOf: (hit) => marks.of(queryKey(), hit.id),
  similar: (hit) => lookForRow(hit),
  remove: removeRow,
  closed: (hit) => list.focus(hit.id),
});
const searchSoon = debounced(() => search(), CROPPED);

// -- who is looked for ------------------------------------------------------------------------

async function takeFile(file) {
  quiet();
  if (!gallery?.images) return;
  let image;
  try {
    image = await openImage(file, gallery.limits);
  } catch (error) {
    trouble(error.message);
    return;
  }
  for (const dialog of document.querySelectorAll("dialog[open]")) dialog.close();
  const key = `${Date.now()}-${images.size}`;
  const name = file.name || "pasted image";
  keepImage({ kind: "image", key, name, crop: null, sha256: null, ...image });
  visit({ kind: "image", key, label: words.shortened(name) }, `#image=${key}`, true);
}

function keepImage(image) {
  images.set(image.key, image);
  for (const [key, old] of images) {
    if (images.size <= MOST_IMAGES) break;
    URL.revokeObjectURL(old.address);
    images.delete(key);
  }
}

function lookForRow({ id }) {
  visit({ kind: "row", id, label: `row ${id}` }, `#id=${id}`, false);
}

/** Goes to a query and puts it into the browser's history; `anew` begins a new trail. */
function visit(step, fragment, anew) {
  const trail = anew ? [] : (history.state?.trail ?? []);
  const kept = { trail: [...trail, step], filters: filters.kept };
  history.pushState(kept, "", fragment);
  arrive();
}

/** Shows what the history says: a query, or the start. */
async function arrive() {
  const typed = /^#id=(\d+)$/.exec(location.hash);
  if (typed && !history.state?.trail?.length) {
    const linked = { kind: "row", id: Number(typed[1]), label: `row ${typed[1]}` };
    history.replaceState({ trail: [linked], filters: filters.kept }, "");
  }
  const trail = history.state?.trail ?? [];
  const step = trail.at(-1);
  running?.abort();
  searchSoon.cancel();
  quiet();
  drawTrail(trail);
  if (!step) return showStart();
  if (step.kind === "image") {
    query = images.get(step.key) ?? null;
    if (!query) {
      showStart();
      trouble("The image of this search is no longer in memory. Choose it again.");
      return;
    }
    cropper.show(query.address, query.width, query.height, query.crop);
  } else {
    query = { kind: "row", id: step.id, record: {}, thumbnail: null };
    try {
      Object.assign(query, await ask(`api/rows/${step.id}`));
    } catch (error) {
      if (history.state?.trail?.at(-1) !== step) return;
      showStart();
      trouble(error.message, arrive);
      return;
    }
  }
  filters.setQueryRow(query.kind === "row" ? query.record : null);
  showQuery();
  scrollTo({ top: 0 });
  await search();
}

function showQuery() {
  const isImage = query?.kind === "image";
  find("#choose").hidden = isImage || !gallery?.images;
  find("#no-model").hidden = !gallery || gallery.images;
  find("#choose").classList.toggle("little", query?.kind === "row");
  find("#other").hidden = !isImage;
  find("#chosen").hidden = !isImage;
  find("#row").hidden = query?.kind !== "row";
  find("#start").hidden = Boolean(query);
  find("#strip").hidden = false;
  document.body.classList.toggle("searching", Boolean(query));
  find("#add").hidden = !gallery?.writable;
  if (isImage) {
    find("#chosen").classList.toggle("tall", query.width < query.height * 0.8);
    find("#source").textContent = words.shortened(query.name, 24);
    find("#source").title = query.name;
    showMeasure();
  } else if (query) {
    const { record } = query;
    find("#row-name").textContent = `Row ${query.id}`;
    release(find("#row-picture"));
    find("#row-picture").replaceChildren(picture(query));
    const facts = [
      ["Identity", words.text(record.pid)],
      ["Camera", words.text(record.camera)],
      ["Time", words.time(record.time)],
    ];
    find("#row-facts").replaceChildren(
      ...facts
        .filter(([, value]) => value !== "")
        .flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]),
    );
  }
}

function showMeasure() {
  const { width, height, crop } = query;
  const size = (w, h) => `${w}\u00a0×\u00a0${h}`; // not broken in two
  find("#measure").textContent = crop
    ? `Crop ${size(crop[2], crop[3])} of ${size(width, height)}\u00a0px`
    : `Whole image, ${size(width, height)}\u00a0px`;
  find("#whole").hidden = !crop;
}

cropper.addEventListener("change", ({ detail }) => {
  if (query?.kind !== "image") return;
  query.crop = cropper.crop;
  showMeasure();
  if (detail.done) searchSoon();
});

/** What identifies the query in the marks: never the image, and never somebody else's crop. */
function queryKey() {
  if (query?.kind === "row") return `id:${query.id}`;
  const crop = query?.crop ? query.crop.join(",") : "whole";
  return query?.sha256 ? `sha256:${query.sha256}:${crop}` : "";
}

function drawQuery(place) {
  if (query.kind === "row") {
    place.append(picture(query));
    return;
  }
  const canvas = make("canvas", { role: "img", "aria-label": "What is looked for" });
  place.append(drawPart(canvas, cropper.image, query.crop));
}

function drawTrail(trail) {
  const nav = find("#trail");
  nav.hidden = trail.length < 2;
  if (nav.hidden) return;
  const steps = trail.map((step, i) => {
    const label = `${i ? "similar to " : ""}${step.label}`;
    if (i === trail.length - 1) return make("li", { "aria-current": "page" }, label);
    const back = () => history.go(i - trail.length + 1);
    const link = make("button", { class: "text", type: "button", on: { click: back } }, label);
    return make("li", {}, link);
  });
  nav.replaceChildren(
    make("button", { class: "small", type: "button", on: { click: () => history.back() } },
      icon("back"), "Back"),
    make("ol", {}, ...steps),
  );
}

// -- searching --------------------------------------------------------------------------------

/** Searches, or with `offset` goes on after the hits that are there. */
async function search(offset = 0) {
  if (!query) return;
  searchSoon.cancel();
  running?.abort();
  const control = new AbortController();
  running = control;
  const asked = query;
  const crop = asked.crop ?? null;
  quiet();
  find("#more").hidden = true;
  if (!offset) {
    list.skeletons(Math.min(filters.options.k, 18));
    say("Searching …");
    find("#notes").textContent = "";
  }
  const options = filters.search(offset);
  try {
    const found =
      asked.kind === "row"
        ? await ask("api/search/id", {
            method: "POST",
            json: { id: asked.id, ...options },
            signal: control.signal,
          })
        : await ask("api/search/image", {
            method: "POST",
            form: () => {
              const form = new FormData();
              form.append("image", asked.file, "image");
              form.append("options", JSON.stringify(options));
              if (crop) form.append("crop", crop.join(","));
              return form;
            },
            signal: control.signal,
          });
    if (control.signal.aborted) return;
    if (asked.kind === "image") asked.sha256 = found.query.sha256;
    const { hits, ...rest } = found;
    answer = { ...rest, crop };
    if (!offset) list.clear();
    const there = new Set(list.hits.map(({ id }) => id)); // a row added meanwhile shifts the rest
    list.append(
      hits.filter(({ id }) => !there.has(id)),
      (hit) => marks.of(queryKey(), hit.id),
    );
    fitScale();
    applyThreshold();
    showAnswer();
  } catch (error) {
    if (control.signal.aborted) return;
    if (!offset) list.clear();
    say("");
    find("#more").hidden = !offset;
    trouble(error.message, () => search(offset));
    if (!(error instanceof ApiError)) throw error;
  }
}

function showAnswer() {
  const { notes, next_offset: next } = answer;
  find("#notes").textContent = notes.join(" ");
  find("#more").hidden = next === null || next >= filters.most;
  find("#more").disabled = false;
  showMarks();
}

function showStatus(reaching) {
  const { total_allowed: total, seconds, exact } = answer;
  const shown = list.cards.length;
  if (!shown) {
    say(total ? "No hits." : "No row passes the filters. Take one of them away.");
    return;
  }
  const what = filters.options.group ? "identities" : "hits";
  const parts = [
    `${words.count(reaching)} of ${words.count(shown)} ${what} reach the threshold`,
    `${words.plural(total, "row", "rows")} ${exact ? "compared" : "searched approximately"} in ` +
      `${Math.max(1, Math.round(seconds * 1000))}\u00a0ms`,
  ];
  say(parts.join(" · "));
}

function say(text) {
  const line = find("#status");
  if (line.textContent !== text) line.textContent = text;
}

// -- the threshold ----------------------------------------------------------------------------

const slider = find("#threshold");
const number = find("#threshold-number");

/**
 * The scale of slider and bars: from the best score there is down to the lowest hit. Models differ:
 * one has strangers at a cosine of 0.1, another at 0.9, and both are to be told apart by eye.
 */
function fitScale() {
  const best = gallery.metric === "cosine" ? 1 : 0;
  const lowest = Math.min(
    gallery.threshold?.value ?? best,
    Number.isFinite(threshold) ? threshold : best,
    ...list.hits.map(({ score }) => score),
  );
  const least = list.cards.length ? (best - lowest) * 1.02 : Math.max(best - lowest, 0.5) * 1.5;
  const span = niceSpan(least);
  slider.min = String(Number((best - span).toFixed(6)));
  slider.max = String(best);
  slider.step = String(Number((span / 200).toPrecision(3)));
  number.step = slider.step;
  find("#lowest").textContent = slider.min;
  find("#highest").textContent = slider.max;
  words.setDigits(span <= 0.2 ? 4 : 3);
  list.setScale(best - span, best);
  placeTick();
}

/** The next larger of ... 0.05, 0.1, 0.2, 0.5, 1, 1.2, 1.5, 2, 5, 10 ... */
function niceSpan(least) {
  const power = 10 ** Math.floor(Math.log10(Math.max(least, 1e-4)));
  return power * [1, 1.2, 1.5, 2, 3, 4, 5, 6, 8, 10].find((step) => step * power >= least - 1e-9);
}

function placeTick() {
  const calibrated = gallery.threshold;
  find("#tick").hidden = !calibrated;
  find("#calibrated").hidden = !calibrated;
  if (!calibrated) return;
  const part = (calibrated.value - slider.min) / (slider.max - slider.min);
  find("#tick").style.setProperty("--at", part.toFixed(4));
  const rate = calibrated.far ?? null;
  find("#calibrated").textContent =
    rate === null ? "as set by the service" : `calibrated: ${words.percent(rate)} false accepts`;
  find("#calibrated").title = `Back to ${words.score(calibrated.value)}`;
}

/** Parts the hits anew at `value`; asks the server nothing. */
function setThreshold(value) {
  threshold = value;
  slider.value = String(value);
  applyThreshold();
}

function applyThreshold() {
  const part = (slider.value - slider.min) / (slider.max - slider.min);
  slider.style.setProperty("--at", part.toFixed(4));
  if (document.activeElement !== number) number.value = String(Number(threshold.toFixed(4)));
  find("#calibrated").disabled = threshold === gallery?.threshold?.value;
  const off = !gallery?.threshold && threshold <= Number(slider.min);
  const reaching = list.setThreshold(off ? -Infinity : threshold);
  if (answer && !list.element.classList.contains("loading")) showStatus(reaching);
}

slider.addEventListener("input", () => {
  threshold = slider.valueAsNumber;
  applyThreshold();
});
number.addEventListener("input", () => {
  if (Number.isFinite(number.valueAsNumber)) setThreshold(number.valueAsNumber);
});
number.addEventListener("blur", applyThreshold);
find("#calibrated").addEventListener("click", () => setThreshold(gallery.threshold.value));

// -- marks ------------------------------------------------------------------------------------

function mark(hit, kind) {
  const key = queryKey();
  if (!key) return;
  const { record } = hit;
  const kept = marks.toggle(key, {
    query: query.kind === "row" ? `id:${query.id}` : `sha256:${query.sha256}`,
    crop: query.crop ? query.crop.join(" ") : "",
    hit_id: hit.id,
    rank: hit.rank,
    score: hit.score,
    pid: record.pid ?? null,
    camera: record.camera ?? null,
    time: record.time ?? null,
    image: record.image ?? null,
    mark: kind,
    threshold,
    model: gallery.model,
    gallery: gallery.name,
    marked_at: new Date().toISOString(),
  });
  if (!kept) toast("This browser keeps no marks: export them before you close the page.");
  list.showMark(hit.id, marks.of(key, hit.id));
  showMarks();
}

function showMarks() {
  const here = marks.count(queryKey());
  const all = marks.count();
  const total = all.same + all.different;
  find("#marks").hidden = !total;
  find("#count-same").textContent = String(here.same);
  find("#count-different").textContent = String(here.different);
  const text = `Save ${words.plural(total, "mark", "marks")} of all queries as a CSV file`;
  find("#export").title = text;
  find("#export").setAttribute("aria-label", text);
}

find("#export").addEventListener("click", () => {
  const day = new Date().toISOString().slice(0, 10);
  download(`marks-${gallery.name.replace(/[^\w.-]+/g, "_")}-${day}.csv`, marks.csv());
});

find("#clear-marks").addEventListener("click", async () => {
  const all = marks.count();
  const sure = await confirmed(
    "Clear all marks?",
    `${words.plural(all.same + all.different, "mark", "marks")}, of all queries in this gallery, ` +
      "will be gone from this browser. Export them first if you need them.",
    "Clear",
  );
  if (!sure) return;
  marks.clear();
  for (const hit of list.hits) list.showMark(hit.id, undefined);
  showMarks();
});

// -- changing the gallery ---------------------------------------------------------------------

async function removeRow(hit) {
  const sure = await confirmed(
    `Remove row ${hit.id} from the gallery?`,
    "It goes for everybody who uses this gallery, and there is no way to take it back.",
    "Remove",
  );
  if (!sure) return;
  try {
    await ask(`api/rows/${hit.id}`, { method: "DELETE" });
  } catch (error) {
    viewer.close();
    trouble(error.message, () => removeRow(hit));
    return;
  }
  viewer.close();
  list.remove(hit.id);
  applyThreshold();
  toast(`Row ${hit.id} is removed.`);
  await refreshGallery();
}

find("#add").addEventListener("click", () => {
  drawPart(find("#add-preview"), cropper.image, query.crop, 400);
  find("#add-wrong").textContent = "";
  find("#add-camera").value = words.text(filters.ownCamera);
  find("#add-cameras").replaceChildren(
    ...gallery.cameras.map(({ value }) => make("option", { value: words.text(value) })),
  );
  find("#add-dialog").showModal();
});

find("#add-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const record = {};
  const known = (name) => list.hits.map((hit) => hit.record[name] ?? null);
  const typed = {
    pid: known("pid"),
    camera: gallery.cameras.map(({ value }) => value),
    time: gallery.time ? [gallery.time.min] : [],
  };
  for (const [name, values] of Object.entries(typed)) {
    const value = valueLike(find(`#add-${name}`).value, values);
    if (value !== null) record[name] = value;
  }
  const button = find("#add-form .primary");
  button.disabled = true;
  try {
    const file = query.crop ? await cropFile() : query.file;
    const { id } = await ask("api/rows", {
      method: "POST",
      form: () => {
        const form = new FormData();
        form.append("image", file, "image");
        form.append("record", JSON.stringify(record));
        return form;
      },
    });
    find("#add-dialog").close();
    toast(`Added as row ${id}.`);
    await refreshGallery();
    await search();
  } catch (error) {
    find("#add-wrong").textContent = error.message;
  } finally {
    button.disabled = false;
  }
});

/** The crop as a file of its own, without loss. */
function cropFile() {
  const canvas = drawPart(document.createElement("canvas"), cropper.image, query.crop);
  return new Promise((resolve, reject) => {
    canvas.toBlob(
      (blob) => (blob ? resolve(blob) : reject(new Error("The crop cannot be drawn. Try again."))),
      "image/png",
    );
  });
}

async function confirmed(title, text, yes) {
  find("#confirm-title").textContent = title;
  find("#confirm-text").textContent = text;
  find("#confirm-yes").textContent = yes;
  const answered = open(find("#confirm"));
  find("#confirm-no").focus();
  return (await answered) === "yes";
}

// -- the token --------------------------------------------------------------------------------

async function askForToken(refused) {
  find("#token-text").textContent = refused
    ? "The server did not accept the token. Type another one."
    : "The server asks for a token. Whoever runs it can give you one.";
  find("#token-value").value = "";
  const answered = open(find("#token-dialog"));
  find("#token-value").focus();
  return (await answered).trim();
}

find("#token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  find("#token-dialog").close(find("#token-value").value);
});

find("#token").addEventListener("click", async () => {
  const given = await askForToken(false);
  if (!given) return;
  keepToken(given);
  showToken();
  await start();
});

function showToken() {
  const needed = gallery && (gallery.auth.read || gallery.writable);
  find("#token").hidden = !needed;
  const text = hasToken() ? "A token is in use; give another one" : "Give a token";
  find("#token").title = text;
  find("#token").setAttribute("aria-label", text);
  find("#token").classList.toggle("on", hasToken());
}

/** `#token=...` in the address is taken and goes away from it, before anything else sees it. */
function takeTokenFromAddress() {
  const fragment = new URLSearchParams(location.hash.slice(1));
  const token = fragment.get("token");
  if (token === null) return;
  if (token) keepToken(token);
  fragment.delete("token");
  const rest = fragment.toString();
  history.replaceState(history.state, "", rest ? `#${rest}` : location.pathname + location.search);
}

// -- start and trouble ------------------------------------------------------------------------

function trouble(text, retry = null) {
  find("#trouble").hidden = false;
  find("#trouble-text").textContent = text;
  find("#again").hidden = !retry;
  again = retry ?? (() => {});
}

function quiet() {
  find("#trouble").hidden = true;
}

find("#again").addEventListener("click", () => {
  quiet();
  again();
});
addEventListener("online", () => {
  if (!find("#trouble").hidden && !find("#again").hidden) find("#again").click();
});

async function showStart() {
  query = null;
  answer = null;
  filters.setQueryRow(null);
  list.clear();
  say("");
  find("#notes").textContent = "";
  find("#more").hidden = true;
  showQuery();
  const samples = find("#samples");
  if (samples.childElementCount || !gallery?.rows) return;
  try {
    const rows = await someRows();
    if (samples.childElementCount) return;
    samples.append(
      ...rows.map((row) =>
        make("li", { class: "hit sample" },
          make("button", { class: "see", type: "button", "aria-label": `Similar to ${nameOf(row)}`,
            on: { click: () => lookForRow(row) } }, picture(row))),
      ),
    );
  } catch (error) {
    trouble(error.message, showStart);
  }
}

/** Rows from a few random places: whole galleries are sorted, so neighbours are one person. */
async function someRows() {
  const places = Math.min(4, Math.ceil(gallery.rows / SAMPLES));
  const span = gallery.rows / places;
  const limit = Math.max(1, Math.min(50, Math.floor(span)));
  const each = SAMPLES / places;
  const pages = await Promise.all(
    Array.from({ length: places }, (_, i) => {
      const room = Math.max(0, span - limit);
      const offset = Math.floor(i * span + Math.random() * room);
      return ask(`api/rows?offset=${offset}&limit=${limit}`);
    }),
  );
  return pages.flatMap(({ rows }) => {
    const step = Math.max(1, Math.floor(rows.length / each));
    return rows.filter((_, i) => i % step === 0).slice(0, each);
  });
}

async function refreshGallery() {
  gallery = await ask("api/gallery");
  showGallery();
}

function showGallery() {
  find("#name").textContent = gallery.name;
  document.title = gallery.name;
  const facts = [
    words.plural(gallery.rows, "row", "rows"),
    gallery.exact ? "exact search" : `${gallery.index}, approximate`,
  ];
  if (gallery.model) facts.push(`model ${words.shortened(gallery.model, 12)}`);
  find("#about").textContent = facts.join(" · ");
  const model = gallery.model ?? "unknown";
  find("#about").title = `${gallery.dim} numbers a row, ${gallery.metric}, model ${model}`;
  setNeedsToken(gallery.auth.read);
  filters.setGallery(gallery);
  showToken();
  showFilterCount();
}

async function start() {
  quiet();
  try {
    gallery = await ask("api/gallery");
  } catch (error) {
    trouble(error.message, start);
    return;
  }
  marks = new Marks(gallery.name);
  if (history.state?.filters) filters.restore(history.state.filters);
  showGallery();
  fitScale();
  if (threshold === -Infinity) setThreshold(gallery.threshold?.value ?? Number(slider.min));
  showMarks();
  await arrive();
}

// -- wiring -----------------------------------------------------------------------------------

filters.addEventListener("change", () => {
  history.replaceState({ ...history.state, filters: filters.kept }, "");
  showFilterCount();
  search();
});

function showFilterCount() {
  const badge = find("#filter-count");
  badge.hidden = !filters.count;
  badge.textContent = String(filters.count);
}

/** On a phone the filters are a sheet above all else, which then rests. */
function showSheet(open) {
  document.body.classList.toggle("sheet", open);
  for (const behind of document.querySelectorAll(".top, .query, main")) behind.inert = open;
  find("#shade").hidden = !open;
  find("#open-filters").setAttribute("aria-expanded", String(open));
  if (open) find("#close-filters").focus();
  else find("#open-filters").focus();
}

find("#open-filters").addEventListener("click", () => showSheet(true));
find("#close-filters").addEventListener("click", () => showSheet(false));
find("#shade").addEventListener("click", () => showSheet(false));
matchMedia("(max-width: 860px)").addEventListener("change", () => {
  if (document.body.classList.contains("sheet")) showSheet(false); // a phone was turned
});

find("#choose").addEventListener("click", () => find("#file").click());
find("#other").addEventListener("click", () => find("#file").click());
find("#whole").addEventListener("click", () => cropper.set(null));
find("#more").addEventListener("click", () => {
  find("#more").disabled = true;
  search(answer.next_offset);
});
find("#home").addEventListener("click", (event) => {
  event.preventDefault();
  if (!history.state?.trail?.length) return;
  history.pushState({ filters: filters.kept }, "", location.pathname + location.search);
  arrive();
});
find("#stage").addEventListener("keydown", (event) => {
  if (event.key === "Enter") search();
});

find("#enlarge").addEventListener("click", async () => {
  const stage = find("#stage");
  find("#enlarged-place").append(stage);
  const closed = open(find("#enlarged"));
  stage.focus();
  await closed;
  find("#stage-place").append(stage);
  find("#enlarge").focus();
});

find("#help").addEventListener("click", () => find("#help-dialog").showModal());

addEventListener("keydown", (event) => {
  if (event.key === "Escape" && document.body.classList.contains("sheet")) showSheet(false);
  const typing = event.target.closest?.("input, select, textarea, dialog[open]");
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "?") find("#help-dialog").showModal();
  else if (event.key.startsWith("Arrow") && event.target === document.body && list.cards.length) {
    event.preventDefault();
    list.focus(list.shown[0].id);
  }
});

find("#skip").addEventListener("click", (event) => {
  event.preventDefault(); // the fragment is for queries
  find("#found").focus();
});

addEventListener("storage", () => {
  if (!gallery) return; // marks made in another tab
  marks = new Marks(gallery.name);
  for (const { id } of list.hits) list.showMark(id, marks.of(queryKey(), id));
  showMarks();
});

addEventListener("popstate", () => {
  if (gallery && !location.hash.includes("token=")) arrive();
});
addEventListener("hashchange", () => {
  if (location.hash.includes("token=")) {
    takeTokenFromAddress();
    start();
  }
});

listenForFiles({ input: find("#file"), veil: find("#veil"), take: takeFile });
wireDialogs();
setUp({
  ask: askForToken,
  waiting: (seconds) => {
    say(`The server is busy; asking again in ${Math.max(1, Math.ceil(seconds))} s …`);
  },
});
takeTokenFromAddress();
start();
