"""What the demo says at the end: the table, the verdict in words, and the next steps."""

from collections.abc import Callable, Sequence

from rich.table import Table

from greso_client.trainer.compare.measure import LEAST_RISE, Point, Trial, reached

SAME = 1.1  # a ratio below that is no more than the evaluation's noise can make


def summary_table(results: Sequence[Trial], level: float | None) -> Table:
    """Compare the arms, one a column; `level` is the accuracy that all of them reached, None if there is none."""
    table = Table(title="The same model, the same start, the same prompts")
    table.add_column("")
    for result in results:
        table.add_column(result.arm, justify="right")

    def row(name: str, value: Callable[[Trial], str]) -> None:
        table.add_row(name, *(value(result) for result in results))

    row("steps", lambda r: f"{len(r.steps):,}")
    row("rollouts (responses)", lambda r: f"{r.rollouts:,}")
    row("groups that were effective", lambda r: f"{r.effective_share:.0%}")
    row("groups that were learnt from", lambda r: f"{r.learnt_share:.0%}")
    row("held-out accuracy before", lambda r: f"{r.before:.3f}")
    row("held-out accuracy after", lambda r: f"{r.after:.3f}")
    if level is not None:
        goals = {result.arm: _goal(result, level) for result in results}
        table.add_section()
        row(f"rollouts to accuracy {level:.2f}", lambda r: f"{goals[r.arm].rollouts:,.0f}")
        row(f"steps to accuracy {level:.2f}", lambda r: f"{goals[r.arm].step:,.0f}")
    table.add_section()
    row("seconds of training", lambda r: f"{r.total('seconds'):.1f}")
    row("  in rollout", lambda r: f"{r.total('rollout_seconds'):.1f}")
    row("  in the service's calls", lambda r: f"{r.service_share:.1%}")
    return table


def saving(baseline: Trial, other: Trial, level: float) -> float:
    """Return how many times more rollouts the baseline needed to reach the accuracy; above 1, `other` saved some."""
    return _goal(baseline, level).rollouts / _goal(other, level).rollouts


def verdict(results: Sequence[Trial], level: float | None) -> list[str]:
    """Say in sentences what the comparison with `greso` gave, good or bad."""
    by_arm = {result.arm: result for result in results}
    if "greso" not in by_arm or len(by_arm) == 1:
        return ["Nothing to compare: give --arms greso and another one."]
    if level is None:
        return [f"Not every arm rose by {LEAST_RISE} in accuracy: too little to compare; give more --rollouts."]
    greso = by_arm.pop("greso")
    return [_compared(baseline, greso, level) for baseline in by_arm.values()]


def _compared(baseline: Trial, greso: Trial, level: float) -> str:
    ratio = saving(baseline, greso, level)
    goal, against = _goal(greso, level), _goal(baseline, level)
    steps = f"in {goal.step:,.0f} steps against {against.step:,.0f}"
    rollouts = f"{goal.rollouts:,.0f} rollouts against {against.rollouts:,.0f}"
    if 1 / SAME <= ratio <= SAME:
        return f"To {level:.2f} GRESO took about as many rollouts as {baseline.arm}: {rollouts}, {steps}."
    if ratio > 1:
        return f"To {level:.2f} GRESO took {ratio:.2f}x fewer rollouts than {baseline.arm}: {rollouts}, {steps}."
    return f"GRESO saved nothing against {baseline.arm}: to {level:.2f} it took {rollouts}, {steps}."


def _goal(result: Trial, level: float) -> Point:
    goal = reached(result.curve, level)
    if goal is None:
        raise ValueError(f"{result.arm} never reached accuracy {level}")
    return goal
