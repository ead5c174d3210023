"""What a comparison says where the truth is known: a gain, a loss, and above all that there is none."""

from __future__ import annotations

import pytest

from greso_client.trainer.compare.comparison import (
    MEASURES,
    PER_STEP,
    ROLLOUT_SECONDS,
    ROLLOUTS,
    SECONDS,
    STEPS,
    Measure,
    Trials,
    accuracy_at,
    verdict,
    verdict_of_difference,
)

from .synthetic_trials import BEFORE, learning, trial

SEEDS = range(1, 6)
EXPERIMENTS = 60


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    # The percentile interval, which decides nothing, is most of a comparison's time.
    monkeypatch.setattr("greso_client.trainer.compare.intervals.RESAMPLES", 40)


def experiment(speed: float, seeds: range = SEEDS) -> Trials:
    """`greso` that learns `speed` times as fast as `dynamic`."""
    return Trials(learning(arm, seed, each) for seed in seeds for arm, each in (("dynamic", 1.0), ("greso", speed)))


def test_arms_that_learn_alike_show_no_gain() -> None:
    trials = experiment(1.0)
    assert trials.levels(1)
    for measure in MEASURES:
        assert verdict(trials.compare(measure, "dynamic", "greso")).endswith("no gain shown.")
    assert verdict_of_difference(trials.differ(ROLLOUTS, "dynamic", "greso")).endswith("no gain shown.")


def test_a_gain_is_claimed_hardly_ever_when_there_is_none_and_found_when_there_is_one() -> None:
    def claimed(speed: float) -> int:
        started = range(100, 100 + 5 * EXPERIMENTS, 5)
        return sum(
            "needs" in verdict(experiment(speed, range(first, first + 5)).compare(ROLLOUTS, "dynamic", "greso"))
            for first in started
        )

    assert claimed(1.0) <= EXPERIMENTS / 6  # 3 are expected; 10 or more would come by chance once in a thousand times
    assert claimed(1.5) >= EXPERIMENTS * 0.95


@pytest.mark.parametrize(("speed", "said"), [(1.6, "greso needs fewer"), (0.6, "greso needs MORE")])
def test_a_difference_is_found_with_its_size(speed: float, said: str) -> None:
    trials = experiment(speed)
    compared = trials.compare(ROLLOUTS, "dynamic", "greso")
    assert said in verdict(compared)
    assert compared.interval is not None
    assert compared.interval.mean == pytest.approx(speed, rel=0.12)
    difference = trials.differ(ROLLOUTS, "dynamic", "greso")
    assert (difference.interval.mean > 0) == (speed > 1)
    assert ("better" if speed > 1 else "WORSE") in verdict_of_difference(difference)


def test_what_is_spent_per_step_and_the_steps_multiply_to_what_is_spent() -> None:
    rising = [0.3 + 0.01 * i for i in range(40)]
    trials = Trials(
        [trial("dynamic", rising, rollouts=1200), trial("greso", [0.3, *rising[2:], 0.7, 0.7], rollouts=600)]
    )
    rollouts, steps, per_step = (
        trials.compare(measure, "dynamic", "greso").ratios[1] for measure in (ROLLOUTS, STEPS, PER_STEP)
    )
    assert per_step == pytest.approx(2)
    assert rollouts == pytest.approx(steps * per_step)
    assert steps > 1
    assert trials.compare(ROLLOUT_SECONDS, "dynamic", "greso").ratios[1] == pytest.approx(steps)
    assert trials.compare_ends(PER_STEP, "dynamic", "greso").ratios[1] == pytest.approx(2)


def test_one_seed_shows_no_gain_however_large_the_ratio() -> None:
    compared = experiment(3.0, range(1, 2)).compare(ROLLOUTS, "dynamic", "greso")
    assert compared.ratios[1] > 2
    assert "one seed" in verdict(compared)
    assert verdict(compared).endswith("no gain shown.")


def test_a_seed_in_which_an_arm_never_got_there_is_not_left_out_in_silence() -> None:
    trials = experiment(1.6)
    stuck = learning("dynamic", 3, 0.01)
    trials = Trials([stuck if (each.arm, each.seed) == ("dynamic", 3) else each for each in trials.all])
    for compared in (trials.compare(ROLLOUTS, "dynamic", "greso"), trials.compare(STEPS, "dynamic", "greso", 0.6)):
        assert compared.missing == [3]
        assert compared.interval is None
        assert "not comparable, in seed 3" in verdict(compared)


def test_an_unfinished_seed_counts_for_no_arm() -> None:
    trials = experiment(1.6)
    trials = Trials([each for each in trials.all if (each.arm, each.seed) != ("greso", 2)])
    assert trials.seeds == [1, 3, 4, 5]
    assert [each.seed for each in trials.of("dynamic")] == [1, 3, 4, 5]
    assert set(trials.compare(ROLLOUTS, "dynamic", "greso").ratios) == {1, 3, 4, 5}


def test_at_an_accuracy_below_the_start_nothing_was_spent_and_nothing_is_compared() -> None:
    compared = experiment(1.0).compare(ROLLOUTS, "dynamic", "greso", BEFORE - 0.1)
    assert compared.missing == list(SEEDS)


def test_without_a_trial_there_is_nothing() -> None:
    with pytest.raises(ValueError, match="no trial"):
        Trials([])


@pytest.mark.parametrize(("measure", "amount"), [(ROLLOUTS, 3500), (STEPS, 3.5), (SECONDS, 7)])
def test_the_accuracy_at_some_cost_lies_between_evaluations(measure: Measure, amount: float) -> None:
    assert accuracy_at(trial("grpo", [0.1, 0.2, 0.2, 0.2, 0.5]), measure, amount) == pytest.approx(0.25)


def test_accuracies_are_compared_at_what_every_trial_spent() -> None:
    trials = Trials([trial("dynamic", [0.1] * 9, rollouts=500), trial("greso", [0.1, *[0.2] * 6], rollouts=1000)])
    assert trials.differ(ROLLOUTS, "dynamic", "greso").amount == 4000
    assert trials.differ(STEPS, "dynamic", "greso").amount == 6
    assert trials.differ(SECONDS, "dynamic", "greso").differences[1] == pytest.approx(0.1)
