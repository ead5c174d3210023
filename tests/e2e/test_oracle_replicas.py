"""Two services on one Redis are one service: a trainer may talk to either, request by request.

Random traces through both are in test_oracle_time_replicas.py.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .oracle.service import Service


def test_concurrent_writes_through_two_replicas_count_once(replicas: list[Service]) -> None:
    run = replicas[0].create("both")
    pool = [f"p/{at}" for at in range(200)]
    replicas[1].json("PUT", f"{run}/pool", {"prompts": pool})

    def send(at: int) -> list[str]:
        body: dict[str, Any] = {"step": 1, "results": [{"prompt": f"p/{at}", "rewards": [0, at % 2]}]}
        answers = [replica.call("POST", f"{run}/report", body, f"report-{at}") for replica in replicas]
        assert answers[0].content == answers[1].content
        drawn = replicas[at % 2].json("POST", f"{run}/draw", {"step": 1, "count": 4})["prompts"]
        assert isinstance(drawn, list)
        return drawn

    with ThreadPoolExecutor(8) as threads:
        drawn = [prompt for part in threads.map(send, range(50)) for prompt in part]
    states = [replica.json("GET", run) for replica in replicas]
    assert states[0] == states[1]
    assert (states[0]["totals"]["rollouts"], states[0]["totals"]["effective"]) == (100, 25)
    # Fifty draws of four walk the pool of two hundred once; some may be skipped as hard by then.
    assert len(drawn) + states[0]["totals"]["skipped"]["hard"] == states[0]["totals"]["examined"]
    assert all(drawn.count(prompt) <= -(-states[0]["totals"]["examined"] // 200) for prompt in pool)


def test_a_run_deleted_and_made_anew_through_one_is_new_through_the_other(replicas: list[Service]) -> None:
    one, other = replicas
    body: dict[str, Any] = {"step": 7, "results": [{"prompt": "p", "rewards": [0, 0]}]}
    for again in range(3):
        run = one.create("phoenix", seed=again)
        for replica in replicas:
            replica.json("POST", f"{run}/report", body, "key")
            assert replica.json("GET", run)["totals"]["rollouts"] == 2
        # The other one knows the run and its key; what it knows is of a run that is gone.
        one.json("DELETE", run)
        assert other.call("GET", run).status_code == 404
        assert other.call("POST", f"{run}/select", {"step": 7, "prompts": ["p"]}).status_code == 404
        one.create("phoenix", seed=again + 10)
        fresh = other.json("POST", f"{run}/select", {"step": 7, "prompts": ["p"], "explain": True})
        assert fresh["decisions"][0]["reason"] == "new"
        assert other.json("GET", run) == one.json("GET", run)
        other.json("DELETE", run)
