"""Random outages between the random calls of a whole training: each report is there once, in order, to the bit."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from greso_client import Client, Group

from ..servers import Service  # noqa: TID252 - tests are no installed package
from .clocks import Skipping
from .gateway import AFTER, BEFORE, SLOW, Behaviour, Gateway
from .twins import Trained

BUDGET = 0.3
STEPS = 10
# Not those that only cost time, here in bulk: one by one they stand in test_client_garbage.
FAULTS: dict[str, Behaviour | None] = {
    name: fault for name, fault in {**BEFORE, **AFTER, **SLOW}.items() if name not in {"a bomb", "endless"}
}
LENGTHS = (1.0, 6.0, 61.0, 3600.0)


class Story:
    """A training and what befalls it, all of it from the seed."""

    def __init__(self, seed: int, gateway: Gateway, run: str, spool: Path, service: Service, *, killable: bool) -> None:
        self.killable = killable
        self.chance = random.Random(seed)
        self.gateway = gateway
        self.run = run
        self.spool = spool
        self.service = service
        self.told: list[str] = []
        pool = [f"p/{number}" for number in range(self.chance.randint(8, 40))]
        batch = self.chance.randint(2, 6)
        spec = {"train_batch_size": batch, "rollout_batch_size": 2 * batch, "seed": seed}
        self.trained = Trained(spec, pool)
        self.client = self.live()

    def live(self) -> Client:
        """A trainer's next life, on what the last one left."""
        client = Client(self.gateway.url, run=self.run, budget=BUDGET, spool=self.spool)
        self.clock = Skipping(client)
        self.trained.set_up(client)
        return client

    def befall(self) -> None:
        """What may happen between any two calls."""
        weights = [50, 20, 16, 12, 2, 4 if self.killable else 0]
        what = self.chance.choices(["nothing", "fault", "end", "time", "death", "kill"], weights)[0]
        if what == "fault":
            name = self.chance.choice(list(FAULTS))
            self.gateway.behaviour = FAULTS[name]
            what = name
        elif what == "end":
            self.gateway.behaviour = None
            self.revive()
        elif what == "kill" and not self.service.ended():
            self.service.kill()
        elif what == "time":
            self.clock.skip(self.chance.choice(LENGTHS))
        elif what == "death":
            self.client._io.close()  # and delivers nothing more
            self.client = self.live()
        self.told.append(what)

    def revive(self) -> None:
        """Start the service again if it was killed."""
        if self.service.ended():
            self.service.start()

    def roll_out(self, prompt: str) -> Group:
        """A group of a prompt that may have been rolled out before."""
        easiness = int(prompt.rpartition("/")[2]) % 4 / 3
        return Group(prompt, [float(self.chance.random() < easiness) for _ in range(self.chance.randint(1, 5))])

    def step(self, number: int) -> None:
        """One step of the training, by draws or selects."""
        size = None
        for last in (False, False, False, True):
            self.befall()
            if self.chance.random() < 0.5:
                prompts = self.client.draw(number, size).prompts
            else:
                offered = self.chance.sample(self.trained.pool, len(self.trained.pool))
                chosen = self.client.select(number, offered, limit=size)
                prompts = [offered[index] for index in chosen.selected]
            self.befall()
            groups = [self.roll_out(prompt) for prompt in prompts]
            answer = self.trained.report(self.client, number, groups, final=last or self.chance.random() < 0.1)
            size = answer.next_rollout_batch_size
            if answer.step.complete:
                return

    def arrive(self) -> None:
        """The faults are over."""
        self.gateway.behaviour = None
        self.revive()
        for _ in range(100):
            if self.client.flush(within=30.0):
                break
        counters = self.client.counters
        assert self.client._core._contact._delivery.is_empty()
        assert (counters.refused, counters.dropped) == (0, 0)


def go_through(seed: int, service: Service, run: str, tmp_path: Path, *, killable: bool = False) -> None:
    with Gateway(service.url) as gateway:
        story = Story(seed, gateway, run, tmp_path / "spool", service, killable=killable)
        try:
            for number in range(STEPS):
                story.step(number)
            story.arrive()
            story.trained.assert_kept(service, run)
        except BaseException as error:
            error.add_note(f"seed {seed}: {story.told}")
            raise
        finally:
            story.client.close()


@pytest.mark.parametrize("seed", range(3))
def test_a_training_through_random_outages_is_kept(service: Service, run_name: str, tmp_path: Path, seed: int) -> None:
    go_through(seed, service, run_name, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 140))
def test_trainings_through_many_random_outages_are_kept(
    service: Service, run_name: str, tmp_path: Path, seed: int
) -> None:
    go_through(seed, service, run_name, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(200, 203))
def test_trainings_through_outages_and_kills_of_the_service_are_kept(
    start_service: Callable[..., Service], tmp_path: Path, seed: int
) -> None:
    go_through(seed, start_service(), "r", tmp_path, killable=True)
