// A run's overview: what is off and what to change first, then the figures and the curves behind it.

import { get, of } from "./api.js";
import { Charts } from "./charts.js";
import { facts, fill, h, keyed, number, table } from "./dom.js";
import { audited } from "./audit.js";
import { domains } from "./domains.js";
import { about, count, decimal, estimate, percent, plural, short } from "./format.js";
import { known } from "./key.js";
import { ranks, steersWhole } from "./policies.js";

const POINTS = 300; // about one per two pixels of a chart
const FIGURES = 20;
const LEVELS = { problem: "Problem", warning: "Warning", hint: "Hint", good: "Good" };

export class OverviewTab {
  #seen = "";

  constructor(run) {
    this.run = run;
    this.advice = h("ul", { class: "advice", "aria-label": "Advice" });
    this.facts = h("div");
    this.audit = h("div");
    this.domains = h("div");
    this.charts = new Charts();
    this.figures = h("div");
    this.spec = h("div");
    this.how = h("details", { class: "quiet" });
    this.element = h(
      "div",
      {},
      h("h2", {}, "What to change"),
      this.advice,
      this.how,
      h("h2", {}, "Figures"),
      this.facts,
      this.audit,
      this.domains,
      h("h2", {}, "Step by step"),
      this.charts.element,
      h(
        "details",
        {},
        h("summary", {}, "The newest steps as a table"),
        h("div", { class: "scrolls", tabindex: 0, role: "region", "aria-label": "The newest steps" }, this.figures),
      ),
      h("details", {}, h("summary", {}, "Parameters in force"), this.spec),
    );
  }

  async refresh(overview, signal) {
    const seen = [
      overview.generation,
      overview.step,
      overview.totals.examined,
      overview.totals.groups,
      JSON.stringify(overview.spec),
    ].join();
    if (seen !== this.#seen) {
      const curves = await get(of(this.run, "curves"), { points: POINTS }, signal);
      this.charts.show(curves, overview);
      fill(this.figures, ...newest(curves));
      fill(this.spec, parameters(overview.spec, overview.exploration));
      this.#seen = seen;
    }
    fill(this.facts, figures(overview));
    fill(this.audit, audited(overview));
    fill(this.domains, domains(overview));
    const told = overview.advice.length ? overview.advice : [silence(overview)];
    this.#tellHow(advised(overview.advice));
    keyed(this.advice, told, (advice) => JSON.stringify(advice), makeAdvice);
  }

  #tellHow(fields) {
    const key = JSON.stringify(fields);
    if (this.how.dataset.fields === key) return; // somebody may be copying it
    this.how.dataset.fields = key;
    fill(this.how, ...how(this.run, fields));
  }

  close() {
    this.charts.close();
  }
}

const ENOUGH = 10; // steps; with fewer hardly any advice is given

/** What stands there when there is no advice: no more than is known. */
function silence({ recent, totals }) {
  if (!totals.groups) return WAITING;
  if (recent.steps < ENOUGH)
    return {
      code: "early",
      level: "hint",
      title: "Too early to say",
      detail: `${plural(recent.steps, "step")} with groups ${recent.steps === 1 ? "is" : "are"} complete. Most advice needs ${ENOUGH}.`,
      change: "",
    };
  return {
    code: "nothing",
    level: "good",
    title: "Nothing stands out",
    detail: `The last ${plural(recent.steps, "complete step")} gave no cause for advice. That is no proof: look at the curves below, too.`,
    change: "",
  };
}

const WAITING = {
  code: "waiting",
  level: "hint",
  title: "Waiting for the first report",
  detail:
    "The run is there, but no group was reported yet. Without reports nothing is known of the prompts, and nothing can be skipped.",
  change:
    "call client.collect(step, roll_out) in the training loop, or report each step's groups with client.report(step, groups).",
};

function makeAdvice({ code, level, title, detail, change }) {
  return h(
    "li",
    { "data-level": level, "data-code": code },
    h("strong", {}, h("span", { class: "level" }, LEVELS[level] ?? level), " ", title),
    h("p", {}, detail),
    change ? h("p", { class: "change" }, h("b", {}, "Do this: "), change) : null,
  );
}

/** The fields of the first change that the advice tells to make; null if it tells of none. */
function advised(advice) {
  for (const { change } of advice) {
    const found = change.match(/PATCH \S+ (\{.*\})/);
    if (found) return JSON.parse(found[1]);
  }
  return null;
}

function how(run, fields) {
  const set = fields ?? { target_zero_variance: 0.2 };
  const given = Object.entries(set).map(([field, value]) => `${field}=${JSON.stringify(value)}`);
  const body = JSON.stringify(set);
  const key = known() ? ` -H "Authorization: Bearer $GRESO_API_KEY"` : ""; // the terminal's own, never that of this tab
  return [
    h("summary", {}, fields ? "How to make this change" : "How to change a parameter of this run"),
    h("p", {}, "While it trains, by its name; the change is recorded in the run's history. In the trainer:"),
    h("pre", {}, h("code", {}, `client.update_run(${given.join(", ")})`)),
    h("p", {}, "Or from a terminal:"),
    h(
      "pre",
      {},
      h(
        "code",
        {},
        `curl -X PATCH ${location.origin}/v1/runs/${run} -H 'Content-Type: application/json'${key} \\\n     -d '${body}'`,
      ),
    ),
  ];
}

