"""A trainer that asks and reports as fast as it is answered, and remembers what it was told and how long that took."""

from __future__ import annotations

import threading
import time
from typing import Any

import httpx

from ..servers import eventually  # noqa: TID252

PAUSE = 0.02  # seconds between tries: a client that backs off would hide when the service is back
GOAL = 15.0  # seconds that a failover may hold up a trainer


def report(number: int) -> dict[str, Any]:
    """A report of two groups, one of a prompt that no other report names."""
    results = [
        {"prompt": f"only-{number}", "rewards": [number % 2, 1]},
        {"prompt": f"shared-{number % 20}", "rewards": [0, 0]},
    ]
    return {"step": number // 10, "results": results}


class Trainer:
    """A context manager: while it lasts, a thread selects and reports, each report until it is acknowledged.

    `acknowledged`: the numbers of the reports answered 200, with when that was. `worst`: the longest time, in seconds,
    that one select and report took in all.
    """

    def __init__(self, url: str, run: str, first: int = 0) -> None:
        self.url, self.run = f"{url}/v1/runs/{run}", run
        self.number = first
        self.acknowledged: dict[int, float] = {}
        self.worst = 0.0
        self.refused: dict[str, int] = {}
        self.stale = 0
        self.wrong: list[str] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._train)

    def __enter__(self) -> Trainer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(60)
        assert not self._thread.is_alive()
        assert self.wrong == [], self.wrong

    def went_on(self, reports: int = 10) -> None:
        """Wait until so many more reports are acknowledged."""
        goal = len(self.acknowledged) + reports
        eventually(lambda: len(self.acknowledged) >= goal or bool(self.wrong), 60, lambda: f"{self.refused}")
        assert self.wrong == [], self.wrong

    def summary(self, lost: list[int]) -> str:
        """How long it waited at worst, and how many of its acknowledged reports are lost."""
        return f"{self.worst:6.2f} s {len(lost):5} of {len(self.acknowledged)}"

    def _train(self) -> None:
        with httpx.Client(timeout=10.0, trust_env=False) as http:
            while not self._stopping.is_set():
                began = time.monotonic()
                asked = {"step": self.number // 10, "prompts": [f"shared-{n}" for n in range(20)]}
                selected = self._until_answered(http, "/select", asked, f"select-{self.number}")
                self.stale += bool(selected and selected["stale"])
                if self._until_answered(http, "/report", report(self.number), f"report-{self.number}") is None:
                    return
                now = time.monotonic()
                self.acknowledged[self.number] = now
                self.worst = max(self.worst, now - began)
                self.number += 1

    def _until_answered(self, http: httpx.Client, path: str, body: Any, key: str) -> Any:
        while not self._stopping.is_set():
            answer = http.post(self.url + path, json=body, headers={"Idempotency-Key": key})
            if answer.is_success:
                return answer.json()
            if answer.status_code != 503:
                self.wrong.append(f"{path}: {answer.status_code}: {answer.text[:500]}")
                return None
            detail = answer.json()["detail"]
            self.refused[detail] = self.refused.get(detail, 0) + 1
            time.sleep(PAUSE)
        return None
