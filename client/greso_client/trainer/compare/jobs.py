"""Runs what is still to do, `count` jobs at once, each in a process of its own: no job can change another's result."""

import json
import subprocess
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from greso_client.trainer.compare import tether
from greso_client.trainer.compare.results import Results

STOPPED = "stopped"
START = "start"  # the job that makes a seed's start; every other one is named after its arm


@dataclass(frozen=True, slots=True)
class Job:
    """The warm start of a seed (arm `START`), or one trial."""

    arm: str
    seed: int

    def __str__(self) -> str:
        return f"{self.arm} seed {self.seed}"


@dataclass(frozen=True, slots=True)
class Told:
    """How far a job is: its share, what it does in words, whether the accuracy was just evaluated, whether it ended."""

    share: float
    doing: str
    evaluated: bool
    ended: bool = False


def to_do(results: Results, arms: Sequence[str], seeds: Sequence[int]) -> tuple[list[Job], list[Job]]:
    """Return the warm starts and the trials that are not finished; a seed's start is needed for its trials only."""
    trials = [Job(arm, seed) for seed in seeds for arm in arms if not results.has(arm, seed)]
    starts = [Job(START, seed) for seed in dict.fromkeys(job.seed for job in trials)]
    return [job for job in starts if not results.start(job.seed).exists()], trials


class Jobs:
    """Runs jobs in processes that end with this one."""

    def __init__(self, results: Results, url: str, tell: Callable[[Job, Told], None]) -> None:
        """`tell` is called from other threads."""
        self._results = results
        self._url = url
        self._tell = tell
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self._stopped = threading.Event()

    def run(self, jobs: Sequence[Job], count: int) -> dict[Job, str]:
        """Run all; return what the failed ones said last. When this is interrupted, every job is stopped first."""
        with ThreadPoolExecutor(max_workers=count) as pool:
            try:
                return {job: failure for job, failure in zip(jobs, pool.map(self._run, jobs), strict=True) if failure}
            except BaseException:
                self._stop()
                raise

    def _run(self, job: Job) -> str | None:
        log = self._results.log(job.arm, job.seed)
        command = ["greso_client.trainer.compare.worker", str(self._results.folder), self._url, job.arm, str(job.seed)]
        with log.open("wb") as complaints:
            with self._lock:
                if self._stopped.is_set():
                    return STOPPED
                process = tether.hold(command, stdout=subprocess.PIPE, stderr=complaints)
                self._running.add(process)
            try:
                for line in process.stdout or ():
                    self._tell(job, Told(**json.loads(line)))
                code = process.wait()
            finally:
                with self._lock:
                    self._running.discard(process)
                tether.let_go(process)
        if self._stopped.is_set():
            return STOPPED
        if code:
            failure = f"{tether.last_words(log)} (exit code {code}; {log})"
            self._tell(job, Told(1.0, f"FAILED: {failure}", False, ended=True))
            return failure
        if log.stat().st_size == 0:
            log.unlink()
        self._tell(job, Told(1.0, "done", False, ended=True))
        return None

    def _stop(self) -> None:
        with self._lock:
            self._stopped.set()
            for process in self._running:
                process.terminate()
