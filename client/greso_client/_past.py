"""What of a run was over before a client began: who collects it again counts its groups a second time."""

from __future__ import annotations

from dataclasses import dataclass

from greso_client._views import RunState

NO_STEP = -1


def newest_of(state: RunState) -> int:
    """The newest step reported to a run. Step 0 is also what one says that nobody has reported to."""
    return state.step if state.step > 0 or state.totals.groups or state.totals.undetermined else NO_STEP


def _step(spooled: int | None) -> int:
    return NO_STEP if spooled is None else spooled


@dataclass(slots=True)
class Past:
    """Of the run as this client found it, and of the steps that it ended itself. Knows nothing before `found`.

    `newest`: the newest step that had been reported when the client found the run, or waited in the spool to be; those
    below it are complete, reported or not. `complete`: whether that one is, too; None while nobody has asked. `ended`:
    the newest step that was collected to its end here. `told`: whether the caller has been warned.
    """

    known: bool = False
    newest: int = NO_STEP
    complete: bool | None = None
    ended: int = NO_STEP
    told: bool = False

    def found(self, state: RunState, spooled: int | None = None, *, complete: bool | None = None) -> None:
        """Take over the first state of the run that is seen; later ones hold what this client did itself."""
        if self.known:
            return
        self.known = True
        self.newest, self.complete = max(state.step if complete else newest_of(state), _step(spooled)), complete

    def is_of_another(self, state: RunState, spooled: int | None) -> bool:
        """Whether a run is not the one that is remembered here: it lacks a step, which isn't in the spool either."""
        return max(newest_of(state), _step(spooled)) < max(self.newest, self.ended)

    def end(self, step: int) -> None:
        """A step was collected to its end: it takes no more counts, nor does any below it."""
        self.ended = max(self.ended, step)

    def is_in_doubt(self, step: int) -> bool:
        """Whether only the service can say if the step was over."""
        return step == self.newest > self.ended and self.complete is None

    def covers(self, step: int) -> bool:
        """Whether a step that begins now was over before."""
        return step <= self.ended or step < self.newest or (step == self.newest and bool(self.complete))
