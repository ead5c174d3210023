// The addresses of this page: all in the hash, so that they can be kept, sent and gone back to.

const address = (parts, query) => {
  const given = Object.entries(query ?? {}).filter(([, value]) => value);
  return `#/${parts.map(encodeURIComponent).join("/")}${given.length ? `?${new URLSearchParams(given)}` : ""}`;
};

export const toRuns = (cursor) => address([], { cursor });
export const toRun = (run) => address(["run", run]);
export const toMap = (run, query) => address(["run", run, "map"], query);
export const toPrompts = (run, query) => address(["run", run, "prompts"], query);
export const toPrompt = (run, prompt) => address(["run", run, "prompt", prompt]);

/** {parts, query} of a hash; parts is null if it is not one of ours. */
export function parse(hash) {
  const [path, query = ""] = hash.replace(/^#\/?/, "").split("?", 2);
  try {
    return {
      parts: path
        .split("/")
        .filter((part) => part)
        .map(decodeURIComponent),
      query: new URLSearchParams(query),
    };
  } catch {
    return { parts: null, query: new URLSearchParams() };
  }
}
