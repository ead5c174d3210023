// One run: what it is at, and its tabs.

import { get, of, since } from "./api.js";
import { fill, h, name, say, set } from "./dom.js";
import { ago, count } from "./format.js";
import { MapTab } from "./map.js";
import { OverviewTab } from "./overview.js";
import { PromptTab } from "./prompt.js";
import { PromptsTab } from "./prompts.js";
import { toMap, toPrompts, toRun, toRuns } from "./routes.js";
import { badge } from "./runs.js";
import { does } from "./policies.js";

const TABS = [
  ["overview", "Overview", toRun],
  ["map", "Selection map", toMap],
  ["prompts", "Prompts", toPrompts],
];

export class RunView {
  constructor(run, tab, prompt, query, wake) {
    this.run = run;
    this.parts = ["run", run, ...(tab === "overview" ? [] : [tab]), ...(prompt === undefined ? [] : [prompt])];
    this.title = prompt ?? run;
    const tabs = { overview: OverviewTab, map: MapTab, prompts: PromptsTab };
    this.tab = tab === "prompt" ? new PromptTab(run, prompt) : new tabs[tab](run, query, wake);
    this.status = h("span");
    this.headline = h("p", { class: "lead" });
    this.at = h("p", { class: "quiet" });
    this.body = h("div", {}, h("p", { class: "quiet" }, "Loading \u2026"));
    const current = tab === "prompt" ? "prompts" : tab;
    const links = TABS.map(([key, label, to]) =>
      h("a", { href: to(run), "aria-current": key === current && (tab === "prompt" ? "true" : "page") }, label),
    );
    this.tabs = h("nav", { class: "tabs", "aria-label": "Run" }, ...links);
    this.element = h(
      "section",
      {},
      h("nav", { class: "crumbs", "aria-label": "Where" }, h("a", { href: toRuns() }, "Runs")),
      h("div", { class: "title" }, h("h1", { tabindex: -1 }, name(run)), this.status),
      this.headline,
      this.at,
      this.tabs,
      this.body,
    );
  }

  async refresh(signal) {
    const overview = await get(of(this.run, "overview"), null, signal);
    if (this.status.firstChild?.dataset.status !== overview.status) fill(this.status, badge(overview.status));
    say(this.headline, overview.headline);
    const shadow = overview.spec.shadow ? " in shadow mode" : "";
    const where = [`Step ${count(overview.step)}`, `epoch ${count(overview.epoch)}`, `policy ${overview.policy}${shadow}`];
    if (overview.generation) where.push(`generation ${count(overview.generation)}`);
    say(this.at, `${where.join(", ")}; last write ${ago(since(overview.active_at))}`);
    const policy = does(overview.policy);
    set(this.at, "title", `${new Date(overview.active_at).toLocaleString()}${policy ? `. Policy ${overview.policy} ${policy}` : ""}`);
    await this.tab.refresh(overview, signal);
    if (!this.tab.element.isConnected) fill(this.body, this.tab.element);
  }

  /** Go to another address in place, if it is only another way to look at the same: nothing loses the focus. */
  turn({ parts, query }) {
    const same = this.tab.turn && parts?.join("/") === this.parts.join("/");
    if (same) this.tab.turn(query);
    return Boolean(same);
  }

  refused(problem) {
    const missing = problem.status === 404 || problem.status === 422;
    fill(this.status); // of a run that may be gone
    for (const told of [this.headline, this.at]) say(told, "");
    fill(this.body, h("p", { class: "refused" }, missing ? `Not found: ${problem.message}` : problem.message));
  }

  close() {
    this.tab.close?.();
  }
}
