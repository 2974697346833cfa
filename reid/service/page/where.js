// From what was typed and clicked to the `where` of a search, in the words of the server.

export const OPERATORS = {
  "=": "$in",
  "≠": "$nin",
  "<": "$lt",
  "≤": "$lte",
  ">": "$gt",
  "≥": "$gte",
};

const LAST_CHARACTER = "~"; // sorts after digits and letters: a day's text before all its hours

const isNumber = (text) => text.trim() !== "" && Number.isFinite(Number(text));

/**
 * All values that a typed text may mean: 7 and "7" differ in a gallery, and a person who types
 * 7 means whichever is there. "7" in quotes is the text alone.
 */
export function meanings(typed) {
  const text = typed.trim();
  const quoted = /^"(.*)"$/.exec(text);
  if (quoted) return [quoted[1]];
  if (text === "true" || text === "false") return [text === "true", text];
  return isNumber(text) ? [Number(text), text] : [text];
}

/** Comma-separated texts, each with all it may mean. */
export function listed(typed) {
  return typed
    .split(",")
    .filter((part) => part.trim() !== "")
    .flatMap(meanings);
}

/** A bound compares numbers with numbers and texts with texts. */
export function bound(typed) {
  const text = typed.trim();
  const quoted = /^"(.*)"$/.exec(text);
  if (quoted) return quoted[1];
  return isNumber(text) ? Number(text) : text;
}

/** One single value of a new record, of the kind that the gallery's other values have. */
export function valueLike(typed, known) {
  const text = typed.trim();
  if (text === "") return null;
  const kinds = new Set(known.filter((value) => value !== null).map((value) => typeof value));
  if (kinds.has("string") && !kinds.has("number")) return text;
  return isNumber(text) ? Number(text) : text;
}

/**
 * Conditions {field, operator, value} that are all to hold, as one `where`; null for none.
 * Lists of values of one field are intersected, excluded ones united, bounds made the tighter.
 */
export function compose(conditions) {
  const where = Object.create(null); // a field may have any name, __proto__ too
  for (const { field, operator, value } of conditions) {
    const wanted = (where[field] ??= {});
    if (!(operator in wanted)) {
      wanted[operator] = value;
    } else if (operator === "$in") {
      wanted.$in = wanted.$in.filter((one) => value.includes(one));
    } else if (operator === "$nin") {
      wanted.$nin = [...new Set([...wanted.$nin, ...value])];
    } else {
      const larger = operator.startsWith("$g");
      if (value > wanted[operator] === larger) wanted[operator] = value;
    }
  }
  return Object.keys(where).length ? where : null;
}

/** What the filters of the page say, as conditions. */
export function conditionsOf(filters) {
  const found = [];
  const cameras = [...filters.cameras];
  const only = cameras.filter(([, way]) => way === "in").map(([camera]) => camera);
  const without = cameras.filter(([, way]) => way === "out").map(([camera]) => camera);
  if (only.length) found.push({ field: "camera", operator: "$in", value: only });
  if (without.length) found.push({ field: "camera", operator: "$nin", value: without });
  if (filters.from.trim()) {
    found.push({ field: "time", operator: "$gte", value: bound(filters.from) });
  }
  if (filters.until.trim()) {
    const last = bound(filters.until);
    // Of texts, all that begin so: until "2026-11-29" has the whole of that day.
    const value = typeof last === "string" ? last + LAST_CHARACTER : last;
    found.push({ field: "time", operator: "$lte", value });
  }
  const pids = listed(filters.pid);
  if (pids.length) found.push({ field: "pid", operator: "$in", value: pids });
  for (const row of filters.rows) {
    if (!row.value.trim()) continue;
    const operator = OPERATORS[row.operator];
    const several = operator === "$in" || operator === "$nin";
    const value = several ? listed(row.value) : bound(row.value);
    found.push({ field: row.field, operator, value });
  }
  return found;
}
