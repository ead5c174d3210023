// The prompts of a run, a page at a time: there may be a million.

import { get, of } from "./api.js";
import { fill, h, name, number, say, table } from "./dom.js";
import { count, decimal } from "./format.js";
import { ranks } from "./policies.js";
import { toPrompt, toPrompts } from "./routes.js";

const PAGE = 50;
const TYPING_MS = 300; // a pause in typing
const KINDS = { "": "all", new: "new", effective: "effective", easy: "easy", hard: "hard" };
const SORTS = { streak: "streak", visits: "visits", mean: "mean reward", last_step: "last step" };

function parsed(query) {
  const given = Object.fromEntries(["kind", "sort", "search", "cursor"].map((key) => [key, query.get(key) ?? ""]));
  return {
    ...given,
    kind: Object.hasOwn(KINDS, given.kind) ? given.kind : "",
    sort: Object.hasOwn(SORTS, given.sort) ? given.sort : "streak",
  };
}

export class PromptsTab {
  #seen = null;
  #fresh = false;
  #paged = false;

  constructor(run, query, wake) {
    this.run = run;
    this.wake = wake;
    this.query = parsed(query);
    this.told = h("p", { class: "quiet", tabindex: -1, role: "status" });
    this.again = h("button", { type: "button", hidden: true, on: { click: () => this.#reload() } });
    this.list = h("div");
    this.pages = h("nav", { class: "pages", "aria-label": "Pages" });
    this.element = h(
      "div",
      {},
      h("h2", {}, "Prompts"),
      this.#controls(),
      h("div", { class: "told" }, this.told, this.again),
      this.list,
      this.pages,
    );
  }

  async refresh(overview, signal) {
    const seen = `${overview.generation}/${overview.step}`;
    if (this.#seen !== null && !this.#fresh) {
      this.again.hidden = seen === this.#seen; // rows stay under the eye until asked for
      say(this.again, `Show them as of step ${count(overview.step)}`);
      return;
    }
    const { kind, sort, search, cursor } = this.query;
    const told = await get(of(this.run, "prompts"), { kind, sort, search, cursor, limit: PAGE }, signal);
    this.#seen = seen;
    this.#fresh = false;
    this.again.hidden = true;
    const largest = `largest ${SORTS[sort]} first`;
    say(this.told, `${count(overview.prompts)} prompts in the run, ${largest}, as of step ${count(overview.step)}.`);
    fill(this.list, told.prompts.length ? this.#table(told.prompts, ranks(overview.policy)) : this.#none(overview));
    fill(
      this.pages,
      cursor ? h("a", { href: this.#to({ cursor: "" }) }, "First page") : null,
      told.cursor ? h("a", { href: this.#to({ cursor: told.cursor }), rel: "next" }, `Next ${PAGE}`) : null,
    );
    if (this.#paged) {
      this.told.focus({ preventScroll: true }); // the link that was followed is gone
      this.element.scrollIntoView();
    }
    this.#paged = false;
  }

  turn(query) {
    const before = this.query.cursor;
    this.query = parsed(query);
    this.#fresh = true;
    this.#paged = before !== this.query.cursor;
    this.kind.value = this.query.kind;
    this.sort.value = this.query.sort;
    if (document.activeElement !== this.search) this.search.value = this.query.search;
  }

  close() {
    clearTimeout(this.typing);
  }

  #to(changes) {
    return toPrompts(this.run, { ...this.query, cursor: "", ...changes });
  }

  #reload() {
    this.#fresh = true;
    this.wake();
  }

  #controls() {
    const go = (changes) => location.replace(this.#to(changes));
    const choice = (key, options) =>
      h(
        "select",
        { on: { change: (event) => go({ [key]: event.target.value }) } },
        ...Object.entries(options).map(([value, text]) =>
          h("option", { value, selected: this.query[key] === value }, text),
        ),
      );
    this.kind = choice("kind", KINDS);
    this.sort = choice("sort", SORTS);
    this.search = h("input", {
      type: "search",
      value: this.query.search,
      maxlength: 256,
      autocomplete: "off",
      spellcheck: "false",
      placeholder: "part of an id",
    });
    this.search.addEventListener("input", () => {
      clearTimeout(this.typing);
      this.typing = setTimeout(() => go({ search: this.search.value }), TYPING_MS);
    });
    const submit = (event) => {
      event.preventDefault();
      clearTimeout(this.typing);
      go({ search: this.search.value });
    };
    const labelled = (label, field) => h("label", {}, label, " ", field);
    return h(
      "form",
      { class: "controls", role: "search", on: { submit } },
      labelled("Search", this.search),
      labelled("Kind", this.kind),
      labelled("Sort by", this.sort),
    );
  }

  #table(prompts, ranked) {
    const chance = ranked ? "Score" : "Keep probability";
    const heads = ["Prompt", "Kind", "Streak", chance, "Expected pass rate", "Visits", "Mean reward", "Last step"];
    const rows = prompts.map((row) =>
      h(
        "tr",
        {},
        h("th", { scope: "row" }, h("a", { href: toPrompt(this.run, row.prompt), class: "whole" }, name(row.prompt))),
        h("td", { "data-label": heads[1] }, h("span", { class: "kind", "data-kind": row.kind }, row.kind)),
        ...[
          count(row.streak),
          decimal(row.keep_probability),
          decimal(row.pass_rate),
          count(row.visits),
          decimal(row.mean),
          count(row.last_step),
        ].map((text, at) => h("td", { class: "number", "data-label": heads[at + 2] }, text)),
      ),
    );
    return table("Prompts", [...heads.slice(0, 2), ...heads.slice(2).map(number)], rows, { class: "stacks" });
  }

  #none(overview) {
    const { kind, search, cursor } = this.query;
    if (kind || search || cursor)
      return h(
        "p",
        { class: "quiet" },
        search ? "No prompt has this in its id. Upper and lower case count." : "No prompt is of this kind now.",
      );
    return h(
      "p",
      { class: "quiet" },
      overview.pool
        ? "Nothing here."
        : "No prompts yet: they come with a pool (client.add_prompts) or with the first report.",
    );
  }
}
