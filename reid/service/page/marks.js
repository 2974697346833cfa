// "The same person" or "a different one": what somebody decided, by query, kept in this browser.
// The image itself is never kept: a query is its sha256 and crop, or the id of a row.

const COLUMNS = [
  "query",
  "crop",
  "hit_id",
  "rank",
  "score",
  "pid",
  "camera",
  "time",
  "image",
  "mark",
  "threshold",
  "model",
  "gallery",
  "marked_at",
];

export class Marks {
  /** @param {string} gallery its name; other galleries' marks lie beside them, untouched */
  constructor(gallery) {
    this.prefix = `marks:${gallery}:`;
    this.queries = new Map(); // query -> Map of hit id -> row of the CSV
    try {
      for (const key of Object.keys(localStorage)) {
        if (!key.startsWith(this.prefix)) continue;
        const rows = JSON.parse(localStorage.getItem(key));
        this.queries.set(
          key.slice(this.prefix.length),
          new Map(rows.map((row) => [row.hit_id, row])),
        );
      }
    } catch {
      // storage that is forbidden or was written by something else: begin anew
    }
  }

  /** "same", "different" or undefined. */
  of(query, id) {
    return this.queries.get(query)?.get(id)?.mark;
  }

  /** Sets a mark; the same one again takes it away. Returns false if it cannot be kept. */
  toggle(query, row) {
    const rows = this.queries.get(query) ?? new Map();
    if (rows.get(row.hit_id)?.mark === row.mark) rows.delete(row.hit_id);
    else rows.set(row.hit_id, row);
    if (rows.size) this.queries.set(query, rows);
    else this.queries.delete(query);
    try {
      const key = this.prefix + query;
      if (rows.size) localStorage.setItem(key, JSON.stringify([...rows.values()]));
      else localStorage.removeItem(key);
      return true;
    } catch {
      return false;
    }
  }

  /** {same, different} of one query, or of all. */
  count(query) {
    const all = { same: 0, different: 0 };
    for (const [key, rows] of this.queries) {
      if (query !== undefined && key !== query) continue;
      for (const row of rows.values()) all[row.mark] += 1;
    }
    return all;
  }

  /** Forgets one query's marks, or all of this gallery. */
  clear(query) {
    for (const key of [...this.queries.keys()]) {
      if (query !== undefined && key !== query) continue;
      this.queries.delete(key);
      try {
        localStorage.removeItem(this.prefix + key);
      } catch {
        // nothing was kept then
      }
    }
  }

  /** All marks of this gallery as a CSV file's text. */
  csv() {
    const lines = [COLUMNS.join(",")];
    for (const rows of this.queries.values()) {
      for (const row of rows.values()) lines.push(COLUMNS.map((name) => cell(row[name])).join(","));
    }
    return lines.join("\r\n") + "\r\n";
  }
}

/**
 * A cell of a CSV file. A text that a spreadsheet would take for a formula gets a ' in front;
 * numbers stay numbers.
 */
export function cell(value) {
  if (value === null || value === undefined) return "";
  if (typeof value === "number" || typeof value === "boolean") return String(value);
  let text = typeof value === "object" ? JSON.stringify(value) : String(value);
  if (/^[=+\-@\t\r\n]/.test(text)) text = `'${text}`;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** Offers a text as a file to save. */
export function download(name, text) {
  const address = URL.createObjectURL(new Blob([text], { type: "text/csv;charset=utf-8" }));
  const link = document.createElement("a");
  link.href = address;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}
