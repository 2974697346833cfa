// Stored pictures of rows: plain images, or fetched with the token where reading needs one.

import { request } from "./api.js";
import { icon, make } from "./dom.js";
import { text } from "./words.js";

const AT_ONCE = 6;

let withToken = false;
let running = 0;
const waiting = [];
const addresses = new WeakMap(); // image -> the object URL it shows

/** `true` where an <img> alone would be refused, for it cannot send a token. */
export function setNeedsToken(value) {
  withToken = value;
}

const seen = new IntersectionObserver(
  (entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      seen.unobserve(target);
      waiting.push(target);
    }
    next();
  },
  { rootMargin: "400px" },
);

/** A row's picture in a frame; a quiet sign where the gallery keeps none. */
export function picture(row) {
  const frame = make("span", { class: "picture" });
  if (!row.thumbnail) {
    frame.append(noPicture());
    return frame;
  }
  const address = `api/rows/${row.id}/thumbnail`;
  const image = make("img", { alt: "", decoding: "async", draggable: "false" });
  image.addEventListener("load", () => frame.classList.add("loaded"), { once: true });
  image.addEventListener("error", () => image.replaceWith(noPicture()), { once: true });
  frame.append(image);
  if (withToken) {
    image.dataset.address = address;
    seen.observe(image);
  } else {
    image.loading = "lazy";
    image.src = address;
  }
  return frame;
}

/** Gives back what the pictures below an element hold; call it before they go. */
export function release(element) {
  for (const image of element.querySelectorAll("img[data-address]")) {
    seen.unobserve(image);
    delete image.dataset.address;
    URL.revokeObjectURL(addresses.get(image));
    addresses.delete(image);
  }
}

/** What a row is called where it is not seen. */
export function nameOf(row) {
  const { pid, camera } = row.record;
  const parts = [`row ${row.id}`];
  if (pid !== undefined) parts.push(`identity ${text(pid)}`);
  if (camera !== undefined) parts.push(`camera ${text(camera)}`);
  return parts.join(", ");
}

function next() {
  while (running < AT_ONCE && waiting.length) {
    const image = waiting.shift();
    if (!image.dataset.address) continue; // released meanwhile
    running += 1;
    fetchInto(image).finally(() => {
      running -= 1;
      next();
    });
  }
}

async function fetchInto(image) {
  try {
    const response = await request(image.dataset.address);
    const address = URL.createObjectURL(await response.blob());
    if (!image.dataset.address) {
      URL.revokeObjectURL(address);
      return;
    }
    addresses.set(image, address);
    image.src = address;
  } catch {
    image.replaceWith(noPicture());
  }
}

const noPicture = () => make("span", { class: "no-picture" }, icon("person"), "no picture kept");
