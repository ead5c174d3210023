"""What of a run was over before a client began: who collects it again counts its groups a second time."""

from __future__ import annotations

from dataclasses import dataclass

from greso_client._views import RunState

NO_STEP = -1


@dataclass(slots=True)
class Past:
    """Of the run as this client found it, and of the steps that it ended itself. Knows nothing before `found`.

    `newest`: the newest step that had been reported when the client found the run; those below it are complete,
    reported or not. `complete`: whether that one is, too; None while nobody has asked. `ended`: the newest step that
    was collected to its end here. `told`: whether the caller has been warned.
    """

    known: bool = False
    newest: int = NO_STEP
    complete: bool | None = None
    ended: int = NO_STEP
    told: bool = False

    def found(self, state: RunState, *, complete: bool | None = None) -> None:
        """Take over the first state of the run that is seen; later ones hold what this client did itself."""
        if self.known:
            return
        self.known = True
        # Step 0 is also what a run says that nobody has reported to.
        if state.step > 0 or state.totals.groups or state.totals.undetermined or complete:
            self.newest, self.complete = state.step, complete

    def end(self, step: int) -> None:
        """A step was collected to its end: it takes no more counts, nor does any below it."""
        self.ended = max(self.ended, step)

    def is_in_doubt(self, step: int) -> bool:
        """Whether only the service can say if the step was over."""
        return step == self.newest > self.ended and self.complete is None

    def covers(self, step: int) -> bool:
        """Whether a step that begins now was over before."""
        return step <= self.ended or step < self.newest or (step == self.newest and bool(self.complete))
