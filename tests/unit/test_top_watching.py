"""`greso top` and a service that answers what it does not understand."""

from __future__ import annotations

from typing import Any

import pytest

from greso_service.cli.service import Service, ServiceError
from greso_service.cli.top import Watch, top

from ..servers import eventually  # noqa: TID252


class Odd(Service):
    """A service of another version, whose answers lack something."""

    def get(self, *path: str, **query: Any) -> Any:
        return {"runs": [{"run": "r"}], "cursor": None}


def test_an_answer_that_it_cannot_show_is_told() -> None:
    with pytest.raises(
        ServiceError, match=r"answers what this greso can't show \(KeyError: 'cold'\); use the greso of"
    ):
        top(Odd("http://127.0.0.1:1"), None, 1.0, once=True)


def test_the_watching_thread_lives_on_whatever_happens() -> None:
    answers = iter([ValueError("odd"), {"runs": []}])

    def ask() -> Any:
        answer = next(answers, {"runs": [1]})
        if isinstance(answer, Exception):
            raise answer
        return answer

    watch = Watch(ask, 0.2)
    watch.start()
    eventually(lambda: watch.failure == "it can't be asked (ValueError: odd)", 5.0, lambda: watch.failure)
    eventually(lambda: watch.content == {"runs": [1]} and not watch.failure, 5.0, lambda: repr(watch))
