// What skips lose: audited groups, and what a shadow run would have saved and lost.

import { facts, h } from "./dom.js";
import { count, percent, plural, short } from "./format.js";
import { ranks } from "./policies.js";

/** Facts for a run that is audited; null while there are none. */
export function audited({ audit, policy, spec }) {
  if (!audit || (!audit.easy.groups && !audit.hard.groups)) return null;
  const { easy, hard, kept, shadow } = audit;
  const left = ranks(policy) ? "Left out" : "False skips";
  const entries = [
    [`${left}, easy`, percent(easy.false_skip_rate), told(easy, "taught")],
    [`${left}, hard`, percent(hard.false_skip_rate), told(hard, "taught")],
    [ranks(policy) ? "Taken by rank" : "Kept by the policy", percent(kept.effective_rate), told(kept, "taught")],
  ];
  if (shadow) entries.push(...shadowed(shadow, ranks(policy)));
  return h(
    "section",
    { "aria-label": "Audit" },
    h("h2", {}, shadow ? "Shadow mode" : "Audit"),
    h("p", { class: "quiet" }, how(policy, spec)),
    facts(entries),
  );
}

function how(policy, spec) {
  if (spec.shadow) return `Everything is rolled out. Policy ${policy} decides all the same, and this is what came of it.`;
  if (ranks(policy))
    return "The walk of the pool brings prompts that the ranking would have left out. How often they taught, and those that it took:";
  return `A chance sample of the prompts to be skipped is rolled out all the same (audit_share is now ${spec.audit_share}). How often they taught:`;
}

function told({ groups, interval }, verb) {
  if (!interval) return "no such group yet";
  const [low, high] = interval;
  return `of ${plural(groups, "group")} ${verb}; ${percent(low)} to ${percent(high)} with 95\u202f% certainty`;
}

function shadowed(shadow, ranking) {
  const { rollouts_saved: saved, lost_share: lost } = shadow;
  const entries = [
    ["Without the policy", percent(shadow.effective_rate), `of ${plural(shadow.groups, "group")} of prompts that came again taught`],
    [
      "Would have been saved",
      saved === null ? "\u2013" : short(Math.max(saved, 0)),
      `of ${short(shadow.rollouts)} responses, for as many effective groups${saved < 0 ? `; it would have cost ${count(-saved)} more` : ""}`,
    ],
  ];
  if (!ranking)
    entries.push(["Effective groups lost", percent(lost), `${count(shadow.lost)} of ${count(shadow.effective)} would have been skipped`]);
  return entries;
}
