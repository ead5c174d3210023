"""Rewards of right and wrong answers: 1.0 or 0.0. See docs/trainer.md why not one shaped by length or format."""

import functools
import importlib
import re
import threading
from typing import Any

from greso_client.trainer.engine import Completion
from greso_client.trainer.task import Problem

COMPARE_SECONDS = 5  # for one answer; expressions can be built that no algebra system ever simplifies

_BOXED = re.compile(r"\\(?:boxed|fbox)\s*\{")


def exact_match(problem: Problem, completion: Completion) -> float:
    """Return 1.0 when the completion is the answer, but for white space around it."""
    return float(completion.text.strip() == problem.answer.strip())


def math_match(problem: Problem, completion: Completion) -> float:
    """Return 1.0 when the completion's answer equals the reference as mathematics: 0.5, 1/2 and \\frac{1}{2} are one.

    The answer is what stands in the last \\boxed{}, else the last expression or number. An answer that is no
    mathematics ("Paris") must be boxed and equal as text. Needs ``math-verify``.
    """
    verify = _math_verify().verify

    gold = _parsed_answer(problem.answer)
    boxed = last_boxed(completion.text)
    if boxed is not None and boxed.strip() == problem.answer.strip():
        return 1.0
    if not gold:
        return 0.0
    return float(verify(gold, _parse(completion.text), timeout_seconds=_limit()))


def last_boxed(text: str) -> str | None:
    """Return what stands in the last \\boxed{...} of the text, braces inside matched; None without a whole one."""
    found = None
    for match in _BOXED.finditer(text):
        depth = 1
        for end in range(match.end(), len(text)):
            depth += {"{": 1, "}": -1}.get(text[end], 0)
            if depth == 0:
                found = text[match.end() : end]
                break
    return found


@functools.lru_cache(maxsize=100_000)
def _parsed_answer(answer: str) -> Any:
    return _parse(rf"\boxed{{{answer}}}")


def _parse(text: str) -> Any:
    return _math_verify().parse(text, parsing_timeout=_limit())


def _limit() -> int | None:
    """Seconds; its time limits are alarm signals, which only the main thread can set: elsewhere there is none."""
    return COMPARE_SECONDS if threading.current_thread() is threading.main_thread() else None


def _math_verify() -> Any:
    """Import it when it is wanted: it brings sympy, which takes a second, and not every task needs it."""
    return importlib.import_module("math_verify")
