"""The service's own walk on the pool: permutations, positions, and the same decisions as select."""

from __future__ import annotations

import math
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from .test_oracle_draws import SIGMAS, kept, train

if TYPE_CHECKING:
    from collections.abc import Callable

    from .oracle.service import Service

POOL = [f"pool/{at}" for at in range(100)]


def filled(service: Service, name: str, pool: list[str] = POOL, **spec: Any) -> str:
    """A run with a pool, nothing reported: no draw skips anything."""
    run = service.create(name, **spec)
    assert service.json("PUT", f"{run}/pool", {"prompts": pool}) == {"added": len(pool), "pool": len(pool)}
    return run


def draw(service: Service, run: str, count: int, step: int = 1) -> list[str]:
    """The prompts of one draw."""
    prompts = service.json("POST", f"{run}/draw", {"step": step, "count": count})["prompts"]
    assert isinstance(prompts, list)
    return prompts


def test_each_epoch_is_a_fresh_permutation(served: Service, name: str) -> None:
    run = filled(served, name, seed=4)
    epochs = [served.json("POST", f"{run}/draw", {"step": 1, "count": 100}) for _ in range(4)]
    orders = [tuple(epoch["prompts"]) for epoch in epochs]
    assert all(sorted(order) == sorted(POOL) for order in orders)
    assert len({*orders, tuple(POOL)}) == 5, "an epoch repeats another's order, or the pool's"
    numbers = [epoch["epoch"] for epoch in epochs]
    assert numbers == list(range(numbers[0], numbers[0] + 4))
    assert all(epoch["examined"] == 100 and epoch["skipped"] == {"easy": 0, "hard": 0} for epoch in epochs)


def test_the_permutation_is_keyed_by_seed_and_epoch(served: Service, name: str) -> None:
    same = [filled(served, f"{name}-{at}", seed=4) for at in range(2)]
    other = filled(served, f"{name}-other", seed=5)
    walks = [[draw(served, run, 100) for _ in range(3)] for run in [*same, other]]
    assert walks[0] == walks[1]
    assert all(one != two for one, two in zip(walks[0], walks[2], strict=True))


def test_permutations_are_uniform(served: Service, name: str) -> None:
    pool, epochs = ["a", "b", "c", "d"], 400
    run = filled(served, name, pool, seed=6)
    orders = Counter(tuple(draw(served, run, 4, step)) for step in range(epochs))
    assert sum(orders.values()) == epochs
    for place in range(4):
        for prompt in pool:
            hits = sum(count for order, count in orders.items() if order[place] == prompt)
            deviation = math.sqrt(epochs * 3 / 16)
            assert abs(hits - epochs / 4) <= SIGMAS * deviation, (place, prompt, hits)
    assert len(orders) == 24, "some order of four never came in 400 epochs"


def test_draws_of_any_size_walk_through_every_position_once(served: Service, name: str) -> None:
    whole, pieces = (filled(served, f"{name}-{at}", seed=8) for at in range(2))
    walk = [prompt for _ in range(3) for prompt in draw(served, whole, 100)]
    taken: list[str] = []
    for step, count in enumerate([1, 7, 30, 90, 100, 3, 69]):
        taken += draw(served, pieces, count, step)
    assert taken == walk


def test_a_draw_examines_at_most_one_pool_length(served: Service, name: str) -> None:
    run = filled(served, name, POOL[:10], seed=8)
    draw(served, run, 6)
    answer = served.json("POST", f"{run}/draw", {"step": 1, "count": 1000})
    assert answer["examined"] == 10
    assert len(answer["prompts"]) == 10
    # Four that were left of the first epoch, then six of the second.
    assert len(set(answer["prompts"][:4])) == 4
    assert len(set(answer["prompts"][4:])) == 6


