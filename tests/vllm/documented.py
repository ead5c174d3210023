"""The commands of docs/vllm.md, which these tests run."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "vllm.md"


def blocks(language: str) -> list[str]:
    """The fenced blocks of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def server_command() -> list[str]:
    """The words of the command that starts a server for a trainer, variables of the environment first."""
    return shlex.split(blocks("sh")[0].replace("\\\n", " "))
