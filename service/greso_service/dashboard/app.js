// The page: which view an address shows.

import { get } from "./api.js";
import { fill, h, say } from "./dom.js";
import { forget, known } from "./key.js";
import { Live } from "./live.js";
import { parse, toRuns } from "./routes.js";
import { RunView } from "./run.js";
import { RunsView } from "./runs.js";

const main = document.getElementById("main");
const live = new Live(document.getElementById("banner"), document.getElementById("pulse"));

/** Shown for an address that is none of ours. */
class Nowhere {
  title = "Not found";
  element = h(
    "section",
    {},
    h("h1", { tabindex: -1 }, "There is no such page"),
    h("p", {}, h("a", { href: toRuns() }, "All runs")),
  );

  async refresh() {}

  refused() {}
}

function viewOf({ parts, query }) {
  if (parts?.length === 0) return new RunsView(query.get("cursor"));
  const [what, run, tab = "overview", prompt, ...more] = parts ?? [];
  const fits =
    tab === "prompt" ? prompt !== undefined : prompt === undefined && ["overview", "map", "prompts"].includes(tab);
  return what === "run" && run !== undefined && fits && !more.length
    ? new RunView(run, tab, prompt, query, () => live.now())
    : new Nowhere();
}

let shown = null;

function navigate() {
  if (location.hash === "#main") return; // the skip link
  const address = parse(location.hash);
  main.dataset.address = location.hash;
  if (shown?.turn?.(address)) {
    live.now();
    return;
  }
  const first = shown === null;
  shown?.close?.();
  shown = viewOf(address);
  document.title = shown.title ? `${shown.title} \u00b7 greso` : "greso";
  fill(main, shown.element);
  if (!first) {
    window.scrollTo(0, 0);
    shown.element.querySelector("h1")?.focus({ preventScroll: true });
  }
  live.show(shown);
}

const forgetting = document.getElementById("forget");
forgetting.addEventListener("click", () => {
  forget();
  live.now();
});
live.onChange = () => {
  forgetting.hidden = !known();
  document.getElementById("metrics").hidden = known(); // a link carries no key
};

document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // the hash is an address here
  main.focus();
});
window.addEventListener("hashchange", navigate);
navigate();
get("/version", null, new AbortController().signal).then(
  (told) => say(document.getElementById("version"), `greso ${told.version}`),
  () => {}, // the banner tells that the service is away
);