function figures(overview) {
  const { policy, recent, first, totals, exploration, prompts, pool, spec, target, saved_estimate } = overview;
  const over = recent.steps ? `last ${plural(recent.steps, "complete step")}` : "no complete step yet";
  const [low, high] = spec.exploration_bounds ?? [];
  const skips = totals.skipped.easy + totals.skipped.hard;
  const ratios = recent.zero_variance;
  const start = ranks(policy) ? "unranked" : "unfiltered";
  const chosen = [
    ranks(policy) && !skips
      ? ["Taken by rank", percent(spec.shadow ? 0 : 1 - Math.max(spec.exploration_share, spec.audit_share)), "of a draw; the rest walks the pool, whatever the scores"]
      : [
          "Skipped before the rollout",
          percent(recent.skip_rate),
          `of the candidates, ${over}; ${count(totals.skipped.easy)} easy and ${count(totals.skipped.hard)} hard in all`,
        ],
  ];
  const steering = steersWhole(overview)
    ? [
        ...(target.auto ? [["Target, tuned by the run", percent(target.easy + target.hard), target.reason]] : []),
        [
          "Exploration p easy / p hard",
          `${decimal(exploration.easy)} / ${decimal(exploration.hard)}`,
          low === undefined ? null : `between ${decimal(low)} and ${decimal(high)}; lower skips more`,
        ],
      ]
    : [];
  return facts([
    ...chosen,
    [
      "Effective yield",
      percent(recent.effective),
      first.effective === null
        ? `effective groups of all groups, ${over}`
        : `effective groups of all groups; ${percent(first.effective)} at the start, before anything was ${ranks(policy) ? "ranked" : "skipped"}`,
    ],
    ["Rollouts", short(totals.rollouts), `responses in ${plural(totals.groups, "group")}`],
    ...((policy === "uniform" || spec.shadow) && !skips && !saved_estimate
      ? [] // everything is rolled out
      : [
          [
            "Saved, estimate",
            estimate(saved_estimate),
            skips || (ranks(policy) && saved_estimate)
              ? `${saved_estimate === null ? nothingToCompare(overview, start) : `responses, if the model were as at the ${start} start`}${ranks(policy) ? "" : `; at most ${short(totals.rollouts_avoided)}`}. It has changed: only a run with policy uniform beside this one measures the saving`
              : ranks(policy)
                ? "nothing to be told yet"
                : "nothing skipped yet",
          ],
        ]),
    [
      "Zero-variance easy / hard",
      ratios ? `${percent(ratios.easy)} / ${percent(ratios.hard)}` : percent(null),
      steersWhole(overview) ? `of the groups; targets ${percent(target.easy)} / ${percent(target.hard)}` : `of the groups, ${over}`,
    ],
    ...steering,
    ...(totals.effective_per_rollout_second === null
      ? []
      : [
          [
            "Effective groups per rollout second",
            about(totals.effective_per_rollout_second),
            `${short(totals.seconds.rollout)} s of rollouts, ${short(totals.seconds.update)} s of updates reported`,
          ],
        ]),
    ["Rounds per step", about(recent.rounds), `mean, ${over}`],
    ["Prompts", short(prompts), pool ? `${count(pool)} of them in the pool` : "offered by the trainer"],
  ]);
}

const nothingToCompare = ({ domains }, start) =>
  domains.some(({ share }) => share !== null) ? "quotas change what the prompts earn, so it can't be told" : `no ${start} start to compare with`;

function newest(curves) {
  const heads = [
    "Step",
    "Examined",
    "Skipped easy",
    "Skipped hard",
    "Groups",
    "Effective",
    "Easy",
    "Hard",
    "p easy",
    "p hard",
    "Rounds",
  ];
  const columns = [
    "step",
    "examined",
    "skipped_easy",
    "skipped_hard",
    "groups",
    "effective",
    "easy",
    "hard",
    "p_easy",
    "p_hard",
    "rounds",
  ];
  const rows = [];
  for (let row = curves.step.length - 1; row >= Math.max(0, curves.step.length - FIGURES); row--) {
    const cells = columns.map((column) => (column.startsWith("p_") ? decimal : count)(curves[column][row]));
    rows.push(
      h(
        "tr",
        {},
        h("th", { scope: "row", class: "number" }, cells[0]),
        ...cells.slice(1).map((cell) => h("td", { class: "number" }, cell)),
      ),
    );
  }
  const summed =
    curves.steps_per_point > 1
      ? h("p", { class: "quiet" }, `Each row sums ${count(curves.steps_per_point)} steps and names the last.`)
      : null;
  return [summed, table("The newest steps", heads.map(number), rows)];
}

function parameters(spec, exploration) {
  const shown = (value) => {
    if (value === null) return "off";
    if (typeof value === "number") return String(Number(value.toPrecision(6)));
    return typeof value === "object" ? JSON.stringify(value) : String(value);
  };
  const now = { p_easy: exploration.easy, p_hard: exploration.hard };
  return h(
    "dl",
    { class: "terms" },
    ...Object.entries(spec).flatMap(([field, value]) => [
      h("dt", {}, h("code", {}, field)),
      h("dd", {}, field in now ? `${shown(value)} at the start, ${decimal(now[field])} now` : shown(value)),
    ]),
  );
}
