// The curves of a run. One cursor runs through all charts; arrow keys move it, too.

import { fill, h, say } from "./dom.js";
import { about, count, decimal, percent } from "./format.js";
import { ranks, steersWhole } from "./policies.js";

/* global uPlot */
const HEIGHT = 180;
const ratio = (above, below) => above.map((value, at) => (below[at] ? value / below[at] : null));
const sum = (...columns) => columns[0].map((_, at) => columns.reduce((total, column) => total + column[at], 0));
const level = (value) => (curves) => curves.step.map(() => value ?? null);

const aims = (policy, _curves, overview) => steersWhole(overview) || policy === "uniform";

// Each chart: what it tells, how to read it, the policies that it is for (all, if not said), and its series: label,
// colour, line, values of (curves, overview).
const CHARTS = [
  {
    title: "Skipped candidates",
    note: "Should grow after the first epoch: until then nothing is known of a prompt.",
    of: (policy, curves) => !ranks(policy) || sum(curves.skipped_easy, curves.skipped_hard).some(Boolean),
    format: percent,
    series: [
      ["easy", "easy", "", (c) => ratio(c.skipped_easy, c.examined)],
      ["hard", "hard", "", (c) => ratio(c.skipped_hard, c.examined)],
      ["both", "ink", "", (c) => ratio(sum(c.skipped_easy, c.skipped_hard), c.examined)],
    ],
  },
  {
    title: "Zero-variance groups against their targets",
    note: "Rollouts that taught nothing. Above its target a kind is skipped more, below it less. Well above for long: lower p can't help, see the advice.",
    of: aims,
    format: percent,
    series: [
      ["easy", "easy", "", (c) => ratio(c.easy, c.groups)],
      ["hard", "hard", "", (c) => ratio(c.hard, c.groups)],
      ["target easy", "easy", "dash", (c, o) => level(o.target.easy)(c)],
      ["target hard", "hard", "dash", (c, o) => level(o.target.hard)(c)],
    ],
  },
  {
    title: "Zero-variance groups",
    note: "Rollouts that taught nothing: the fewer, the better the prompts were chosen.",
    of: (policy, curves, overview) => !aims(policy, curves, overview),
    format: percent,
    series: [
      ["easy", "easy", "", (c) => ratio(c.easy, c.groups)],
      ["hard", "hard", "", (c) => ratio(c.hard, c.groups)],
    ],
  },
  {
    title: "Exploration probabilities",
    note: "Falls while its kind is above the target. At the lower bound: no more can be skipped; at the upper: the target is above what the pool has.",
    format: decimal,
    of: aims,
    range: [0, 1],
    series: [
      ["p easy", "easy", "", (c) => c.p_easy],
      ["p hard", "hard", "", (c) => c.p_hard],
      ["lower bound", "faint", "dash", (c, o) => level(o.spec.exploration_bounds?.[0])(c)],
      ["upper bound", "faint", "dash", (c, o) => level(o.spec.exploration_bounds?.[1])(c)],
    ],
  },
  {
    title: "Effective yield",
    note: "Effective groups of all groups: what a rollout is worth. Should stay above the dashed line, the first steps without any skips.",
    format: percent,
    series: [
      ["effective", "effective", "", (c) => ratio(c.effective, c.groups)],
      ["at the start", "faint", "dash", (c, o) => level(o.first.effective)(c)],
    ],
  },
  {
    title: "Batch sizes",
    note: "Prompts selected and effective groups found per step. Below the dashed line steps end short.",
    format: about,
    series: [
      ["selected", "ink", "", (c) => per(c, c.selected)],
      ["effective", "effective", "", (c) => per(c, c.effective)],
      ["train batch size", "effective", "dash", (c, o) => level(o.spec.train_batch_size)(c)],
    ],
  },
  {
    title: "Rounds per step",
    note: "Each round waits for its slowest response. Many: raise rollout_batch_size or safety_factor.",
    format: about,
    series: [["rounds", "ink", "", (c) => per(c, c.rounds)]],
  },
];

/** Means per step of columns that are summed over several; the last point may stand for fewer. */
function per(curves, column) {
  const last = column.length - 1;
  return column.map((value, at) => value / (at === last ? curves.steps_in_last_point : curves.steps_per_point));
}

export class Charts {
  #plots = [];
  #charts = [];
  #shown = null;

  constructor() {
    this.grid = h("div", { class: "charts" });
    this.told = h("p", { class: "quiet" }, "No step has groups yet: the curves begin with the first report.");
    this.spoken = h("p", { class: "unseen", role: "status" });
    this.element = h("div", {}, this.told, this.grid, this.spoken);
    this.dark = matchMedia("(prefers-color-scheme: dark)");
    this.onDark = () => this.#rebuild();
    this.dark.addEventListener("change", this.onDark);
    this.watch = new ResizeObserver((entries) => {
      for (const entry of entries)
        entry.target.plot?.setSize({ width: Math.floor(entry.contentRect.width), height: HEIGHT });
    });
  }

