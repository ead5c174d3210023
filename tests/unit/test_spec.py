"""RunSpec: ranges, contradictions, defaults and changes."""

from __future__ import annotations

import math
from typing import Any

import pytest

from greso_service.core.spec import FIXED_AT_CREATION, RunSpec, SpecError, params

NUMBERS = {
    name: param for name, (_, param) in params().items() if not param.choices and name not in {"shadow", "domains"}
}
# The other fields that let a value at the end of a field's range pass the checks across fields.
COMPANIONS: dict[str, dict[str, Any]] = {
    "rollout_batch_size": {"min_rollout_batch_size": 1},
    "min_rollout_batch_size": {"rollout_batch_size": 1_000_000},
    "p_easy": {"exploration_bounds": [0, 1]},
    "p_hard": {"exploration_bounds": [0, 1]},
    "exploration_bounds": {},
}


def value_of(name: str, number: float) -> Any:
    if params()[name][0].type == "tuple[float, float]":
        return [number, number]
    return int(number) if params()[name][0].type == "int" else number


def faults(given: dict[str, Any]) -> list[str]:
    with pytest.raises(SpecError) as raised:
        RunSpec.of(given)
    return [name for name, _ in raised.value.faults]


def test_defaults_are_those_of_the_paper() -> None:
    assert RunSpec.of({}).to_dict() == {
        "policy": "greso",
        "seed": 0,
        "group_size": 8,
        "train_batch_size": 256,
        "rollout_batch_size": 384,
        "min_rollout_batch_size": 1,
        "safety_factor": 1.25,
        "target_zero_variance": 0.25,
        "target_bounds": [0.02, 0.5],
        "easy_share": 1 / 3,
        "p_easy": 0.5,
        "p_hard": 0.5,
        "exploration_step": 0.01,
        "exploration_bounds": [0.05, 0.95],
        "min_keep_probability": 0.01,
        "reward_tolerance": 1e-6,
        "solved_reward": 1.0,
        "streak_rule": "zero_variance",
        "pass_rate_band": [0.1, 0.9],
        "posterior_decay": 1.0,
        "exploration_share": 0.05,
        "cooldown_steps": 2,
        "rest_steps": 20.0,
        "audit_share": 0.0,
        "domains": {},
        "shadow": False,
        "easy_min_mean": None,
        "hard_max_mean": None,
    }


@pytest.mark.parametrize("name", NUMBERS)
def test_the_ends_of_a_range_are_inside(name: str) -> None:
    param = NUMBERS[name]
    for end in (param.low, param.high):
        if name == "safety_factor" and end == 0:
            continue  # its lower end is open, see below
        spec = RunSpec.of({name: value_of(name, end), **COMPANIONS.get(name, {})})
        assert spec.to_dict()[name] == value_of(name, end)


@pytest.mark.parametrize("name", NUMBERS)
def test_beyond_the_ends_is_refused_by_name(name: str) -> None:
    param = NUMBERS[name]
    whole = params()[name][0].type == "int"
    below = param.low - 1 if whole else math.nextafter(param.low, -math.inf)
    above = param.high + 1 if whole else math.nextafter(param.high, math.inf)
    for number in (below, above):
        assert faults({name: value_of(name, number), **COMPANIONS.get(name, {})}) == [name]


@pytest.mark.parametrize("name", [name for name in NUMBERS if params()[name][0].type != "int"])
@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_numbers_must_be_finite(name: str, number: float) -> None:
    assert faults({name: [0.1, number] if params()[name][0].type == "tuple[float, float]" else number}) == [name]


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"exploration_bounds": [0.6, 0.4]}, ["exploration_bounds"]),
        ({"p_easy": 0.01}, ["p_easy"]),
        ({"p_easy": 0.99, "p_hard": 0.96}, ["p_easy", "p_hard"]),
        ({"exploration_bounds": [0.5, 0.6], "p_hard": 0.7}, ["p_hard"]),
        ({"min_rollout_batch_size": 385}, ["min_rollout_batch_size"]),
        ({"safety_factor": 0}, ["safety_factor"]),
        ({"easy_min_mean": 0.5, "hard_max_mean": 0.5}, ["hard_max_mean"]),
        ({"easy_min_mean": 0.1, "hard_max_mean": 0.9}, ["hard_max_mean"]),
        ({"policy": "other"}, ["policy"]),
        ({"streak_rule": "greso"}, ["streak_rule"]),
        ({"seed": -1, "group_size": 0}, ["seed", "group_size"]),
    ],
)
def test_contradictions_and_choices(given: dict[str, Any], named: list[str]) -> None:
    assert faults(given) == named


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(SpecError, match="unknown_field"):
        RunSpec.of({"unknown_field": 1})


def test_initial_probabilities_not_given_move_inside_given_bounds() -> None:
    spec = RunSpec.of({"exploration_bounds": [0.6, 0.9]})
    assert (spec.p_easy, spec.p_hard) == (0.6, 0.6)
    spec = RunSpec.of({"exploration_bounds": [0.1, 0.3], "p_easy": 0.2})
    assert (spec.p_easy, spec.p_hard) == (0.2, 0.3)


def test_a_spec_survives_its_dict() -> None:
    spec = RunSpec.of(
        {"seed": 2**63 - 1, "easy_share": 0.1 + 0.2, "exploration_bounds": (0.2, 0.7), "hard_max_mean": 0.1}
    )
    assert RunSpec.of(spec.to_dict()) == spec


@pytest.mark.parametrize("name", sorted(FIXED_AT_CREATION))
def test_fields_fixed_at_creation_cannot_change(name: str) -> None:
    spec = RunSpec.of({})
    with pytest.raises(SpecError) as raised:
        spec.changed({name: getattr(spec, name)})
    assert [fault[0] for fault in raised.value.faults] == [name]


def test_those_are_the_three_of_the_contract() -> None:
    assert {"group_size", "seed", "streak_rule"} == FIXED_AT_CREATION


def test_a_change_changes_what_it_names() -> None:
    spec = RunSpec.of({"p_easy": 0.3})
    changed = spec.changed({"train_batch_size": 7, "exploration_bounds": [0.1, 0.8]})
    assert changed.differences(spec) == [
        "train_batch_size: 7, not 256",
        "exploration_bounds: [0.1, 0.8], not [0.05, 0.95]",
    ]
    assert spec.differences(spec) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"p_easy": 0.01},
        {"rollout_batch_size": 0},
        {"exploration_bounds": [0.8, 0.9], "p_hard": 0.7},
        {"exploration_bounds": [0.9, 0.8]},
        {"safety_factor": 0},
    ],
)
def test_a_change_is_checked_like_a_new_spec(changes: dict[str, Any]) -> None:
    with pytest.raises(SpecError):
        RunSpec.of({}).changed(changes)


def test_new_bounds_move_initial_probabilities_inside_unless_they_are_given() -> None:
    changed = RunSpec.of({}).changed({"exploration_bounds": [0.6, 0.9], "p_hard": 0.8})
    assert (changed.p_easy, changed.p_hard) == (0.6, 0.8)


def test_every_parameter_says_what_it_is_and_where_its_default_comes_from() -> None:
    for name, (_, param) in params().items():
        assert param.help, name
        assert param.source, name
