"""Group-relative policy optimisation (GRPO): advantages inside a group, the clipped objective, the update.

The forms are those of DAPO (arXiv 2503.14476): clip-higher, the loss averaged over all tokens of the batch, no KL term
unless asked for. The average is over the whole batch however it is cut: into micro-batches that fit the memory, and
over processes.
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from greso_client.trainer.engine import Completion
from greso_client.trainer.model import autocast
from greso_client.trainer.ranks import ALONE, Ranks

ADVANTAGE_EPSILON = 1e-6  # keeps a group without variance at advantage 0 instead of 0 / 0
MOST_GRADIENT = 1.0  # the norm that gradients are clipped to; customary since PPO


@dataclass(frozen=True, slots=True)
class ScoredGroup:
    """The completions of one prompt (its token ids) with one reward each: G of both.

    `failures`: why other completions were left out, one line each.
    """

    prompt: list[int]
    completions: list[Completion]
    rewards: list[float]
    failures: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Objective:
    """What is maximised. The clip's defaults are DAPO's (section 3.1).

    `clip_low`, `clip_high`: how far below and above 1 the probability ratio counts. `kl`: weight of the divergence
    from the reference model; 0 needs none. `scale_advantages`: divide them by the group's standard deviation.
    `temperature`: that the completions are sampled at; the learner must see the same distribution.
    """

    clip_low: float = 0.2
    clip_high: float = 0.28
    kl: float = 0.0
    scale_advantages: bool = True
    temperature: float = 1.0


@dataclass(frozen=True, slots=True)
class Batch:
    """Sequences to learn from: N prompts with their completions, S tokens at most, padded on the right.

    `tokens` (N, S). Of the S - 1 predictions: `mask` (N, S - 1) is true where one is of a completion's token,
    `logprobs` (N, S - 1) is that token's when it was sampled. `advantages` (N,).
    """

    tokens: Tensor
    mask: Tensor
    logprobs: Tensor
    advantages: Tensor

    def to(self, device: torch.device) -> "Batch":
        """Return the batch on this device."""
        return Batch(*(part.to(device) for part in (self.tokens, self.mask, self.logprobs, self.advantages)))


@dataclass(frozen=True, slots=True)
class Update:
    """What learning from one step's groups did.

    The loss, the gradient's norm before clipping, the share of tokens at which the clip was active, the divergence
    from the reference (0 without one; nats a token), and the completion tokens learnt from. Of several optimiser
    steps: the mean, and the sum of the tokens.
    """

    loss: float
    gradient_norm: float
    clipped: float
    kl: float
    tokens: int


def group_advantages(rewards: Sequence[float], *, scale: bool = True) -> Tensor:
    """Return the advantages of one group, shape (G,): its rewards less their mean, over their standard deviation."""
    values = torch.tensor(rewards, dtype=torch.float32)
    values = values - values.mean()
    return values / (values.std(correction=0) + ADVANTAGE_EPSILON) if scale else values


def micro_batches(groups: Sequence[ScoredGroup], size: int, *, scale_advantages: bool) -> Iterator[Batch]:
    """Cut the groups' completions into batches of at most `size` sequences, long ones with long ones."""
    sequences = [
        (group.prompt, completion, advantage)
        for group in groups
        for completion, advantage in zip(
            group.completions, group_advantages(group.rewards, scale=scale_advantages).tolist(), strict=True
        )
    ]
    sequences.sort(key=lambda sequence: len(sequence[0]) + len(sequence[1].tokens))
    for start in range(0, len(sequences), size):
        yield _pad(sequences[start : start + size])


def _pad(sequences: Sequence[tuple[list[int], Completion, float]]) -> Batch:
    longest = max(len(prompt) + len(completion.tokens) for prompt, completion, _ in sequences)
    tokens = torch.zeros(len(sequences), longest, dtype=torch.long)
    mask = torch.zeros(len(sequences), longest - 1, dtype=torch.bool)
    logprobs = torch.zeros(len(sequences), longest - 1)
    for row, (prompt, completion, _) in enumerate(sequences):
        end = len(prompt) + len(completion.tokens)
        tokens[row, :end] = torch.tensor([*prompt, *completion.tokens])
        mask[row, len(prompt) - 1 : end - 1] = True
        logprobs[row, len(prompt) - 1 : end - 1] = torch.tensor(completion.logprobs)
    return Batch(tokens, mask, logprobs, torch.tensor([advantage for _, _, advantage in sequences]))


def token_logprobs(model: PreTrainedModel, tokens: Tensor, temperature: float = 1.0) -> Tensor:
    """Return the log-probabilities, shape (N, S - 1), that the model gives each token of `tokens` (N, S) but the first.

    Padding needs no masking: it lies behind everything that looks back.
    """
    inputs = tokens[:, :-1]
    with autocast(model):
        logits = model(input_ids=inputs, attention_mask=torch.ones_like(inputs), use_cache=False).logits
    logits = logits.float() / temperature
    chosen: Tensor = logits.gather(2, tokens[:, 1:, None])[:, :, 0] - logits.logsumexp(dim=-1)
    return chosen


