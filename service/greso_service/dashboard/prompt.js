// One prompt: why it is kept or skipped, and what it earned so far.

import { get, of } from "./api.js";
import { facts, fill, h, name, number, table } from "./dom.js";
import { count, decimal, percent, plural } from "./format.js";
import { does, ranks } from "./policies.js";
import { toPrompts } from "./routes.js";

export class PromptTab {
  #seen = "";

  constructor(run, prompt) {
    this.run = run;
    this.prompt = prompt;
    this.why = h("div");
    this.facts = h("div");
    this.groups = h("div");
    this.element = h(
      "div",
      {},
      h("p", { class: "crumbs" }, h("a", { href: toPrompts(run) }, "Prompts")),
      h("h2", { class: "prompt" }, name(prompt)),
      this.why,
      this.facts,
      h("h2", {}, "Recent groups"),
      this.groups,
    );
  }

  async refresh(overview, signal) {
    const seen = [
      overview.generation,
      overview.step,
      overview.totals.groups,
      overview.totals.examined,
      JSON.stringify(overview.spec),
    ].join();
    if (seen === this.#seen) return;
    const [prompt, why] = await Promise.all([
      get(of(this.run, "prompts", this.prompt), null, signal),
      get(of(this.run, "why", this.prompt), null, signal),
    ]);
    this.#seen = seen;
    fill(this.why, explained(why, prompt, overview));
    fill(this.facts, known(prompt, why, overview.policy));
    fill(
      this.groups,
      prompt.groups.length
        ? history(prompt.groups)
        : h("p", { class: "quiet" }, ranks(overview.policy) ? "None yet." : "None yet. A prompt without a judged group is always kept."),
    );
  }
}

const verdict = (keep) => (keep === null ? "It depends. " : keep ? "Kept. " : "Skipped. ");
const ranking = (keep) => (keep === null ? "It depends. " : keep ? "Taken. " : "Left out. ");

function explained(why, prompt, overview) {
  const ranked = ranks(overview.policy);
  return h(
    "div",
    { class: "why", "data-keep": String(why.keep ?? "unknown") },
    h("p", {}, h("strong", {}, (ranked ? ranking : verdict)(why.keep)), why.sentence),
    ranked ? rankedBy(overview.policy) : rule(why, prompt, overview),
  );
}

function rankedBy(policy) {
  return h("p", { class: "quiet" }, `Policy ${policy} ${does(policy)}. A prompt left out is ranked again in the next draw.`);
}

function rule(why, prompt, overview) {
  const p = why.kind === "hard" ? "p_hard" : "p_easy";
  const { exploration } = overview.domains.find(({ domain }) => domain === prompt.domain) ?? overview;
  const value = why.kind === "hard" ? exploration.hard : exploration.easy;
  const probability =
    overview.policy === "band"
      ? `1 inside of the band, else min_keep_probability = ${decimal(overview.spec.min_keep_probability)}`
      : why.streak === 0 || overview.policy === "uniform"
        ? "kept with probability 1"
        : `max(${p} ^ streak, min_keep_probability) = max(${decimal(value)} ^ ${why.streak}, ${decimal(overview.spec.min_keep_probability)}) = ${decimal(why.keep_probability)}`;
  return h(
    "p",
    { class: "quiet" },
    "The rule: ",
    h("code", {}, probability),
    `. A prompt is kept in a step when its draw for that step, ${decimal(why.draw)} in step ${count(why.step)}, is below it.`,
  );
}

function known(prompt, why, policy) {
  const next = why.next_kept_step === null ? "none in 1,000 steps" : `step ${count(why.next_kept_step)}`;
  const free = why.free_from === null ? "now" : `step ${count(why.free_from)}`;
  const chosen = ranks(policy)
    ? [
        ["Score", decimal(prompt.keep_probability), "the best are taken"],
        ["Rank", count(why.rank), why.ranked === null ? "it is not in the pool" : `of ${plural(why.ranked, "prompt")} that may be drawn`],
        ["May be drawn from", free, "draws leave a prompt alone for cooldown_steps"],
      ]
    : [
        ["Keep probability", decimal(prompt.keep_probability), "in each step"],
        ["Kept next in", next, "if nothing changes"],
      ];
  return facts([
    [
      "Kind",
      h("span", { class: "kind", "data-kind": prompt.kind }, prompt.kind),
      prompt.kind === "new" ? "no judged group yet" : "of its latest judged group",
    ],
    ...(prompt.domain === null ? [] : [["Domain", name(prompt.domain), "its own p_easy and p_hard, and targets"]]),
    ["Streak", count(prompt.streak), "zero-variance groups in a row"],
    ...chosen,
    ["Expected pass rate", decimal(why.pass_rate), `in step ${count(why.step)}, by the model of ability and difficulty`],
    ["Chance of an effective group", percent(why.effective_chance), "by the same model"],
    ["Visits", count(prompt.visits), "groups in all"],
    [
      "Mean reward",
      decimal(prompt.mean),
      prompt.last_step === null ? null : `last rolled out in step ${count(prompt.last_step)}`,
    ],
  ]);
}

function history(groups) {
  const heads = ["Step", "Outcome", "Rewards", "Mean", "Lowest", "Highest"];
  const rows = groups.map((group) => {
    const figures = [count(group.count), decimal(group.mean), decimal(group.min), decimal(group.max)];
    return h(
      "tr",
      {},
      h("th", { scope: "row", "data-label": heads[0] }, count(group.step)),
      h("td", { "data-label": heads[1] }, h("span", { class: "kind", "data-kind": group.outcome }, group.outcome)),
      ...figures.map((text, at) => h("td", { class: "number", "data-label": heads[at + 2] }, text)),
    );
  });
  return h(
    "div",
    {},
    h("p", { class: "quiet" }, `The last ${plural(groups.length, "group")}, newest first.`),
    table("Recent groups", [...heads.slice(0, 2), ...heads.slice(2).map(number)], rows, { class: "stacks" }),
  );
}
