"""Random runs: specs, prompts and rewards, chosen so that the law leaves no two readings of what they mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .records import Spec, mean, outcome_of

if TYPE_CHECKING:
    from random import Random

# Ids that a naive path, key or log line would break on; the last has exactly the 256 bytes allowed.
AWKWARD_PROMPTS = [
    "a/b", "a%2Fb", "math?q=1#2", " leading and trailing ", "ü/ø", "日本/語", "..", "tab\there",
    "line\nbreak", 'quo"te', "🧮", "null", "é" * 128,
]  # fmt: skip


def random_spec(rng: Random) -> Spec:
    """Small batches, so that steps complete often.

    The targets are no ratio of two small integers: whether a share that equals its target in the reals also does in
    floating point is not the law's business.
    """
    train = rng.randint(2, 12)
    rollout = rng.randint(train, 28)
    loose = rng.random() < 0.4
    return Spec(
        policy="uniform" if rng.random() < 0.08 else "greso",
        streak_rule=rng.choice(["zero_variance", "same_kind"]),
        group_size=rng.randint(2, 8),
        train_batch_size=train,
        rollout_batch_size=rollout,
        min_rollout_batch_size=rng.randint(1, min(5, rollout)),
        # Exactly representable, so that the ceiling is the same in every arithmetic.
        safety_factor=rng.choice([1.0, 1.25, 1.5, 2.0]),
        target_zero_variance=rng.choice([0.2503, 0.4007, 0.1009]),
        easy_share=rng.choice([0.3301, 0.5003, 0.7001]),
        exploration_step=rng.choice([0.01, 0.05, 0.2]),
        exploration_bounds=rng.choice([(0.05, 0.95), (0.1, 0.6), (0.45, 0.55)]),
        min_keep_probability=rng.choice([0.01, 0.2, 0.33]),
        reward_tolerance=rng.choice([1e-6, 1e-6, 0.05]),
        easy_min_mean=0.97 if loose else None,
        hard_max_mean=0.11 if loose else None,
        seed=rng.randrange(2**31),
    )


def random_prompts(rng: Random) -> list[str]:
    """A dozen or two of ids, some of them awkward."""
    plain = [f"task/{number}" for number in range(rng.randint(6, 24))]
    return plain + rng.sample(AWKWARD_PROMPTS, rng.randint(0, 4))


def random_rewards(rng: Random, spec: Spec, prompt: str) -> tuple[float, ...]:
    """Rewards of one group; a prompt leans to one side, so that streaks grow, and changes now and then."""
    while True:
        rewards = _any_rewards(rng, spec, prompt)
        if unambiguous(spec, rewards):
            return rewards


def _any_rewards(rng: Random, spec: Spec, prompt: str) -> tuple[float, ...]:
    count = rng.choice([spec.group_size, spec.group_size, rng.randint(2, 9), rng.choice([0, 1, 2])])
    leaning = ["solved", "failed", "failed", "mixed", "odd"][len(prompt) * 7 % 5]
    mood = leaning if rng.random() < 0.7 else rng.choice(["solved", "failed", "mixed", "odd"])
    if mood == "solved":
        return (1.0,) * count
    if mood == "failed":
        return (0.0,) * count
    if mood == "mixed":
        return tuple(float(rng.random() < 0.5) for _ in range(count))
    base = rng.choice([0.0, 0.1, 0.5, 0.985, 1.0, 2.5, -1.0])
    wobble = rng.choice([0.0, 4e-7, 3e-6, 0.02, 0.2])
    return tuple(base - (wobble if at == 0 else 0.0) for at in range(count))


def unambiguous(spec: Spec, rewards: tuple[float, ...]) -> bool:
    """Whether every reading of the law classifies the group alike.

    Left open: a zero-variance group that is not solved but reaches `easy_min_mean`; and equality with a threshold
    within rounding.
    """
    if len(rewards) < 2:
        return True
    centre, spread = mean(rewards), max(rewards) - min(rewards)
    thresholds = [spec.solved_reward - spec.reward_tolerance, spec.easy_min_mean, spec.hard_max_mean]
    if any(edge is not None and abs(centre - edge) < 1e-9 for edge in thresholds):
        return False
    if abs(spread - spec.reward_tolerance) < 1e-9:
        return False
    loosely_easy = spec.easy_min_mean is not None and centre >= spec.easy_min_mean
    return not (loosely_easy and outcome_of(spec, rewards) == "hard")
