"""Shows how far the jobs are: bars on a terminal, lines in a log."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from greso_client.trainer.compare.jobs import Job, Told


class Display:
    """Use it with `with`. `tell` may be called from any thread."""

    def __init__(self, console: Console, jobs: int) -> None:
        self._console = console
        self._progress = Progress(
            TextColumn("{task.description:<16}"), BarColumn(bar_width=16), TextColumn("{task.fields[doing]}"),
            console=console, disable=not console.is_terminal,
        )  # fmt: skip
        self._shown: dict[Job, TaskID] = {}
        self._jobs = jobs
        self._done = 0
        self._all = self._progress.add_task("all jobs", total=jobs, doing=f"0 of {jobs}")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def tell(self, job: Job, told: Told) -> None:
        """Show how far a job is; one that has ended leaves the terminal."""
        if told.ended:
            self._done += 1
            self._progress.update(self._all, completed=self._done, doing=f"{self._done} of {self._jobs}")
        shown = self._shown.get(job)
        if shown is None:
            shown = self._shown[job] = self._progress.add_task(str(job), total=1.0, doing="")
        self._progress.update(shown, completed=told.share, doing=told.doing, visible=not told.ended)
        if told.ended or (told.evaluated and not self._console.is_terminal):
            count = f" ({self._done} of {self._jobs} jobs)" if told.ended else ""
            line = f"{time.strftime('%H:%M:%S')} {job}: {told.doing}{count}"
            self._progress.console.print(line, highlight=False, soft_wrap=True)
