"""What the trainer does wrong: rules about reports, ids and rewards. Each returns its finding or None.

None of them speaks from a handful of steps, and none from what every run looks like in its first epoch.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from greso_service.core.advice.signals import Signals
from greso_service.core.advice.words import Advice, patch, percent
from greso_service.core.outcome import Outcome

ENOUGH_STEPS = 10
ENOUGH_GROUPS = 200
"""A share of so many groups is known within 7 points (95%)."""
ENOUGH_PROMPTS = 64
"""Prompts with a group lately whose rewards tell what the trainer's rewards are like."""

AHEAD = 64
"""Steps that a trainer may select ahead of its reports without being told that they don't come."""


def no_reports(signals: Signals) -> Advice | None:
    """Steps are selected for and not reported, or nothing of the reports can be judged."""
    state, run = signals.state, signals.run
    report = f"POST /v1/runs/{run}/report"
    if state.totals.groups >= ENOUGH_GROUPS and state.totals.undetermined > 0.9 * state.totals.groups:
        return Advice(
            "no_reports",
            "problem",
            "Nothing of the reports can be judged",
            f"{percent(state.totals.undetermined / state.totals.groups)} of {state.totals.groups:,} reported groups"
            " have fewer than two rewards.",
            "report all responses to a prompt as one group: "
            f'{report} {{"results": [{{"prompt": "a", "rewards": [1, 0, 0, 1]}}]}}',
        )
    return _waiting(signals, f"report what each round earned: {report}")


def _waiting(signals: Signals, change: str) -> Advice | None:
    """Steps selected for whose rewards have not come.

    An asynchronous trainer selects ahead of its reports, seldom more than 8 steps: its samples would be stale. Some
    select for a whole epoch at once; one that has reported as many steps before may do so again, up to `AHEAD` of them.
    """
    state, rows = signals.state, signals.state.steps.rows
    waiting = int(np.count_nonzero((rows["step"] > state.progress.step) & (rows["selected"] > 0)))
    if waiting <= 8:
        return None
    reported = int(np.count_nonzero((rows["groups"] > 0) & (rows["selected"] > 0)))
    may_come = waiting <= min(reported, AHEAD)
    since = f"since step {state.progress.step}" if state.totals.groups else "at all"
    return Advice(
        "no_reports",
        "warning" if may_come else "problem",
        f"No reports {since}",
        f"{waiting:,} steps were selected for, the newest is {int(rows['step'][-1])}, and no rewards came. Without them"
        " nothing is learnt, and nothing new is skipped."
        + (" If the trainer selects so far ahead, all is well: they will come." if may_come else ""),
        f"if they should have come, {change}" if may_come else change,
    )


def no_selections(signals: Signals) -> Advice | None:
    """Reports come, but nobody ever asks what to roll out."""
    if signals.recent.steps < ENOUGH_STEPS or signals.state.totals.examined or signals.spec.policy == "uniform":
        return None
    run = signals.run
    return Advice(
        "no_selections",
        "problem",
        "Nobody asks which prompts to roll out",
        f"{signals.judged:,} groups were reported, and no candidate was ever examined: nothing is skipped.",
        f"ask before each rollout: POST /v1/runs/{run}/draw, or POST /v1/runs/{run}/select with your own candidates",
    )


def skips_ignored(signals: Signals) -> Advice | None:
    """More groups are reported than candidates were selected: what is skipped is rolled out all the same.

    Counted over the run, as some trainers select for a whole epoch at once; a fifth more is let pass: selections made
    while Redis was away are not recorded.
    """
    totals = signals.state.totals
    skipped = totals.skipped_easy + totals.skipped_hard
    if signals.recent.steps < ENOUGH_STEPS or skipped < ENOUGH_GROUPS or totals.groups <= 1.2 * totals.selected:
        return None
    return Advice(
        "skips_ignored",
        "problem",
        "Skipped prompts are rolled out all the same",
        f"{totals.groups:,} groups were reported, but only {totals.selected:,} candidates were selected and {skipped:,}"
        " skipped.",
        "roll out only the prompts at the indices in `selected` of the answer to select, or those that draw returns",
    )


def ids_never_repeat(signals: Signals) -> Advice | None:
    """Prompts have other ids each time they come, so that their histories are never found again."""
    if signals.judged < ENOUGH_GROUPS:
        return None
    return _not_those_drawn(signals) or (None if signals.coming_back else _made_anew(signals))


