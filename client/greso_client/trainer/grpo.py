"""Group-relative policy optimisation (GRPO): advantages inside a group, the clipped objective, one update.

The forms are those of DAPO (arXiv 2503.14476): clip-higher, the loss averaged over all tokens of the batch, no KL term.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from greso_client.trainer.rollout import Completions

CLIP_LOW, CLIP_HIGH = 0.2, 0.28  # DAPO, section 3.1
ADVANTAGE_EPSILON = 1e-6  # keeps a group without variance at advantage 0 instead of 0 / 0


@dataclass(frozen=True, slots=True)
class Batch:
    """Completions to learn from: N of them, prompts of L tokens, answers of at most T.

    `prompts` (N, L), `tokens` (N, T), `mask` (N, T), `logprobs` (N, T) as sampled, `advantages` (N,).
    """

    prompts: Tensor
    tokens: Tensor
    mask: Tensor
    logprobs: Tensor
    advantages: Tensor


@dataclass(frozen=True, slots=True)
class Update:
    """What one optimiser step did: the loss, the gradient's norm before clipping, the share of tokens clipped."""

    loss: float
    gradient_norm: float
    clipped: float


def group_advantages(rewards: Sequence[float]) -> Tensor:
    """Return the advantages of one group, shape (G,): its rewards less their mean, over their standard deviation."""
    values = torch.tensor(rewards, dtype=torch.float32)
    return (values - values.mean()) / (values.std(correction=0) + ADVANTAGE_EPSILON)


def make_batch(groups: Sequence[tuple[Completions, Sequence[float]]]) -> Batch:
    """Put groups (completions and their rewards) into one batch. The groups may differ in size."""
    completions = [group for group, _ in groups]
    return Batch(
        prompts=torch.cat([group.prompt.expand(len(group.tokens), -1) for group in completions]),
        tokens=torch.cat([group.tokens for group in completions]),
        mask=torch.cat([group.mask for group in completions]),
        logprobs=torch.cat([group.logprobs for group in completions]),
        advantages=torch.cat([group_advantages(rewards) for _, rewards in groups]),
    )


def token_logprobs(model: PreTrainedModel, prompts: Tensor, tokens: Tensor) -> Tensor:
    """Return the log-probabilities, shape (N, T), that the model gives `tokens` (N, T) after `prompts` (N, L)."""
    inputs = torch.cat([prompts, tokens[:, :-1]], dim=1)
    logits: Tensor = model(input_ids=inputs, use_cache=False).logits[:, prompts.shape[1] - 1 :]
    return logits.float().log_softmax(dim=-1).gather(2, tokens[:, :, None])[:, :, 0]


def clipped_loss(logprobs: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return the clipped policy loss and the share of tokens at which the clip is active, both scalars.

    `logprobs` (N, T) are today's of the tokens in `batch`. A token's objective is the smaller of ratio * advantage and
    clipped ratio * advantage; the loss is minus its mean over all tokens of the batch, long completions and short.
    """
    ratio = (logprobs - batch.logprobs).exp()
    advantages = batch.advantages[:, None]
    unclipped = ratio * advantages
    clipped = ratio.clamp(1 - CLIP_LOW, 1 + CLIP_HIGH) * advantages
    count = batch.mask.sum()
    loss = -(torch.minimum(unclipped, clipped) * batch.mask).sum() / count
    return loss, ((clipped < unclipped) & batch.mask).sum() / count


class Learner:
    """A model and its optimiser."""

    def __init__(self, model: PreTrainedModel, *, learning_rate: float, warm_up_steps: int = 10) -> None:
        """AdamW; the learning rate rises over the first `warm_up_steps` updates, without which the policy collapses."""
        self._model = model
        self._optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, betas=(0.9, 0.99), weight_decay=0.01)
        self._schedule = torch.optim.lr_scheduler.LambdaLR(
            self._optimizer, lambda done: min(1.0, (done + 1) / warm_up_steps)
        )

    def update(self, batch: Batch) -> Update:
        """Take one optimiser step on the batch."""
        loss, clipped = clipped_loss(token_logprobs(self._model, batch.prompts, batch.tokens), batch)
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
        norm = nn.utils.clip_grad_norm_(self._model.parameters(), 1.0)
        self._optimizer.step()
        self._schedule.step()
        return Update(loss=loss.item(), gradient_norm=norm.item(), clipped=clipped.item())
