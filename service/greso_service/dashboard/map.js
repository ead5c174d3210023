// The selection map: a sample of prompts, offer by offer, and what became of each.

import { get, of } from "./api.js";
import { fill, h, name, say, set } from "./dom.js";
import { count, decimal, percent, plural } from "./format.js";
import { draw, KINDS, Layout } from "./picture.js";
import { toMap, toPrompt } from "./routes.js";

const SORTS = { streak: "streak", visits: "visits", mean: "mean reward", last_step: "last step", kind: "kind" };
const COLUMNS = { visits: "offers", steps: "steps" };
const ROWS = { 50: "50", 100: "100", 256: "all" };

function parsed(query) {
  const valid = (key, allowed, fallback) => (Object.hasOwn(allowed, query.get(key)) ? query.get(key) : fallback);
  return {
    sort: valid("sort", SORTS, "streak"),
    columns: valid("columns", COLUMNS, "visits"),
    rows: valid("rows", ROWS, "256"),
  };
}

export class MapTab {
  #seen = "";
  #layout = null;
  #at = null;
  #told = null;

  constructor(run, query) {
    this.run = run;
    this.query = parsed(query);
    this.sample = h("p", { class: "quiet" });
    this.readout = h("p", { class: "readout", role: "status" });
    this.canvas = h("canvas", {
      tabindex: 0,
      role: "img",
      "aria-label": "Selection map",
      "aria-describedby": "map-help",
    });
    this.frame = h("div", { class: "map" }, this.canvas);
    this.list = h("div");
    this.picture = h(
      "div",
      {},
      this.#controls(),
      legend(),
      this.readout,
      this.frame,
      h(
        "p",
        { class: "quiet", id: "map-help" },
        "Each row is a prompt, each cell a time it was offered, oldest on the left, the last 64. Click a cell, or move with the arrow keys and press Enter, to open the prompt.",
      ),
      h("details", {}, h("summary", {}, "The same as a list"), this.list),
    );
    this.empty = h("p", { class: "quiet" }, "Nothing was offered yet. The map fills as the trainer asks and reports.");
    this.element = h("div", {}, h("h2", {}, "Selection map"), this.sample, this.empty, this.picture);
    this.#listen();
  }

