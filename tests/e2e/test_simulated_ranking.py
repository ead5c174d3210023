"""The simulated training run of `test_simulated_run`, with policies that rank the whole pool and are asked by draw.

The same world: a pool of 1,600 prompts, three in ten of which can't be learnt, difficulties normal around 2.0 with
deviation 2.5 in units of the skill, SLOPE 2.0, so in logits a deviation of 5 around 4 above the model; G = 8,
B_t = 64, 96 prompts a round at most; skill from 0 to 3.0. The policies know none of this. The service's own code
decides, in this process; that it does the same over HTTP is shown elsewhere.

In this world nothing is learnt by heart: a group teaches as much however often its prompt was rolled out of late. So
the ranking runs with `cooldown_steps` and `rest_steps` of 0 here; in training, where prompts wear out, both have their
defaults. About a fifth of this pool, 340 prompts, teaches anything at first, and what makes prompts take turns brings
others instead. It explores more than by default, too: the walk finds prompts that have come within reach. Times fewer
rollouts than greso, seeds 21 to 25, which nothing was chosen by: 1.35; with the default `exploration_share` 1.21; with
all defaults 1.03. The service sizes every round.

What it says of real training is little: skill grows with the reward variance of what is trained on, which is what the
rankings look for, and every prompt has one difficulty and the model one ability, as policy `irt` supposes. It shows
what the service's draws make of a world in which its model is right, up to the slope, the prior and the unlearnable.
"""

from __future__ import annotations

import sys
from statistics import geometric_mean
from typing import TYPE_CHECKING, Any

import pytest

from ..folding import draw, pool, report, run, select  # noqa: TID252
from .test_simulated_run import GROUP, MOST_STEPS, ROLLOUT, TARGET_SKILL, TRAIN, Cost, World, run_arm

if TYPE_CHECKING:
    from greso_service.core.state import RunState

WANTED_RATIO = 1.25  # fewer rollouts than greso; measured 1.34 to 1.38


def asker(state: RunState) -> Any:
    """The service's answers, without a service."""

    def ask(verb: str, body: dict[str, Any]) -> Any:
        if verb == "select":
            return select(state, body["step"], body["prompts"], limit=body["limit"])
        if verb == "draw":
            return draw(state, body["step"])
        return report(state, body["step"], [(one["prompt"], one["rewards"]) for one in body["results"]])

    return ask


def run_drawn(ask: Any, world: World) -> Cost:
    """Train to the target skill on what the service draws, in rounds of the size that it proposes."""
    groups = effective = 0
    for step in range(1, MOST_STEPS):
        useful, complete = list[list[int]](), False
        while not complete:
            chosen = ask("draw", {"step": step})["prompts"]
            results = [{"prompt": prompt, "rewards": world.rollout(prompt)} for prompt in chosen]
            told = ask("report", {"step": step, "results": results})
            useful += [results[at]["rewards"] for at in told["effective"]]
            complete = told["step"]["complete"]
            groups += len(results)
        effective += len(useful)
        world.train(useful[:TRAIN])
        if world.skill >= TARGET_SKILL:
            return Cost(step, groups * GROUP, effective / groups)
    raise AssertionError(f"the skill is {world.skill:.2f} after {MOST_STEPS} steps")


ARMS = ("uniform", "greso", "irt")
RANKED = {"cooldown_steps": 0, "rest_steps": 0, "exploration_share": 0.12}


def cost_of(policy: str, seed: int) -> Cost:
    """An arm's cost. `uniform`: full batches, as dynamic sampling; `greso`: as in `test_simulated_run`."""
    spec = {"policy": policy, "group_size": GROUP, "train_batch_size": TRAIN, "seed": seed}
    world = World(seed)
    if policy in ("uniform", "greso"):
        return run_arm(asker(run(rollout_batch_size=ROLLOUT, **spec)), world, adaptive=policy == "greso")
    state = run(rollout_batch_size=ROLLOUT, **RANKED, **spec)
    pool(state, list(world.difficulty))
    return run_drawn(asker(state), world)


def compared(seeds: range, arms: tuple[str, ...]) -> dict[str, float]:
    """Rollouts of greso over those of each arm, geometric mean over the seeds; prints what each cost."""
    costs = {arm: [cost_of(arm, seed) for seed in seeds] for arm in arms}
    fewer = {
        arm: [greso.rollouts / cost.rollouts for greso, cost in zip(costs["greso"], each, strict=True)]
        for arm, each in costs.items()
    }
    sys.stdout.write(f"\nrollouts to skill {TARGET_SKILL}, {len(seeds)} seeds\n")
    for arm, each in costs.items():
        mean = geometric_mean([cost.rollouts for cost in each])
        share = sum(cost.effective_share for cost in each) / len(each)
        steps = sum(cost.steps for cost in each) / len(each)
        sys.stdout.write(
            f"  {arm:8} {steps:5.0f} steps {mean:9,.0f} rollouts, {share:.0%} effective, greso's over these "
            f"{geometric_mean(fewer[arm]):.2f} ({min(fewer[arm]):.2f} to {max(fewer[arm]):.2f})\n"
        )
    return {arm: geometric_mean(each) for arm, each in fewer.items()}


@pytest.mark.slow
def test_ranking_the_pool_costs_fewer_rollouts_than_greso() -> None:
    fewer = compared(range(11, 13), ARMS)
    assert fewer["irt"] >= WANTED_RATIO
    assert fewer["uniform"] < 0.5
