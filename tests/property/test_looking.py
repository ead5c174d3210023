"""Any run can be looked at: advice, overview, curves, map and `why` come out whole, whatever has happened to it."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from greso_service import views, why
from greso_service.core.advice import auditing, filtering, savings, trainer
from greso_service.core.advice.words import LEVELS
from greso_service.core.policy import RANKINGS
from greso_service.core.spec import params

from .traces import Action, play, specs, traces


def plain(body: bytes) -> Any:
    """The JSON of an answer, which has no NaN and no infinity."""

    def never(constant: str) -> None:
        raise AssertionError(constant)

    return json.loads(body, parse_constant=never)


@settings(max_examples=200)
@given(spec=specs, trace=traces, active_ms=st.integers(0, 2**42), now=st.floats(0, 2**33))
def test_any_run_can_be_looked_at(spec: dict[str, Any], trace: list[Action], active_ms: int, now: float) -> None:
    state, _ = play(spec, trace)
    with pytest.MonkeyPatch.context() as patch:
        for module in (trainer, filtering, savings, auditing):  # all rules speak, however little there is to go by
            for name in ("ENOUGH_STEPS", "ENOUGH_GROUPS", "ENOUGH_PROMPTS", "ENOUGH_AUDITS"):
                patch.setattr(module, name, 1, raising=False)
        told = plain(views.overview("r", state, active_ms, now).body)
        row = views.row("r", state, active_ms, now)
    assert told["status"] in {"saving", "filtering", "learning", "off", "stuck", "idle"}
    assert told["headline"].endswith(".")
    assert row["advice"] == [advice["code"] for advice in told["advice"]]
    for advice in told["advice"]:
        assert advice["level"] in LEVELS
        assert advice["title"]
        assert "nan" not in advice["detail"] + advice["change"]
        if "PATCH" in advice["change"]:
            fields = json.loads(advice["change"].partition("PATCH /v1/runs/r ")[2])
            assert fields.keys() <= params().keys()
            state.spec.changed(fields)  # is taken
    ranks, saved = state.spec.policy in RANKINGS, told["saved_estimate"]
    assert saved is None or saved >= 0
    assert ranks or saved is None or saved <= told["totals"]["rollouts_avoided"]
    assert (told["audit"]["shadow"] is not None) == state.spec.shadow
    for shares in (told["recent"], told["first"]):
        assert all(0 <= share <= 1 for share in (shares.get("skip_rate"), shares["effective"]) if share is not None)
    curves = plain(views.curves(state, -1, 10).body)
    assert sum(curves["groups"]) == sum(state.steps.rows["groups"].tolist())
    mapped = plain(views.selection_map(state, "kind", 256).body)["prompts"]
    assert len(mapped) == state.table.size
    for prompt in mapped:
        answer = why.answer(state, prompt["prompt"])
        assert answer is not None
        said = plain(answer.body)
        assert 0 <= said["draw"] < 1
        assert math.isclose(said["keep_probability"], prompt["keep_probability"])
        assert 0 <= said["pass_rate"] <= 1
        if ranks:
            assert said["next_kept_step"] is None
            assert said["rank"] is None or 1 <= said["rank"] <= said["ranked"]
        elif said["draw"] < said["keep_probability"] or state.spec.shadow:
            assert said["keep"]
        elif not state.spec.audit_share:
            assert not said["keep"]
