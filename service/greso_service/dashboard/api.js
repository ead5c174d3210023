// The HTTP API of the service that serves this page.

import { headers } from "./key.js";

const PATIENCE_MS = 15_000; // a run of a million prompts that nobody looked at lately is loaded first: seconds

/** No answer, or one that says to try again. */
export class Away extends Error {}

/** No answer in time: it may be at work. */
export class Slow extends Away {}

/** The service refused; `status` and its detail as message. */
export class Problem extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

/** It wants a key, or another one. */
export class Locked extends Problem {}

let skew = 0; // of the server's clock against this one, in milliseconds

/** How long ago, by the server's clock. */
export const since = (timestamp) => Date.now() + skew - Date.parse(timestamp);

/** GET and parse; `query` without its null members. */
export async function get(path, query, signal) {
  const given = Object.entries(query ?? {}).filter(
    ([, value]) => value !== null && value !== undefined && value !== "",
  );
  const address = given.length ? `${path}?${new URLSearchParams(given)}` : path;
  let answer, content;
  try {
    const patience = AbortSignal.any([signal, AbortSignal.timeout(PATIENCE_MS)]);
    answer = await fetch(address, { headers: headers(), signal: patience });
    content = await answer.json();
  } catch (error) {
    if (signal.aborted) throw error;
    if (error.name === "TimeoutError") throw new Slow(`No answer within ${PATIENCE_MS / 1000} s.`);
    throw new Away("It can't be reached.");
  }
  const date = Date.parse(answer.headers.get("Date") ?? "");
  if (date) skew = date - Date.now();
  if (answer.ok) return content;
  if (answer.status === 401) throw new Locked(401, content.detail ?? answer.statusText);
  if (answer.status >= 502) throw new Away(content.detail ?? answer.statusText);
  throw new Problem(answer.status, content.detail ?? answer.statusText);
}

/** The path of something of a run. */
export function of(run, ...parts) {
  if (parts.some((part) => part === "." || part === ".."))
    throw new Problem(404, "no browser can ask for a name of one or two dots: it takes them for folders of the address.");
  return ["/v1/runs", encodeURIComponent(run), ...parts.map(encodeURIComponent)].join("/");
}
