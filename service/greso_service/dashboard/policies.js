// The policies by name, and what follows from them for what is shown.

const POLICIES = {
  greso: "skips prompts by the streak of groups that taught nothing",
  uniform: "rolls every prompt out",
  band: "rolls out prompts whose estimated pass rate lies in a band",
  mopps: "takes the prompts whose pass rate, sampled from what is known, comes nearest to 1/2",
  p_mixed: "takes the prompts whose groups are most likely effective, each by its own rewards",
  irt: "takes the prompts whose groups are worth most, by a model of ability and difficulty",
};
const RANKINGS = ["mopps", "p_mixed", "irt"];

/** What a policy does, in words. */
export const does = (policy) => POLICIES[policy] ?? null;

/** Whether it takes the best: nobody is skipped for good. */
export const ranks = (policy) => RANKINGS.includes(policy);

/** Whether p_easy and p_hard decide. */
export const steers = (policy) => policy === "greso";

/** Whether p_easy and p_hard of the run decide: where it has domains, each has its own. */
export const steersWhole = ({ policy, domains }) => steers(policy) && !domains.some(({ domain }) => domain !== null);
