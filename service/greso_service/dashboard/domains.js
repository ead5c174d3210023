// The domains of a run side by side: what each earns, what is skipped of it, and its own controller.

import { h, name, number, table } from "./dom.js";
import { count, decimal, percent } from "./format.js";
import { ranks, steers } from "./policies.js";

const figure = (text) => h("td", { class: "number" }, text);
const part = (of, whole) => percent(whole ? of / whole : null);

/** Heading -> figure of a domain, as far as it means anything for the run. */
function columns(policy, divided, all) {
  return [
    ["Pool", ({ pool }) => count(pool)],
    ...(divided ? [["Share of draws", ({ share }) => percent(share)]] : []),
    ["Selected", ({ totals }) => count(totals.selected)],
    ["Part of all", ({ totals }) => part(totals.selected, all)],
    ...(ranks(policy) ? [] : [["Skip rate", ({ totals }) => part(totals.skipped.easy + totals.skipped.hard, totals.examined)]]),
    ["Groups", ({ totals }) => count(totals.groups)],
    ["Effective", ({ totals }) => part(totals.effective, totals.groups - totals.undetermined)],
    ["Easy", ({ totals }) => part(totals.zero_variance.easy, totals.groups - totals.undetermined)],
    ["Hard", ({ totals }) => part(totals.zero_variance.hard, totals.groups - totals.undetermined)],
    ...(steers(policy)
      ? [
          ["Target easy / hard", ({ target }) => `${percent(target.easy)} / ${percent(target.hard)}`],
          ["p easy / p hard", ({ exploration }) => `${decimal(exploration.easy)} / ${decimal(exploration.hard)}`],
        ]
      : []),
  ];
}

/** A table for a run with domains; null for others. */
export function domains({ domains: rows, policy }) {
  if (!rows?.length) return null;
  const all = rows.reduce((sum, { totals }) => sum + totals.selected, 0);
  const shown = columns(policy, rows.some(({ share }) => share !== null), all);
  const lines = rows.map((row) =>
    h(
      "tr",
      {},
      h("th", { scope: "row" }, row.domain === null ? h("i", {}, "none") : name(row.domain)),
      ...shown.map(([, told]) => figure(told(row))),
    ),
  );
  return h(
    "section",
    {},
    h("h2", {}, "Domains"),
    h(
      "div",
      { class: "scrolls", tabindex: 0, role: "region", "aria-label": "Domains" },
      table("Domains", ["Domain", ...shown.map(([heading]) => number(heading))], lines),
    ),
  );
}
