// A rectangle drawn on the query image: by mouse, finger or keyboard. Kept in pixels of the image.

const CORNERS = ["nw", "n", "ne", "e", "se", "s", "sw", "w"];
const SMALLEST = 8; // pixels of the image, each way
const CLICK = 4; // pixels of the screen: a shorter way is a click, no crop

/**
 * The stage shows the image and, above it, the crop. Fires "change" with {detail: {done}}: false
 * while a drag lasts.
 */
export class Cropper extends EventTarget {
  constructor(stage) {
    super();
    this.stage = stage;
    this.image = stage.querySelector("img");
    this.box = stage.querySelector(".crop");
    for (const name of CORNERS) {
      const handle = document.createElement("span");
      handle.className = `handle ${name}`;
      handle.dataset.edges = name;
      this.box.append(handle);
    }
    this.crop = null;
    this.size = { width: 1, height: 1 };
    stage.addEventListener("pointerdown", (event) => this.#grab(event));
    stage.addEventListener("keydown", (event) => this.#type(event));
  }

  /** Shows an image; its crop is [x, y, width, height] or null for the whole of it. */
  show(address, width, height, crop = null) {
    this.size = { width, height };
    this.image.src = address;
    this.stage.style.setProperty("--ratio", String(width / height));
    this.set(crop, { silent: true });
  }

  set(crop, { silent = false, done = true } = {}) {
    this.crop = crop && this.#clamped(crop);
    this.#draw();
    if (!silent) this.dispatchEvent(new CustomEvent("change", { detail: { done } }));
  }

  #clamped([x, y, width, height]) {
    const w = Math.round(Math.min(Math.max(width, SMALLEST), this.size.width));
    const h = Math.round(Math.min(Math.max(height, SMALLEST), this.size.height));
    return [
      Math.round(Math.min(Math.max(x, 0), this.size.width - w)),
      Math.round(Math.min(Math.max(y, 0), this.size.height - h)),
      w,
      h,
    ];
  }

  #draw() {
    this.box.hidden = !this.crop;
    if (!this.crop) return;
    const [x, y, width, height] = this.crop;
    const part = (value, whole) => `${(100 * value) / whole}%`;
    this.box.style.left = part(x, this.size.width);
    this.box.style.top = part(y, this.size.height);
    this.box.style.width = part(width, this.size.width);
    this.box.style.height = part(height, this.size.height);
  }

  /** Where a pointer is, in pixels of the image. */
  #point(event) {
    const area = this.image.getBoundingClientRect();
    const along = (at, start, length, pixels) =>
      (Math.min(Math.max(at - start, 0), length) / length) * pixels;
    return [
      along(event.clientX, area.left, area.width, this.size.width),
      along(event.clientY, area.top, area.height, this.size.height),
    ];
  }

  #grab(event) {
    if (event.button !== 0 || !event.isPrimary) return;
    event.preventDefault(); // no text is selected, no image dragged away
    this.stage.focus({ preventScroll: true });
    this.stage.setPointerCapture(event.pointerId);
    const start = this.#point(event);
    const before = this.crop;
    const edges = event.target.dataset.edges ?? "";
    const inside = this.box.contains(event.target);
    let moved = false;
    const follow = (now) => {
      const way = Math.hypot(now.clientX - event.clientX, now.clientY - event.clientY);
      if (!moved && way < CLICK) return;
      moved = true;
      const at = this.#point(now);
      const [dx, dy] = [at[0] - start[0], at[1] - start[1]];
      if (edges) this.set(pulled(before, edges, dx, dy), { done: false });
      else if (inside) {
        this.set([before[0] + dx, before[1] + dy, before[2], before[3]], { done: false });
      } else this.set(between(start, at), { done: false });
    };
    const release = () => {
      this.stage.removeEventListener("pointermove", follow);
      this.stage.removeEventListener("pointerup", release);
      this.stage.removeEventListener("pointercancel", release);
      if (moved) this.set(this.crop);
    };
    this.stage.addEventListener("pointermove", follow);
    this.stage.addEventListener("pointerup", release);
    this.stage.addEventListener("pointercancel", release);
  }

  #type(event) {
    const ways = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const { width, height } = this.size;
    if (event.key in ways && !event.ctrlKey && !event.metaKey) {
      event.preventDefault();
      event.stopPropagation();
      const [dx, dy] = ways[event.key];
      const stepX = event.altKey ? dx : dx * Math.max(1, Math.round(width / 50));
      const stepY = event.altKey ? dy : dy * Math.max(1, Math.round(height / 50));
      if (!this.crop) this.set([width / 4, height / 4, width / 2, height / 2]);
      else if (event.shiftKey) this.set(pulled(this.crop, "se", stepX, stepY));
      else this.set([this.crop[0] + stepX, this.crop[1] + stepY, this.crop[2], this.crop[3]]);
    } else if ((event.key === "Delete" || event.key === "Backspace") && this.crop) {
      event.preventDefault();
      this.set(null);
    }
  }
}

function between([x1, y1], [x2, y2]) {
  return [Math.min(x1, x2), Math.min(y1, y2), Math.abs(x2 - x1), Math.abs(y2 - y1)];
}

/** A crop whose named edges were pulled by so many pixels; an edge stops at the opposite one. */
function pulled([x, y, width, height], edges, dx, dy) {
  let [left, top, right, bottom] = [x, y, x + width, y + height];
  if (edges.includes("w")) left = Math.min(Math.max(left + dx, 0), right - SMALLEST);
  if (edges.includes("e")) right = Math.max(right + dx, left + SMALLEST);
  if (edges.includes("n")) top = Math.min(Math.max(top + dy, 0), bottom - SMALLEST);
  if (edges.includes("s")) bottom = Math.max(bottom + dy, top + SMALLEST);
  return [left, top, right - left, bottom - top];
}

/** Draws a part of an image on a canvas, at most so many pixels high. */
export function drawPart(canvas, image, crop, mostHeight = Infinity) {
  const [x, y, width, height] = crop ?? [0, 0, image.naturalWidth, image.naturalHeight];
  const scale = Math.min(1, mostHeight / height);
  canvas.width = Math.max(1, Math.round(width * scale));
  canvas.height = Math.max(1, Math.round(height * scale));
  canvas
    .getContext("2d")
    .drawImage(image, x, y, width, height, 0, 0, canvas.width, canvas.height);
  return canvas;
}
