// Image files from a person's hands: refused here, in the server's words, before they travel.

import { count } from "./words.js";

/** The kind of an image file by its first bytes, or null. */
async function kindOf(file) {
  const head = new Uint8Array(await file.slice(0, 12).arrayBuffer());
  const ascii = String.fromCharCode(...head);
  if (head[0] === 0xff && head[1] === 0xd8 && head[2] === 0xff) return "jpeg";
  if (ascii.startsWith("\x89PNG\r\n\x1a\n")) return "png";
  if (ascii.startsWith("RIFF") && ascii.slice(8, 12) === "WEBP") return "webp";
  return null;
}

/**
 * Opens a file as an image.
 *
 * @returns {Promise<{file: File, address: string, width: number, height: number}>} `address` is an
 *   object URL; width and height are those that a person sees
 * @throws {Error} a sentence: what it is not, and what to do
 */
export async function openImage(file, limits) {
  if (!file.size) throw new Error("The image file is empty.");
  if (file.size > limits.upload_bytes) {
    throw new Error(`The image file is longer than ${count(limits.upload_bytes)} bytes.`);
  }
  const kind = await kindOf(file);
  if (!kind || !limits.formats.includes(kind)) {
    throw new Error("It is neither a JPEG, nor a PNG, nor a WebP image.");
  }
  const address = URL.createObjectURL(file);
  const image = new Image();
  image.src = address;
  try {
    await image.decode();
  } catch {
    URL.revokeObjectURL(address);
    throw new Error(`The ${kind.toUpperCase()} data is damaged or cut short.`);
  }
  const { naturalWidth: width, naturalHeight: height } = image;
  if (width * height > limits.upload_pixels) {
    URL.revokeObjectURL(address);
    throw new Error(
      `The picture has ${width} x ${height} pixels; at most ${count(limits.upload_pixels)} in ` +
        "all are accepted. Make it smaller, or cut out the part that matters.",
    );
  }
  return { file, address, width, height };
}

/** Listens for files that are dropped anywhere, chosen, or pasted; calls `take(file)`. */
export function listenForFiles({ input, veil, take }) {
  input.addEventListener("change", () => {
    if (input.files.length) take(input.files[0]);
    input.value = ""; // the same file may be chosen again
  });
  const hasFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  let depth = 0; // enter and leave come for every element below
  addEventListener("dragenter", (event) => {
    if (!hasFiles(event)) return;
    depth += 1;
    veil.hidden = false;
  });
  addEventListener("dragleave", (event) => {
    if (!hasFiles(event)) return;
    depth -= 1;
    if (depth <= 0) veil.hidden = true;
  });
  addEventListener("dragover", (event) => {
    if (hasFiles(event)) event.preventDefault();
  });
  addEventListener("drop", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    depth = 0;
    veil.hidden = true;
    if (event.dataTransfer.files.length) take(event.dataTransfer.files[0]);
  });
  addEventListener("paste", (event) => {
    const file = [...(event.clipboardData?.files ?? [])].find((one) =>
      one.type.startsWith("image/"),
    );
    if (!file) return;
    event.preventDefault();
    take(file);
  });
}
