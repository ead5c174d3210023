// All runs: who saves how much, and who needs help.

import { get, since } from "./api.js";
import { fill, h, keyed, name, number, say, set, table } from "./dom.js";
import { ago, count, decimal, estimate, percent, short } from "./format.js";
import { ranks, steersWhole } from "./policies.js";
import { toRun, toRuns } from "./routes.js";

const PAGE = 20; // each run that is shown is folded by the service

const STATUS = {
  saving: "5 % of the candidates or more are skipped, or they are ranked, and a rollout earns clearly more than at the unfiltered start",
  filtering: "as many are skipped, but what that saves can't be told: a rollout earns no more than at the start",
  learning: "little is skipped yet; its advice says why",
  off: "every prompt is rolled out: the policy is uniform, or the run is a shadow run",
  stuck: "a problem, or a warning while nothing is skipped: its advice says what to change",
  idle: "not written to lately, or never",
};

/** A run's status as a word with a mark. */
export const badge = (status) =>
  h("span", { class: "badge", "data-status": status, title: STATUS[status] ?? null }, status);

const FIGURES = ["Skipped", "Effective yield", "Rollouts", "Saved, estimate", "p easy", "p hard", "Last write"];

export class RunsView {
  title = "Runs";

  constructor(cursor) {
    this.cursor = cursor;
    this.body = h("div", {}, h("p", { class: "quiet" }, "Loading \u2026"));
    this.cold = h("p", {});
    this.unreadable = h("p", {});
    this.element = h(
      "section",
      {},
      h("h1", { tabindex: -1 }, "Runs"),
      h("p", { class: "lead" }, "Does the filter save rollouts, and what would make it save more? Open a run to see."),
      this.cold,
      this.unreadable,
      this.body,
    );
    this.rows = h("tbody");
    this.table = table("Runs, newest activity first", ["Run", "Status", ...FIGURES.map(number)], [], {
      class: "stacks runs",
    });
    this.table.querySelector("tbody").replaceWith(this.rows);
    this.pages = h("nav", { class: "pages", "aria-label": "More runs" });
  }

  async refresh(signal) {
    const told = await get("/v1/overview", { limit: PAGE, cursor: this.cursor }, signal);
    this.notRead(told.cold);
    say(
      this.unreadable,
      told.unreadable.length
        ? `Not readable: ${told.unreadable.join(", ")}. The history is damaged, or a newer service wrote it; the log says more.`
        : "",
    );
    if (!told.runs.length && !told.cold.length && !told.unreadable.length && !this.cursor) {
      if (!this.body.querySelector(".teach")) fill(this.body, teach());
      return;
    }
    keyed(this.rows, told.runs, (row) => row.run, makeRow, updateRow);
    fill(
      this.pages,
      this.cursor ? h("a", { href: toRuns() }, "Newest runs") : null,
      told.cursor ? h("a", { href: toRuns(told.cursor) }, "Older runs") : null,
    );
    if (!this.table.isConnected) fill(this.body, this.table, this.pages, legend());
  }

  notRead(runs) {
    if (this.cold.dataset.runs === runs.join()) return; // a link may have the focus
    this.cold.dataset.runs = runs.join();
    const links = runs.map((run) => h("a", { href: toRun(run) }, name(run)));
    fill(this.cold, runs.length ? "Not in memory, being read: " : null, ...links.flatMap((one, at) => (at ? [", ", one] : [one])));
  }

  refused(problem) {
    fill(this.body, h("p", { class: "quiet" }, problem.message));
  }
}

function makeRow(row) {
  const cells = FIGURES.map((head) => h("td", { class: "number", "data-label": head }, h("span"), " ", h("small")));
  const first = h(
    "th",
    { scope: "row" },
    h("a", { href: toRun(row.run), class: "whole" }, name(row.run)),
    h("small", { class: "headline" }),
  );
  return h("tr", {}, first, h("td", { "data-label": "Status" }), ...cells);
}

function updateRow(element, row) {
  const { recent, first, totals, exploration } = row;
  const [head, status, skipped, effective, rollouts, saved, easy, hard, active] = element.children;
  say(head.querySelector(".headline"), row.headline);
  if (status.firstChild?.dataset.status !== row.status) fill(status, badge(row.status));
  tell(skipped, ranks(row.policy) ? "ranked" : percent(recent.skip_rate));
  tell(effective, percent(recent.effective), first.effective === null ? "" : `from ${percent(first.effective)}`);
  figure(rollouts, totals.rollouts);
  tell(saved, estimate(row.saved_estimate), totals.rollouts_avoided && !ranks(row.policy) ? `at most ${short(totals.rollouts_avoided)}` : "");
  set(saved, "title", count(row.saved_estimate));
  tell(easy, decimal(steersWhole(row) ? exploration.easy : null));
  tell(hard, decimal(steersWhole(row) ? exploration.hard : null));
  tell(active, ago(since(row.active_at)));
  set(active, "title", new Date(row.active_at).toLocaleString());
}

function tell(cell, text, remark = "") {
  say(cell.firstChild, text);
  say(cell.lastChild, remark);
}

function figure(cell, value) {
  tell(cell, short(value));
  set(cell, "title", count(value));
}

function legend() {
  return h(
    "details",
    { class: "quiet" },
    h("summary", {}, "What the columns mean"),
    h(
      "dl",
      { class: "terms" },
      ...[
        ["Skipped", "of the candidates examined in the last 50 complete steps: prompts that were not rolled out. Ranked: the best are taken, and nobody is skipped for good"],
        [
          "Effective yield",
          "effective groups of all groups: in the last 50 steps, and in the first ones, before anything was skipped. It should rise",
        ],
        [
          "Saved, estimate",
          "responses: each step's effective groups \u00d7 (what one cost at the unfiltered start \u2212 what it costs in that step). The model has changed since: only a run with the policy uniform beside this one measures the saving. At most: skips \u00d7 group size, though a candidate that is offered again counts again",
        ],
        ["p easy, p hard", "exploration probability of policy greso: the lower, the more is skipped"],
        ...Object.entries(STATUS),
      ].flatMap(([term, meaning]) => [h("dt", {}, term), h("dd", {}, meaning)]),
    ),
  );
}

function teach() {
  const origin = location.origin;
  return h(
    "div",
    { class: "teach" },
    h("h2", {}, "No runs yet"),
    h("p", {}, "See one in a minute: this trains a small model on your CPU and asks this service what to roll out."),
    h("pre", {}, h("code", {}, `greso demo --quick --url ${origin}`)),
    h("p", {}, "Or connect your own training loop (Python, needs only httpx):"),
    h(
      "pre",
      {},
      h(
        "code",
        {},
        `from greso_client import Client, Rollout

with Client("${origin}", run="first") as client:
    client.create_run(group_size=8, train_batch_size=256, rollout_batch_size=384)
    client.add_prompts(prompt_ids)         # the same ids in every epoch
    for step in range(steps):
        train(client.collect(step, roll_out).effective)`,
      ),
    ),
    h(
      "p",
      { class: "quiet" },
      "This page shows the run as soon as it is there. In its first epoch nothing can be skipped yet: the service first has to see how each prompt does.",
    ),
  );
}
