"""The arms: ways to train that differ in which prompts are rolled out, and in nothing else."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Arm:
    """One way to train. `policy`: of its run at the service. `refill`: roll out until enough groups are effective.

    `full_rounds`: a later round of a step takes as many prompts as the first, not as many as are still missing.
    """

    policy: str
    refill: bool
    full_rounds: bool
    help: str

    def spec(self, rollout_batch_size: int, greso: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields of the run's spec that set this arm apart; `greso`: those of arms that filter."""
        fewest = {"min_rollout_batch_size": rollout_batch_size} if self.full_rounds else {}
        return {"policy": self.policy, **fewest, **(greso if self.policy == "greso" else {})}


ARMS = {
    "grpo": Arm(
        "uniform", False, False, "plain GRPO: one round a step, trains on what is effective in it, however little"
    ),
    "dynamic": Arm(
        "uniform", True, True,
        "dynamic sampling (DAPO): full rounds until enough groups are effective; the others are thrown away",
    ),
    "greso": Arm(
        "greso", True, False,
        "the service first skips prompts that it predicts to be wasted, and sizes later rounds by what is missing",
    ),
    "greso-1": Arm("greso", False, False, "greso without refill: one round a step, as grpo has"),
    "irt": Arm(
        "irt", True, False,
        "the service ranks the whole pool by what each prompt would teach, and sizes later rounds by what is missing",
    ),
    "irt-1": Arm("irt", False, False, "irt without refill: one round a step, as grpo has"),
    "mopps": Arm("mopps", True, False, "as irt, ranked by MoPPS: a Beta posterior, Thompson sampling near 1/2"),
    "p_mixed": Arm("p_mixed", True, False, "as irt, ranked by the Beta posterior's chance of an effective group"),
    "band": Arm("band", True, False, "as greso, but skips prompts whose pass rate lies outside of a band"),
    "adaptive": Arm(
        "uniform", True, False, "half of greso: rounds sized by what is missing, but nothing is skipped"
    ),
}  # fmt: skip


def arms_help() -> str:
    """Return one line an arm, for `--help`."""
    return "\n".join(f"  {name:<9} {arm.help}" for name, arm in ARMS.items())
