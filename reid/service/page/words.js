// How values are written for people.

const FIRST_DATE = 946684800; // 2000 in seconds: a smaller number is a frame or a second of a film
const LAST_DATE = 4102444800; // 2100

export const count = (value) => value.toLocaleString("en-US");

export const plural = (value, one, many) => `${count(value)} ${value === 1 ? one : many}`;

let digits = 3;

/** Decimals of a score: as many as tell the hits apart. */
export function setDigits(value) {
  digits = value;
}

export const score = (value) => value.toFixed(digits);

/** Any JSON value as text. */
export function text(value) {
  if (value === null || value === undefined) return "";
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

/** A time as people read it: seconds since 1970 become a date, other numbers stay (to 1/1000). */
export function time(value) {
  if (typeof value !== "number") return text(value);
  if (value < FIRST_DATE || value > LAST_DATE) return String(Number(value.toFixed(3)));
  return new Date(value * 1000).toISOString().slice(0, 19).replace("T", " ");
}

/** 0.01 -> "1%", 0.0005 -> "0.05%". */
export const percent = (rate) => `${Number((rate * 100).toPrecision(3))}%`;

/** The middle left out of what is too long; the end of a file's name says most. */
export function shortened(value, most = 28) {
  if (value.length <= most) return value;
  const end = Math.floor(most * 0.6);
  return `${value.slice(0, most - end - 1)}…${value.slice(-end)}`;
}