def test_a_draw_decides_as_select_does(served: Service, name: str) -> None:
    run = filled(served, name, seed=12)
    train(served, run, {prompt: 1 + at % 4 for at, prompt in enumerate(POOL)}, {prompt: [1, 1] for prompt in POOL[::2]})
    for step in range(1, 6):
        answer = served.json("POST", f"{run}/draw", {"step": step, "count": 100})
        assert answer["examined"] == 100
        assert set(answer["prompts"]) == kept(served, run, step, POOL)
        assert len(answer["prompts"]) + answer["skipped"]["easy"] + answer["skipped"]["hard"] == 100
        skipped = set(POOL) - set(answer["prompts"])
        assert answer["skipped"]["easy"] == len(skipped & set(POOL[::2]))


def test_a_draw_stops_at_its_count_and_the_next_goes_on_there(served: Service, name: str) -> None:
    run = filled(served, name, seed=13)
    train(served, run, dict.fromkeys(POOL, 1))
    chosen = kept(served, run, 1, POOL)
    taken: list[str] = []
    examined = 0
    while examined < 100:
        answer = served.json("POST", f"{run}/draw", {"step": 1, "count": 5})
        examined += answer["examined"]
        taken += answer["prompts"]
        assert len(answer["prompts"]) == 5
    assert chosen <= set(taken)
    first = taken[: len(chosen)]
    assert len(set(first)) == len(first), "a position was given twice within an epoch"


def test_a_draw_without_count_takes_the_current_rollout_batch_size(served: Service, name: str) -> None:
    run = filled(served, name, train_batch_size=8, rollout_batch_size=24)
    assert len(served.json("POST", f"{run}/draw", {"step": 1})["prompts"]) == 24
    results = [{"prompt": f"x{at}", "rewards": [0, at % 2]} for at in range(12)]
    told = served.json("POST", f"{run}/report", {"step": 1, "results": results})
    assert told["next_rollout_batch_size"] == 5  # 1.25 * 2 / (6/12)
    assert len(served.json("POST", f"{run}/draw", {"step": 1})["prompts"]) == 5


def test_an_empty_pool_is_a_conflict(served: Service, name: str) -> None:
    run = served.create(name)
    before = served.json("GET", run)
    assert served.call("POST", f"{run}/draw", {"step": 1, "count": 3}).status_code == 409
    assert served.json("GET", run) == before


def test_concurrent_draws_never_share_a_position(served: Service, name: str) -> None:
    run = filled(served, name, [f"c/{at}" for at in range(420)], seed=3)
    with ThreadPoolExecutor(8) as threads:
        parts = list(threads.map(lambda _: draw(served, run, 7), range(60)))
    taken = [prompt for part in parts for prompt in part]
    assert len(taken) == 420
    assert len(set(taken)) == 420


def test_prompts_added_during_an_epoch_come_and_nothing_repeats(served: Service, name: str) -> None:
    run = filled(served, name, POOL, seed=3)
    first = draw(served, run, 40)
    late = [f"late/{at}" for at in range(20)]
    assert served.json("PUT", f"{run}/pool", {"prompts": [*late, *POOL[:5]]}) == {"added": 20, "pool": 120}
    rest = draw(served, run, 60)
    # Whether the newcomers enter this epoch or the next is open; that the old ones don't repeat before its end is not.
    assert not set(first) & set(rest)
    assert len(set(rest)) == 60
    following = [prompt for _ in range(3) for prompt in draw(served, run, 120)]
    assert set(late) <= set(following)
    assert set(POOL) <= set(following)


def test_the_position_survives_kills_and_restarts(private: Callable[..., Service]) -> None:
    service = private()
    run = filled(service, "walk", seed=21)
    undisturbed = filled(service, "undisturbed", seed=21)
    taken = draw(service, run, 33)
    service.kill()
    service.start()
    taken += draw(service, run, 33)
    assert service.stop() == 0
    service.start()
    taken += draw(service, run, 134)
    walk = draw(service, undisturbed, 100) + draw(service, undisturbed, 100)
    assert taken == walk[: len(taken)]
    assert len(taken) == 166