  /** Draw these curves. */
  show(curves, overview) {
    this.#shown = [curves, overview];
    const charts = CHARTS.filter((chart) => chart.of?.(overview.policy, curves, overview) ?? true);
    const others = charts.length !== this.#charts.length || charts.some((chart, at) => chart !== this.#charts[at]);
    this.#charts = charts;
    const none = !curves.step.length;
    this.grid.hidden = none;
    if (none) return;
    const each = curves.steps_per_point;
    say(
      this.told,
      each > 1
        ? `Each point stands for ${count(each)} steps. Drag to zoom, double-click to see all again.`
        : "Drag to zoom, double-click to see all again.",
    );
    if (!this.#plots.length || others) this.#rebuild();
    else this.#plots.forEach((plot, at) => update(charts[at], plot, dataOf(charts[at], curves, overview)));
  }

  close() {
    this.dark.removeEventListener("change", this.onDark);
    this.watch.disconnect();
    for (const plot of this.#plots) plot.destroy();
    this.#plots = [];
  }

  #rebuild() {
    if (!this.#shown) return;
    for (const plot of this.#plots) plot.destroy();
    this.watch.disconnect();
    this.#plots = [];
    fill(this.grid);
    for (const chart of this.#charts) {
      const box = h("div", { class: "plot", role: "img", tabindex: 0 });
      this.grid.append(
        h("figure", {}, h("figcaption", {}, h("h3", {}, chart.title), h("p", { class: "quiet" }, chart.note)), box),
      );
      const plot = new uPlot(options(chart, box.clientWidth || 320), dataOf(chart, ...this.#shown), box);
      box.plot = plot;
      box.setAttribute("aria-label", summary(chart, plot));
      plot.setLegend({ idx: newest(plot) });
      box.addEventListener("keydown", (event) => this.#move(event, chart, plot));
      this.#plots.push(plot);
      this.watch.observe(box);
    }
  }

  #move(event, chart, plot) {
    const last = newest(plot);
    const at = plot.cursor.idx ?? last;
    const to = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: last }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    const place = Math.max(0, Math.min(last, to));
    plot.setCursor({ left: plot.valToPos(plot.data[0][place], "x"), top: 0 }, true, true);
    say(this.spoken, `${chart.title}, ${values(chart, plot, place)}`);
  }
}

const newest = (plot) => plot.data[0].length - 1;

/** New values; what was zoomed into stays in sight. */
function update(chart, plot, data) {
  const { min, max } = plot.scales.x;
  const zoomed = min > plot.data[0][0] || max < plot.data[0].at(-1);
  plot.setData(data, !zoomed);
  if (zoomed) plot.redraw();
  if (plot.cursor.idx === null || plot.cursor.idx === undefined) plot.setLegend({ idx: newest(plot) });
  plot.root.parentElement.setAttribute("aria-label", summary(chart, plot));
}

const dataOf = (chart, curves, overview) => [
  curves.step,
  ...chart.series.map(([, , , valuesOf]) => valuesOf(curves, overview)),
];

function values(chart, plot, at) {
  const told = chart.series.map(([label], place) => `${label} ${chart.format(plot.data[place + 1][at])}`);
  return `step ${count(plot.data[0][at])}: ${told.join(", ")}`;
}

const summary = (chart, plot) =>
  `${chart.title}. Newest, ${values(chart, plot, newest(plot))}. Arrow keys read other steps.`;

function options(chart, width) {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(`--${name}`).trim();
  const axis = {
    stroke: colour("faint"),
    grid: { stroke: colour("line"), width: 1 },
    ticks: { show: false },
    font: "12px system-ui, sans-serif",
  };
  const format = (_plot, value) => (value === null || value === undefined ? "\u2013" : chart.format(value));
  return {
    width,
    height: HEIGHT,
    scales: { x: { time: false }, y: { range: (_plot, _low, high) => chart.range ?? [0, high > 0 ? 1.08 * high : 1] } },
    axes: [
      { ...axis, size: 30 },
      { ...axis, size: 52, values: (_plot, ticks) => ticks.map(chart.format) },
    ],
    // Without a cursor the legend tells the newest values.
    hooks: {
      setLegend: [
        (plot) =>
          (plot.legend.idx === null || plot.legend.idx === undefined) && plot.setLegend({ idx: newest(plot) }, false),
      ],
    },
    cursor: { sync: { key: "steps" }, points: { size: 6 } },
    legend: { markers: { width: 3, dash: (_plot, at) => (at && chart.series[at - 1][2] ? "dotted" : "solid") } },
    series: [
      { label: "step", value: (_plot, value) => count(value) },
      ...chart.series.map(([label, stroke, line]) => ({
        label,
        stroke: colour(stroke),
        width: line ? 1.25 : stroke === "easy" ? 1.5 : 2,
        dash: line ? [5, 4] : undefined,
        points: { show: line ? false : undefined, size: 4 },
        spanGaps: true,
        value: format,
      })),
    ],
  };
}
