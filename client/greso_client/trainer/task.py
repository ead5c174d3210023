"""The task the demo trains on: addition, answered with the digits reversed.

A prompt is ``"  47+ 156="``; the right completion is ``"302"`` (203 backwards) followed by the end token. Backwards,
each digit depends only on the two above it and one carry; forwards, RL hardly lifts a model this small.

The pool is made to look like a data set one really meets: some prompts that soon become easy, some to learn from, some
far too hard for the start, and a share whose reference answer is broken, which no training will ever solve.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ALPHABET = "0123456789+= "
END = len(ALPHABET)  # the end token comes after the characters
VOCABULARY_SIZE = len(ALPHABET) + 1
OPERAND_DIGITS = 4
PROMPT_TOKENS = 2 * OPERAND_DIGITS + 2  # two operands, "+" and "="
ANSWER_TOKENS = OPERAND_DIGITS + 2  # a sum can be one digit longer than its operands; then the end token

# Share of problems whose operands are drawn below 10, 100, 1,000 and 10,000. The warm start hardly sees the last two,
# which are left to RL; the pool leaves out the first, of which there are only a hundred.
POOL_DIGITS = (0.0, 0.2, 0.4, 0.4)
WARM_START_DIGITS = (0.5, 0.35, 0.12, 0.03)
BROKEN_ANSWERS = 0.3  # share of the pool's prompts whose reference answer is broken: noise, as in real data sets

_TOKENS = {character: token for token, character in enumerate(ALPHABET)}


@dataclass(frozen=True, slots=True)
class Problem:
    """One question with its reference answer, both as text."""

    id: str
    question: str
    answer: str


@dataclass(frozen=True, slots=True)
class Dataset:
    """Distinct problems: a pool to train on, with broken answers among it, and held-out ones, all answered rightly."""

    pool: list[Problem]
    held_out: list[Problem]


def make_dataset(seed: int, *, pool: int = 3_000, held_out: int = 1_000) -> Dataset:
    """Draw `pool` + `held_out` problems of which no two share a question; a seed always gives the same ones."""
    rng = np.random.default_rng(seed)
    operands = _draw_distinct_operands(rng, pool + held_out)
    answers = operands.sum(axis=1)
    # A broken answer is longer than any completion: a short wrong one would now and then be hit by luck and rewarded.
    broken = np.flatnonzero(rng.random(pool) < BROKEN_ANSWERS)
    answers[broken] = rng.integers(10 ** (ANSWER_TOKENS - 1), 10**ANSWER_TOKENS, size=len(broken))
    problems = [_problem(i, a, b, answer) for i, ((a, b), answer) in enumerate(zip(operands, answers, strict=True))]
    return Dataset(pool=problems[:pool], held_out=problems[pool:])


def draw_warm_start(rng: np.random.Generator, count: int, *, avoid: Sequence[Problem]) -> list[Problem]:
    """Draw at most `count` problems, rightly answered and mostly short, without any whose question is in `avoid`."""
    avoided = {problem.question for problem in avoid}
    drawn = [_problem(i, a, b, a + b) for i, (a, b) in enumerate(_draw_operands(rng, count, WARM_START_DIGITS))]
    return [problem for problem in drawn if problem.question not in avoided]


def reward(problem: Problem, completion: Sequence[int]) -> float:
    """Return 1.0 when the completion (token ids) is exactly the reference answer and then ends, else 0.0."""
    return float(list(completion) == [*encode(problem.answer), END])


def encode(text: str) -> list[int]:
    """Turn text into token ids, one a character. Raises KeyError for a character outside the alphabet."""
    return [_TOKENS[character] for character in text]


def _problem(number: int, a: int, b: int, answer: int) -> Problem:
    return Problem(
        id=f"add/{number}",
        question=f"{a:>{OPERAND_DIGITS}}+{b:>{OPERAND_DIGITS}}=",
        answer=str(answer)[::-1],
    )


def _draw_operands(rng: np.random.Generator, count: int, digits: Sequence[float]) -> NDArray[np.int64]:
    most = rng.choice(OPERAND_DIGITS, size=(count, 1), p=digits) + 1
    return rng.integers(0, 10**most, size=(count, 2))


def _draw_distinct_operands(rng: np.random.Generator, count: int) -> NDArray[np.int64]:
    distinct = np.empty((0, 2), dtype=np.int64)
    while len(distinct) < count:
        distinct = np.unique(np.concatenate([distinct, _draw_operands(rng, count, POOL_DIGITS)]), axis=0)
    return rng.permutation(distinct)[:count]
