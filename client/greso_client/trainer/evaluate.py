"""Accuracy on held-out problems."""

from collections.abc import Sequence

from transformers import PreTrainedModel

from greso_client.trainer.rollout import TorchEngine
from greso_client.trainer.task import ANSWER_TOKENS, END, Problem, encode, reward

CHUNK = 512  # completions sampled at once: few enough to stay in the processor's cache
EVALUATION_SEED = 20_250_603  # the same random numbers every time, so that two models differ by what they learnt


def sampled_accuracy(model: PreTrainedModel, problems: Sequence[Problem], *, samples: int) -> float:
    """Return the share of right answers, `samples` drawn per problem at temperature 1."""
    engine = TorchEngine(model, max_tokens=ANSWER_TOKENS, end=END, seed=EVALUATION_SEED)
    chunk = max(1, CHUNK // samples)
    right = 0.0
    for start in range(0, len(problems), chunk):
        asked = problems[start : start + chunk]
        for problem, group in zip(asked, engine.generate([encode(p.question) for p in asked], samples), strict=True):
            right += sum(reward(problem, answer) for answer in group.answers())
    return right / (len(problems) * samples)