def clipped_losses(logprobs: Tensor, batch: Batch, objective: Objective) -> tuple[Tensor, Tensor]:
    """Return each prediction's clipped policy loss and whether the clip is active there, both (N, S - 1).

    `logprobs` (N, S - 1) are today's. A token's objective is the smaller of ratio * advantage and clipped ratio *
    advantage; the loss is minus that.
    """
    ratio = (logprobs - batch.logprobs).exp()
    advantages = batch.advantages[:, None]
    unclipped = ratio * advantages
    clipped = ratio.clamp(1 - objective.clip_low, 1 + objective.clip_high) * advantages
    return -torch.minimum(unclipped, clipped), clipped < unclipped


def divergence(logprobs: Tensor, reference: Tensor) -> Tensor:
    """Estimate the KL divergence from the reference per token: never negative, unbiased, of little variance.

    Schulman's k3, http://joschu.net/blog/kl-approx.html.
    """
    ratio = reference - logprobs
    return ratio.exp() - ratio - 1


class Learner:
    """A model, its optimiser and the objective."""

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        learning_rate: float,
        warm_up_steps: int = 10,
        weight_decay: float = 0.01,
        objective: Objective = Objective(),
        micro_batch: int = 512,
        mini_batches: int = 1,
        reference: PreTrainedModel | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        """AdamW; the learning rate rises over the first `warm_up_steps` optimiser steps, else the policy collapses.

        `micro_batch`: sequences that go through the model at once; gradients are accumulated over them.
        `mini_batches`: optimiser steps that a training step's groups are split into. `reference`: where the KL term is
        measured from; None with `objective.kl` above 0 is a copy of the model as it is now.
        """
        self.model = model
        self.objective = objective
        self._micro_batch = micro_batch
        self._mini_batches = mini_batches
        self._ranks = ranks
        if objective.kl > 0 and reference is None:
            reference = copy.deepcopy(model)
        self._reference = reference if objective.kl > 0 else None
        self._optimizer = torch.optim.AdamW(
            model.parameters(), lr=learning_rate, betas=(0.9, 0.99), weight_decay=weight_decay
        )
        self._schedule = torch.optim.lr_scheduler.LambdaLR(
            self._optimizer, lambda done: min(1.0, (done + 1) / max(1, warm_up_steps))
        )

    def update(self, groups: Sequence[ScoredGroup]) -> Update:
        """Learn from the groups: `mini_batches` optimiser steps, or fewer when there are fewer groups than that."""
        steps = min(self._mini_batches, len(groups))
        updates = [self._step(groups[i::steps]) for i in range(steps)]
        return Update(
            loss=sum(update.loss for update in updates) / steps,
            gradient_norm=sum(update.gradient_norm for update in updates) / steps,
            clipped=sum(update.clipped for update in updates) / steps,
            kl=sum(update.kl for update in updates) / steps,
            tokens=sum(update.tokens for update in updates),
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the optimiser and its schedule; the model's is its own."""
        return {"optimizer": self._optimizer.state_dict(), "schedule": self._schedule.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from such a state."""
        self._optimizer.load_state_dict(state["optimizer"])
        self._schedule.load_state_dict(state["schedule"])

    def _step(self, groups: Sequence[ScoredGroup]) -> Update:
        """Take one optimiser step on the groups; each rank computes its share of the gradient."""
        count = sum(len(completion.tokens) for group in groups for completion in group.completions)
        self._optimizer.zero_grad()
        sums = torch.zeros(3, device=self.model.device)  # of loss, clipped tokens and divergence
        share = self._ranks.share(groups)
        for batch in micro_batches(share, self._micro_batch, scale_advantages=self.objective.scale_advantages):
            sums += self._accumulate(batch.to(self.model.device), count)
        self._ranks.add_gradients(self.model)
        loss, clipped, kl = self._ranks.add(sums).tolist()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), MOST_GRADIENT)
        self._optimizer.step()
        self._schedule.step()
        return Update(loss=loss, gradient_norm=norm.item(), clipped=clipped, kl=kl, tokens=count)

    def _accumulate(self, batch: Batch, count: int) -> Tensor:
        """Add a micro-batch's gradient; return its share of loss, clipped tokens and divergence, each over `count`."""
        logprobs = token_logprobs(self.model, batch.tokens, self.objective.temperature)
        losses, clipped = clipped_losses(logprobs, batch, self.objective)
        kl = torch.zeros_like(losses)
        if self._reference is not None:
            with torch.no_grad():
                reference = token_logprobs(self._reference, batch.tokens, self.objective.temperature)
            kl = divergence(logprobs, reference)
        loss = ((losses + self.objective.kl * kl) * batch.mask).sum() / count
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
        parts = (loss, (clipped & batch.mask).sum() / count, (kl * batch.mask).sum() / count)
        return torch.stack([part.detach() for part in parts])
