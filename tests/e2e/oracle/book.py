"""What the answers reveal of the uniform number behind a decision, and whether they agree about it.

Kept at probability q means u < q, skipped means u >= q. The number is a function of (seed, step, prompt) alone, so
every answer about the same three narrows the same interval; two answers that leave it empty contradict the law.
"""

from __future__ import annotations

from dataclasses import dataclass, field

Question = tuple[int, int, str]


@dataclass
class DrawBook:
    """The interval that each question's number lies in."""

    low: dict[Question, float] = field(default_factory=dict)
    high: dict[Question, float] = field(default_factory=dict)

    def kept(self, question: Question, probability: float) -> None:
        self.high[question] = min(self.high.get(question, 1.0), probability)
        self._consistent(question)

    def skipped(self, question: Question, probability: float) -> None:
        self.low[question] = max(self.low.get(question, 0.0), probability)
        self._consistent(question)

    def bounds(self, question: Question) -> tuple[float, float]:
        return self.low.get(question, 0.0), self.high.get(question, 1.0)

    def _consistent(self, question: Question) -> None:
        low, high = self.bounds(question)
        seed, step, prompt = question
        assert low <= high + 1e-12, (
            f"the draw of prompt {prompt!r} at step {step} (seed {seed}) is not a function of these: "
            f"skipped at keep probability {low}, kept at {high}"
        )

    def closest_filled(self, filled: dict[Question, float], left: dict[Question, float]) -> None:
        """No prompt that was left out can have a smaller draw / keep probability than one that filled up."""
        for chosen, q in filled.items():
            for other, r in left.items():
                nearest, farthest = self.bounds(chosen)[0] / q, self.bounds(other)[1] / r
                assert nearest <= farthest + 1e-12, (
                    f"{chosen} filled up with draw/keep >= {nearest}, {other} with at most {farthest} did not"
                )
