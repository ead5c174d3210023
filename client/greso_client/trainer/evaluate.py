"""Accuracy on held-out problems."""

import math
from collections.abc import Sequence

from greso_client.trainer.engine import Engine, Sampling
from greso_client.trainer.loop import score
from greso_client.trainer.task import Encode, Problem, Reward

EVALUATION_SEED = 20_250_603  # the same random numbers every time, so that two models differ by what they learnt


def accuracy(
    engine: Engine, problems: Sequence[Problem], encode: Encode, reward: Reward, sampling: Sampling, *, samples: int = 1
) -> float:
    """Return the mean reward of `samples` completions a problem, as the engine answers now; NaN without a problem.

    `sampling`: with temperature 0 it is the accuracy of the likeliest answers; without a seed it takes one that is
    always the same. A completion whose reward raises or is not finite counts as wrong.
    """
    if sampling.seed is None:
        sampling = Sampling(sampling.max_tokens, sampling.temperature, EVALUATION_SEED)
    prompts = [encode(problem.question) for problem in problems]
    groups = engine.generate(prompts, samples, sampling)
    scored = [score(*each, reward) for each in zip(problems, prompts, groups, strict=True)]
    return sum(sum(group.rewards) for group in scored) / (len(problems) * samples) if problems else math.nan