  async refresh(overview, signal) {
    const seen = [overview.generation, overview.step, overview.totals.examined, overview.totals.groups].join();
    const looking = this.#at !== null; // nobody wants rows to change places under the finger
    if (seen === this.#seen || (looking && this.#seen)) return;
    const told = await get(of(this.run, "map"), { limit: this.query.rows, sort: this.query.sort }, signal);
    this.#seen = seen;
    this.#told = told;
    const shown = told.prompts.some((prompt) => prompt.what);
    this.picture.hidden = !shown;
    this.empty.hidden = shown;
    say(
      this.sample,
      `${plural(told.prompts.length, "prompt")} of a fixed random sample of ${count(told.sampled)}, out of ${count(overview.prompts)}. A filter at work: prompts that gave the same reward again and again turn to thin lines; effective ones stay full.`,
    );
    fill(this.list, listed(this.run, told.prompts));
    requestAnimationFrame(() => this.#arrange());
  }

  turn(query) {
    this.query = parsed(query);
    this.#seen = "";
    for (const [key, field] of Object.entries(this.fields)) field.value = this.query[key];
  }

  close() {
    this.watch.disconnect();
    this.dark.removeEventListener("change", this.onDark);
  }

  #controls() {
    const choice = (key, options) => {
      const change = (event) => location.replace(toMap(this.run, { ...this.query, [key]: event.target.value }));
      return h(
        "select",
        { on: { change } },
        ...Object.entries(options).map(([value, text]) =>
          h("option", { value, selected: this.query[key] === value }, text),
        ),
      );
    };
    this.fields = { sort: choice("sort", SORTS), columns: choice("columns", COLUMNS), rows: choice("rows", ROWS) };
    const labels = { sort: "Sort by", columns: "Columns", rows: "Prompts" };
    return h(
      "form",
      { class: "controls" },
      ...Object.entries(this.fields).map(([key, field]) => h("label", {}, labels[key], " ", field)),
    );
  }

  #listen() {
    this.watch = new ResizeObserver(() => this.#arrange());
    this.watch.observe(this.frame);
    this.dark = matchMedia("(prefers-color-scheme: dark)");
    this.onDark = () => this.#draw();
    this.dark.addEventListener("change", this.onDark);
    this.canvas.addEventListener(
      "pointermove",
      (event) => event.pointerType === "mouse" && this.#mark(this.#cellAt(event)),
    );
    this.canvas.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && this.#mark(null));
    this.canvas.addEventListener("click", (event) => {
      const at = this.#cellAt(event);
      if (event.pointerType === "touch")
        this.#mark(at); // a finger hides what it points at: read first, then follow the link
      else if (at) this.#open(at);
    });
    this.canvas.addEventListener(
      "focus",
      () => this.canvas.matches(":focus-visible") && this.#mark(this.#at ?? { row: 0, column: 0 }),
    );
    this.canvas.addEventListener("blur", () => this.#mark(null));
    this.canvas.addEventListener("keydown", (event) => this.#key(event));
  }

  #key(event) {
    if (!this.#layout) return;
    const at = this.#at ?? { row: 0, column: 0 };
    const far = event.ctrlKey || event.metaKey ? 10 : 1;
    const steps = {
      ArrowUp: [-far, 0],
      ArrowDown: [far, 0],
      ArrowLeft: [0, -far],
      ArrowRight: [0, far],
      PageUp: [-10, 0],
      PageDown: [10, 0],
      Home: [0, -Infinity],
      End: [0, Infinity],
    };
    if (event.key === "Enter") this.#open(at);
    else if (steps[event.key]) {
      event.preventDefault();
      const [down, right] = steps[event.key];
      const within = (value, most) => Math.max(0, Math.min(most - 1, value));
      this.#mark({
        row: within(at.row + down, this.#layout.prompts.length),
        column: within(at.column + right, this.#layout.columns),
      });
      const box = this.canvas.getBoundingClientRect();
      const y = box.top + this.#at.row * this.#layout.row;
      if (y < 120 || y > innerHeight - 40) window.scrollBy(0, y - innerHeight / 2);
    }
  }

  #cellAt(event) {
    if (!this.#layout) return null;
    const box = this.canvas.getBoundingClientRect();
    const row = Math.floor((event.clientY - box.top) / this.#layout.row);
    const column = Math.floor((event.clientX - box.left) / this.#layout.cell);
    const inside = row >= 0 && row < this.#layout.prompts.length && column >= 0 && column < this.#layout.columns;
    return inside ? { row, column } : null;
  }

  #arrange() {
    const width = Math.floor(this.frame.clientWidth);
    if (!this.#told || !width) return;
    this.#layout = new Layout(this.#told.prompts, this.query.columns, width);
    set(
      this.canvas,
      "aria-label",
      `Selection map of ${plural(this.#layout.prompts.length, "prompt")}. The same stands below as a list.`,
    );
    say(this.readout, "Point at a cell to read it.");
    this.#mark(null);
  }

  #mark(at) {
    this.#at = at;
    this.#draw();
    if (!at) return; // what was read stays, with its link
    const prompt = this.#layout.prompts[at.row];
    const place = this.#layout.placeOf(prompt, at.column);
    const what =
      place < 0
        ? `not offered in ${this.#layout.nameOf(at.column)}`
        : `offer ${place + 1}, step ${count(prompt.steps[place])}: ${KINDS[prompt.what[place]][0]}`;
    const streak = `streak ${prompt.streak}, kept with ${decimal(prompt.keep_probability)}`;
    fill(
      this.readout,
      h("a", { href: toPrompt(this.run, prompt.prompt) }, name(prompt.prompt)),
      ` \u00b7 ${what} \u00b7 ${streak}`,
    );
  }

  #draw() {
    if (this.#layout) draw(this.canvas, this.#layout, this.#at);
  }

  #open(at) {
    location.hash = toPrompt(this.run, this.#layout.prompts[at.row].prompt);
  }
}

function legend() {
  const entries = Object.values(KINDS).map(([words, colour, where]) =>
    h("li", {}, h("span", { class: "swatch", "data-colour": colour, "data-where": where }), words),
  );
  return h("ul", { class: "legend", "aria-label": "Legend" }, ...entries);
}

function listed(run, prompts) {
  const items = prompts.map((prompt) => {
    const of_ = (letters) => [...prompt.what].filter((letter) => letters.includes(letter)).length;
    const offers = prompt.what.length;
    const told = `${plural(offers, "offer")}: ${of_("v")} effective, ${of_("e")} easy, ${of_("h")} hard, ${of_("u")} undetermined, skipped ${of_("xy")}`;
    return h(
      "li",
      {},
      h("a", { href: toPrompt(run, prompt.prompt) }, name(prompt.prompt)),
      ` \u2013 ${told} (${percent(offers ? of_("xy") / offers : null)})`,
    );
  });
  return h("ol", { class: "plain" }, ...items);
}
