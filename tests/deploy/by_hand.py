"""What `docker build` and `docker run` would do with a stage of the Dockerfile, done by hand in a folder.

Every absolute path of the image is one below `root`; all stages share it, so that the environment that one stage makes
is at the same place in the next. The machine's users are left alone: `groupadd` and `useradd` are stand-ins that do
nothing, and `install` makes its folder without them.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from .dockerfile import Instruction, Stage, parse
from .files import DOCKERFILE, ROOT

INSIDE = re.compile(r"(?<![\w./-])/(?=(?:src|build|wheels|opt|var/lib/greso|nonexistent)\b)")
MACHINE = "/usr/local/bin:/usr/bin:/bin"


def stand_ins() -> dict[str, str]:
    """Programs that stand for those of the image's base, as shell scripts."""
    return {
        "python": f'[ "$1 $2" = "-m pip" ] && exec {sys.executable} "$@"\nexec {interpreter()} "$@"',
        "groupadd": "exit 0",
        "useradd": "exit 0",
        # install -d -o USER -g GROUP -m MODE FOLDER
        "install": '[ "$1 $2 $4 $6" = "-d -o -g -m" ] || exit 9\nexec /usr/bin/install -d -m "$7" "$8"',
    }


def interpreter() -> str:
    """A Python of the base image's minor version that every user may run; the one of the tests may be root's."""
    base = parse(DOCKERFILE.read_text())["service"].base
    [minor] = re.findall(r"python:(3\.\d+)\.", base)
    own = getattr(sys, "_base_executable", sys.executable)
    named = own if sys.version.startswith(f"{minor}.") else None
    for found in filter(None, (named, shutil.which(f"python{minor}", path=MACHINE))):
        if all(folder.stat().st_mode & stat.S_IXOTH for folder in Path(found).resolve().parents):
            return str(found)
    pytest.fail(f"no python{minor} that every user may run; install the distribution's python{minor} and its venv")


class Image:
    """The service's image: its stages built into `root`, then what it runs and in what environment.

    Args:
        root: an empty folder that every user may enter.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.stages = parse(DOCKERFILE.read_text())
        self._tools = root / "stand-ins"
        self._tools.mkdir()
        for name, script in stand_ins().items():
            (self._tools / name).write_text(f"#!/bin/sh\n{script}\n")
            (self._tools / name).chmod(0o755)

    @property
    def service(self) -> Stage:
        """The stage that is the image."""
        return self.stages["service"]

    def here(self, text: str) -> str:
        """The text with the image's paths below `root`."""
        return INSIDE.sub(f"{self.root}/", text)

    def build(self) -> None:
        """Run the stages `wheel`, `build` and `service`."""
        for name in ("wheel", "build", "service"):
            self._run_stage(self.stages[name])

    def environment(self) -> dict[str, str]:
        """What a container has: the image's ENV and nothing of this machine's."""
        declared = {name: self.here(value) for name, value in self.service.pairs("ENV").items()}
        declared["PATH"] = declared["PATH"].replace("$PATH", MACHINE)
        return {"HOME": self.here("/nonexistent"), **declared}

    def command(self, *arguments: str) -> list[str]:
        """The entry point with these arguments, by default those of CMD."""
        [program, *words] = self.service.only("ENTRYPOINT").words()
        found = shutil.which(program, path=self.environment()["PATH"])
        assert found, f"{program} is not on the image's PATH"
        assert found.startswith(str(self.root)), f"{found} is not the image's"
        return [found, *words, *(arguments or self.service.only("CMD").words())]

    def health_check(self) -> list[str]:
        """The command of HEALTHCHECK."""
        text = self.service.only("HEALTHCHECK").text
        [program, *words] = Instruction("CMD", text.partition(" CMD ")[2]).words()
        found = shutil.which(program, path=self.environment()["PATH"])
        assert found, f"{program} is not on the image's PATH"
        return [found, *words]

    @property
    def user(self) -> tuple[int, int]:
        """User and group of the image."""
        user, group = self.service.only("USER").text.split(":")
        return int(user), int(group)

    def _run_stage(self, stage: Stage) -> None:
        environment = {"PATH": f"{self._tools}:{MACHINE}", "HOME": os.environ.get("HOME", "/")}
        folder = self.root
        for each in stage.instructions:
            if each.keyword == "ENV":
                environment |= stage.pairs("ENV")
                # pip's cache saves the download, and changes nothing of what is installed.
                environment |= {"PATH": f"{self._tools}:{MACHINE}", "PIP_NO_CACHE_DIR": "0"}
            elif each.keyword == "WORKDIR":
                folder = Path(self.here(each.text))
                folder.mkdir(parents=True, exist_ok=True)
            elif each.keyword == "COPY":
                self._copy(each, folder)
            elif each.keyword == "RUN":
                done = subprocess.run(
                    ["/bin/sh", "-c", self.here(each.text)],
                    cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=540,
                )  # fmt: skip
                assert done.returncode == 0, f"{stage.name}: {each.text}\n{done.stdout}{done.stderr}"

    def _copy(self, copy: Instruction, folder: Path) -> None:
        words = copy.words()
        if words[0].startswith("--from="):
            [_, made, target] = words
            assert made == target, "stages share a root here, so what one makes must stay where it is"
            assert Path(self.here(made)).exists(), f"no stage made {made}"
            return
        *names, target = words
        for source in (ROOT / name for name in names):
            if source.is_dir():
                shutil.copytree(source, folder / target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, folder / target / source.name)


def take_away_writing(folder: Path) -> None:
    """As if the folder were mounted read-only, for everyone but root."""
    for path in [folder, *folder.rglob("*")]:
        if not path.is_symlink():
            path.chmod(stat.S_IMODE(path.stat().st_mode) & ~0o222 | 0o444 | (0o111 if path.is_dir() else 0))


def give_back_writing(folder: Path) -> None:
    """So that the folder can be removed."""
    for path in [folder, *folder.rglob("*")]:
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o755)