def _not_those_drawn(signals: Signals) -> Advice | None:
    state, index = signals.state, signals.lately.index
    if not signals.walked or not index.size:
        return None
    strange = index[~state.prompts.pooled[index]]
    if strange.size < 0.5 * index.size:
        return None
    [reported, pooled] = state.table.texts([int(strange[0]), int(state.pool[0])])
    return Advice(
        "ids_never_repeat",
        "problem",
        "The prompts reported are not those drawn",
        f"{percent(strange.size / index.size)} of the prompts reported lately are not in the pool, such as"
        f" {reported!r}; the pool's look like {pooled!r}. A prompt that comes under another id is new each time.",
        "report each group under the very id that draw returned",
    )


def _made_anew(signals: Signals) -> Advice | None:
    state, index = signals.state, signals.lately.index[:: max(len(signals.lately) // 128, 1)]
    title = "No prompt ever comes back"
    change = "name a prompt by what is asked, the same in every epoch: its row in the data set, or a hash of its text"
    ids = state.table.texts(index)
    steps = state.prompts.last_step[index].tolist()
    # One digit stands in too many ids by chance.
    tellable = [_has_number(name, step) for name, step in zip(ids, steps, strict=True) if step >= 10]
    if len(tellable) >= 32 and sum(tellable) >= 0.9 * len(tellable):
        detail = f"The ids hold the step's number, such as {ids[-1]!r} of step {steps[-1]}: each is used once."
        return Advice("ids_never_repeat", "problem", title, detail, change)
    if state.pool_size:  # the pool says how long an epoch is: this is the first
        return None
    groups = f"{signals.judged:,} groups were reported, each of another prompt"
    if len(ids) >= 32 and signals.judged >= 1000 and all(map(_is_random_uuid, ids)):
        detail = f"{groups}, and the ids are random UUIDs, such as {ids[-1]!r}. If they are made anew in each step, no"
        return Advice("ids_never_repeat", "hint", title, f"{detail} prompt can ever be skipped.", change)
    # More than most, and than nearly all data sets for this kind of training hold; in a larger one it is no sign.
    if signals.judged >= 50_000:
        detail = f"{groups}. If the data set is smaller than that, the ids change from epoch to epoch."
        return Advice("ids_never_repeat", "hint" if signals.judged < 500_000 else "warning", title, detail, change)
    return None


def _has_number(name: str, number: int) -> bool:
    """Whether the number stands in the name with no other digit next to it."""
    digits = "".join(letter if letter.isdecimal() else " " for letter in name)
    return str(number) in [part.lstrip("0") for part in digits.split()]


def _is_random_uuid(name: str) -> bool:
    """Whether it is a UUID of version 4, with or without hyphens."""
    plain = name.replace("-", "")
    return len(plain) == 32 and plain[12] == "4" and all(letter in "0123456789abcdefABCDEF" for letter in plain)


def ids_all_the_same(signals: Signals) -> Advice | None:
    """Many prompts share an id: an average step has at least 4 groups for each id that the run ever saw.

    A pool walked by the service may be that small; its ids are told by the pool.
    """
    recent, state = signals.recent, signals.state
    # Steps without groups count, too: with one id either all or none of a step's candidates are skipped.
    if state.steps.size < ENOUGH_STEPS or not recent.steps or signals.judged < 100 or signals.walked:
        return None
    a_step = recent.groups / recent.steps
    if a_step < 4 * signals.distinct:
        return None
    [example] = state.table.texts(signals.lately.index[:1])
    ids = "one id" if signals.distinct == 1 else f"{signals.distinct} ids"
    return Advice(
        "ids_all_the_same",
        "problem",
        "Many prompts have the same id",
        f"A step has {a_step:,.0f} groups, all under {ids} such as {example!r}: different prompts are judged, kept and"
        " skipped as one.",
        "give each prompt an id of its own: its row in the data set, or a hash of its text",
    )


def shaped_rewards(signals: Signals) -> Advice | None:
    """Rewards are more than right or wrong, and so groups that are all right or all wrong look effective.

    The signs: rewards stand in two heaps, wrong and right, and 1 in 10 of the effective groups differ by less than half
    of the range of rewards, so lie in one heap (never so with right or wrong). Or groups of one kind, easy or hard,
    hardly ever come (fewer than 1 in 200), and a quarter of the effective groups differ by so little; or neither kind
    comes, and hardly two groups have the same best reward.
    """
    recent, effective = signals.recent, signals.lately.outcome == Outcome.EFFECTIVE
    if recent.steps < ENOUGH_STEPS or recent.groups < ENOUGH_GROUPS or np.count_nonzero(effective) < ENOUGH_PROMPTS:
        return None
    # Halves: rewards near the largest float have no difference.
    low, high = signals.lately.low[effective] / 2, signals.lately.high[effective] / 2
    lacking = [kind for kind in ("easy", "hard") if recent.sum(kind) < 0.005 * recent.groups]
    narrow = np.count_nonzero(high - low < (high.max() - low.min()) / 2) / high.size
    continuous = np.unique(high).size >= 0.5 * high.size
    bonus = _bonus(low, high)
    if bonus <= (high.max() - low.min()) / 2 and (narrow >= 0.1 or (continuous and len(lacking) == 2)):
        return Advice(
            "shaped_rewards",
            "problem" if len(lacking) == 2 or narrow >= 0.4 else "warning",
            "The rewards look shaped",
            f"{percent(narrow)} of the groups taken for effective differ by less than half of what rewards differ by,"
            f" and rewards of right answers, or of wrong ones, by up to {bonus:.2g}. With a bonus for length or"
            " format, a group whose answers are all wrong, or all right, looks as if it taught something.",
            "report the outcome alone, right or wrong; or, if that can't be, let such groups count as equal: "
            + patch(signals.run, reward_tolerance=float(f"{1.1 * bonus:.2g}")),
        )
    if not lacking or not (narrow >= 0.25 or (continuous and len(lacking) == 2)):
        return None
    values = "any value" if continuous else "several values"
    return Advice(  # no two heaps, right and wrong, but all there is between them
        "shaped_rewards",
        "warning" if continuous else "hint",
        "The rewards are more than right or wrong",
        f"Hardly any group is {' or '.join(lacking)}, and rewards take {values} from"
        f" {2 * low.min():.3g} to {2 * high.max():.3g}: few groups can be told to teach nothing.",
        "report the outcome alone, right or wrong",
    )


def _bonus(low: NDArray[np.float64], high: NDArray[np.float64]) -> float:
    """How far the rewards near the lowest, or near the highest, lie apart but for 1 in 100; of halved rewards."""
    rewards, middle = np.concatenate([low, high]), (low.min() + high.max()) / 2
    wrong, right = rewards[rewards < middle], rewards[rewards >= middle]
    return 2 * float(max(np.quantile(wrong, 0.99) - wrong.min(), right.max() - np.quantile(right, 0.01)))


def nothing_solved(signals: Signals) -> Advice | None:
    """No response has reached `solved_reward`: the rewards are on another scale, or no answer is ever right."""
    recent, lately, spec = signals.recent, signals.lately, signals.spec
    rewarded = lately.high[np.isfinite(lately.high)]
    if recent.steps < ENOUGH_STEPS or recent.groups < ENOUGH_GROUPS or rewarded.size < ENOUGH_PROMPTS:
        return None
    best = float(rewarded.max())
    if best >= spec.solved_reward - spec.reward_tolerance:
        return None
    code, seen = "nothing_solved", f"In the last {recent.steps} steps no response earned {spec.solved_reward:g}"
    if recent.sum("effective") < 0.01 * recent.groups:
        return Advice(
            code,
            "problem",
            "No answer is ever right",
            f"{seen} (solved_reward); the best earned {best:.6g}, and {percent(recent.zero_variance('hard') or 0)} of"
            " the groups are hard.",
            "check the reward function on an answer known to be right; if it is fine, start with easier prompts",
        )
    # With right or wrong, the best reward of an effective group is that of a right answer.
    at_best = np.count_nonzero(lately.high[lately.outcome == Outcome.EFFECTIVE] >= best - spec.reward_tolerance)
    sure = at_best >= 0.5 * np.count_nonzero(lately.outcome == Outcome.EFFECTIVE)
    return Advice(
        code,
        "warning" if sure else "hint",
        "No answer earns solved_reward",
        f"{seen} (solved_reward); the best earned {best:.6g}. Solved groups are taken for hard ones.",
        f"if {best:.6g} is what a right answer earns, {patch(signals.run, solved_reward=best)}",
    )


RULES = (
    no_reports,
    no_selections,
    skips_ignored,
    ids_all_the_same,
    ids_never_repeat,
    shaped_rewards,
    nothing_solved,
)
