"""Several processes that train one model: plain data parallelism, started by ``torchrun``.

Every rank runs the same program with the same weights. Rank 0 asks the service and tells the others which prompts to
roll out; each rolls out its share, rank 0 reports all of it, and each learns from its share of the effective groups.
"""

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, Self, TypeVar

import torch
from torch import Tensor, distributed
from transformers import PreTrainedModel

from greso_client import Client, Collected, Rollout

T = TypeVar("T")

PATIENCE = timedelta(hours=2)  # the others wait while rank 0 evaluates or writes a checkpoint

RollOut = Callable[[list[str]], Sequence[Rollout[T] | None]]


class RankError(Exception):
    """Another rank failed; the message says why."""


class Ranks:
    """This process among its peers: `rank` of `size`. `ALONE` is the one of a training in a single process."""

    def __init__(self, rank: int = 0, size: int = 1, local_rank: int = 0) -> None:
        self.rank = rank
        self.size = size
        self.local_rank = local_rank

    @classmethod
    def join(cls) -> Self:
        """Join the peers that torchrun started (it sets RANK and the like); alone when there are none."""
        if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
            return cls()
        ranks = cls(
            int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), int(os.environ.get("LOCAL_RANK", "0"))
        )  # fmt: skip
        if ranks.size > 1:
            if torch.cuda.is_available():
                torch.cuda.set_device(ranks.local_rank)
            backend = "cuda:nccl,cpu:gloo" if torch.cuda.is_available() else "gloo"
            distributed.init_process_group(backend, timeout=PATIENCE)
        return ranks

    def leave(self) -> None:
        """Leave the peers; nothing can be exchanged after it."""
        if self.size > 1:
            distributed.destroy_process_group()

    @property
    def first(self) -> bool:
        """Whether this is the rank that asks the service, writes and shows."""
        return self.rank == 0

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """Return the items that are this rank's: every `size`-th."""
        return items[self.rank :: self.size]

    def collect(
        self, client: Client, step: int, roll_out: RollOut[T], *, max_rounds: int, update_seconds: float = 0.0
    ) -> Collected[T]:
        """Collect a step with the hands of all ranks; each of them gets the outcome.

        Rank 0 calls `client.collect`; `roll_out` rolls out this rank's share of a round. Ranks other than the first
        get the effective groups only, and `RankError` when rank 0 could not go on.
        """
        if self.size == 1:
            return client.collect(step, roll_out, max_rounds=max_rounds, update_seconds=update_seconds)
        if not self.first:
            return self._follow(roll_out)
        try:
            collected = client.collect(
                step,
                lambda prompts: self._roll_out_together(prompts, roll_out),
                max_rounds=max_rounds,
                update_seconds=update_seconds,
            )
        except Exception as error:
            self.broadcast(RankError(f"rank 0 stopped: {error}"))
            raise
        self.broadcast(replace(collected, groups=[]))
        return collected

    def broadcast(self, item: T) -> T:
        """Return rank 0's item on every rank."""
        box: list[Any] = [item]
        if self.size > 1:
            with _together():
                distributed.broadcast_object_list(box, src=0)
        received: T = box[0]
        return received

    def gather(self, item: T) -> list[T]:
        """Return every rank's item, in the order of ranks."""
        if self.size == 1:
            return [item]
        items: list[Any] = [None] * self.size
        with _together():
            distributed.all_gather_object(items, item)
        return items

    def add(self, values: Tensor) -> Tensor:
        """Return the sum over ranks of equally shaped tensors."""
        if self.size > 1:
            with _together():
                distributed.all_reduce(values)
        return values

    def add_gradients(self, model: PreTrainedModel) -> None:
        """Give every rank the sum of all ranks' gradients."""
        if self.size == 1:
            return
        for parameter in model.parameters():
            if parameter.grad is None:  # this rank's share was empty
                parameter.grad = torch.zeros_like(parameter)
        with _together():
            pending = [distributed.all_reduce(parameter.grad, async_op=True) for parameter in model.parameters()]
            for work in pending:
                work.wait()

    def share_weights(self, model: PreTrainedModel) -> None:
        """Give every rank rank 0's weights."""
        if self.size > 1:
            with _together():
                for value in model.state_dict().values():
                    distributed.broadcast(value, src=0)

    def _follow(self, roll_out: RollOut[T]) -> Collected[T]:
        """Roll out shares until rank 0 tells what was collected."""
        while True:
            told: list[str] | Collected[T] | RankError | None = self.broadcast(None)
            if isinstance(told, RankError):
                raise told
            if isinstance(told, Collected):
                return told
            self._roll_out_together(told or [], roll_out)

    def _roll_out_together(self, prompts: list[str], roll_out: RollOut[T]) -> list[Rollout[T] | None]:
        """Roll out this rank's share; every rank is here at once. Rank 0 gets the whole, in the prompts' order."""
        if self.first:
            self.broadcast(prompts)
        mine: Sequence[Rollout[T] | None] | RankError
        try:
            mine = roll_out(list(self.share(prompts)))
        except Exception as error:  # noqa: BLE001 - told to rank 0, which stops all
            mine = RankError(f"rank {self.rank} could not roll out: {error}")
        shares: list[Any] | None = [None] * self.size if self.first else None
        with _together():
            distributed.gather_object(mine, shares)
        if shares is None:
            return []
        for share in shares:
            if isinstance(share, RankError):
                raise share
        return [shares[i % self.size][i // self.size] for i in range(len(prompts))]


@contextlib.contextmanager
def _together() -> Iterator[None]:
    """Raise `RankError` when an exchange fails: a rank that ends closes its connections to the others."""
    try:
        yield
    except RuntimeError as error:
        reason = str(error).partition("\n")[0]
        raise RankError(f"another rank has ended, see what it says ({reason})") from error


ALONE = Ranks()
