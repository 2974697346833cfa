// Asking the server: the token, one retry where it is busy, and errors in sentences.

const LONGEST_WAIT = 10; // seconds that a busy server may make the page wait by itself

/** What went wrong, as a sentence for people; `code` is the server's, or "offline". */
export class ApiError extends Error {
  constructor(message, code, status = 0) {
    super(message);
    this.code = code;
    this.status = status;
  }
}

let token = null;
let asking = null;
let askForToken = async () => "";
let whileWaiting = () => {};

/** `ask(rejected)` gives a token, "" if there is none; `waiting(seconds)` hears of a wait. */
export function setUp({ ask, waiting }) {
  askForToken = ask;
  whileWaiting = waiting;
}

export const hasToken = () => Boolean(readToken());

function readToken() {
  if (token !== null) return token;
  try {
    token = sessionStorage.getItem("token") ?? "";
  } catch {
    token = "";
  }
  return token;
}

/** Kept for this tab alone, until it is closed. */
export function keepToken(value) {
  token = value;
  try {
    if (value) sessionStorage.setItem("token", value);
    else sessionStorage.removeItem("token");
  } catch {
    // without storage it lasts as long as the page
  }
}

/** Asks once, however many requests were refused; false where nobody gave one. */
async function renewToken(refused) {
  if (readToken() !== refused) return true; // another request has brought a new one meanwhile
  asking ??= askForToken(refused !== "").finally(() => (asking = null));
  const given = await asking;
  keepToken(given); // a refused one is dropped: what needs none works again
  return Boolean(given);
}

/**
 * A request to the server of this page.
 *
 * @param {string} path relative to the page, so that it works behind a prefix, too
 * @param {{method?: string, json?: object, form?: () => FormData, signal?: AbortSignal}} options
 * @returns {Promise<Response>} a good one
 * @throws {ApiError} in any other case; an AbortError where `signal` says so
 */
export async function request(path, { method = "GET", json, form, signal } = {}) {
  let waited = false;
  for (;;) {
    const sent = readToken();
    const headers = {};
    if (sent) headers.Authorization = `Bearer ${sent}`;
    if (json !== undefined) headers["Content-Type"] = "application/json";
    let response;
    try {
      response = await fetch(path, {
        method,
        headers,
        body: json !== undefined ? JSON.stringify(json) : form?.(),
        credentials: "omit",
        redirect: "error",
        signal,
      });
    } catch (error) {
      if (signal?.aborted) throw error;
      throw new ApiError(
        navigator.onLine
          ? "The server does not answer. Check that it is running, then try again."
          : "This device is offline. Connect it, then try again.",
        "offline",
      );
    }
    if (response.ok) return response;
    if (response.status === 401) {
      if (await renewToken(sent)) continue;
      throw new ApiError("This needs a token. Try again to type it in.", "unauthorized", 401);
    }
    if ((response.status === 503 || response.status === 429) && !waited) {
      const seconds = Number(response.headers.get("Retry-After") ?? NaN);
      if (seconds >= 0 && seconds <= LONGEST_WAIT) {
        waited = true;
        whileWaiting(seconds);
        await pause(seconds * 1000, signal);
        continue;
      }
    }
    throw await errorOf(response);
  }
}

/** The JSON of an answer. */
export async function ask(path, options) {
  const response = await request(path, options);
  return response.status === 204 ? null : response.json();
}

async function errorOf(response) {
  const again = response.headers.get("Retry-After");
  try {
    const { error } = await response.json();
    return new ApiError(error.message, error.code, response.status);
  } catch {
    const when = again ? ` Try again in ${again} s.` : " Try again.";
    return new ApiError(
      `The server answered with the status ${response.status} and no reason.${when}`,
      "unknown",
      response.status,
    );
  }
}

function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });
}
