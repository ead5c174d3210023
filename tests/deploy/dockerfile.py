"""A Dockerfile taken apart, as far as this project's needs: stages, instructions, arguments, exec forms."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Instruction:
    """One instruction of a stage: its keyword, and the rest with lines joined and arguments replaced."""

    keyword: str
    text: str

    def words(self) -> list[str]:
        """The exec form's words, or those of a shell; flags (`--from=...`) come first."""
        return list(json.loads(self.text)) if self.text.startswith("[") else shlex.split(self.text)


@dataclass
class Stage:
    """From one FROM to the next."""

    name: str
    base: str
    instructions: list[Instruction] = field(default_factory=list)

    def all(self, keyword: str) -> list[Instruction]:
        """Its instructions of a kind, in order."""
        return [each for each in self.instructions if each.keyword == keyword]

    def only(self, keyword: str) -> Instruction:
        """Its one instruction of a kind."""
        [one] = self.all(keyword)
        return one

    def pairs(self, keyword: str) -> dict[str, str]:
        """What its ENV or LABEL instructions set."""
        words = [word for each in self.all(keyword) for word in shlex.split(each.text)]
        return dict(tuple(word.split("=", 1)) for word in words)  # type: ignore[misc]  # each word has its =


def parse(text: str) -> dict[str, Stage]:
    """The stages by name, in order."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines()
    stages: dict[str, Stage] = {}
    given: dict[str, str] = {}
    stage: Stage | None = None
    for line in joined:
        keyword, _, rest = line.partition(" ")
        rest = rest.strip()
        if keyword == "FROM":
            base, name = re.fullmatch(r"(\S+) AS (\S+)", rest).groups()  # type: ignore[union-attr]
            stage = stages[name] = Stage(name, _replaced(base, given))
        elif keyword == "ARG":
            name, _, default = rest.partition("=")
            given[name] = default
        elif stage is None:
            raise ValueError(f"{keyword} before the first FROM")
        else:
            stage.instructions.append(Instruction(keyword, _replaced(rest, given)))
    return stages


def _replaced(text: str, given: dict[str, str]) -> str:
    return re.sub(r"\$\{(\w+)\}", lambda found: given.get(found[1], found[0]), text)
