"""The dashboard of all runs: who saves how much, who is stuck."""

from __future__ import annotations

from deploy.grafana import frame
from deploy.grafana import queries as q
from deploy.grafana.panels import Column, Shown, bars, by_run, lines, number
from grafana_foundation_sdk.builders import dashboard

W = q.RUNS
UPPER = "skipped prompts times `group_size`. Each walk over the pool counts again: an upper bound, not a saving"
EFFECTIVE = f'{W}, outcome="effective"'


def board() -> dashboard.Dashboard:
    """The dashboard, ready to be written."""
    made = frame.new("greso-fleet", "GRESO / Fleet", "All runs: who skips how much, who is stuck.", since="now-24h")
    made.with_variable(frame.run_variable(several=True)).with_variable(frame.window_variable())
    frame.mark_changes(made, W)
    for add in (_glance, _table, _savings, _stuck):
        add(made)
    return made


def _glance(made: dashboard.Dashboard) -> None:
    made.with_row(dashboard.Row("At a glance"))
    made.with_panel(
        number(
            "Runs",
            "Runs written to in the last hour. Beyond a hundred at a time (`--metrics-runs`) they count as `other`.",
            "short",
            Shown(f"count({q.newest('run_info', W)})", "runs"),
            span=6,
        )
    )
    made.with_panel(
        number(
            "Stuck",
            "Runs that asked for prompts in the last hour and have no effective group to show for it: no reports come, "
            "or nothing that was reported had an effect. The table says which.",
            "short",
            Shown(f"count({q.stuck(W, q.HOUR)}) or vector(0)", "stuck"),
            span=6,
            steps=((1, "red"),),
        )
    )
    made.with_panel(
        number(
            "Rollouts made",
            "Responses generated in the time shown, all runs together. What the avoided ones are measured against.",
            "short",
            Shown(q.added("rollouts", W, q.RANGE), "made"),
            span=6,
        )
    )
    made.with_panel(
        number(
            "Rollouts avoided",
            f"Share of rollouts avoided, of those avoided or made, in the time shown: {UPPER}. If it is small, see "
            "which runs skip nothing, and their own dashboards for what to turn.",
            "percentunit",
            Shown(q.avoided_share(W, q.RANGE), "avoided (upper bound)"),
            span=6,
            decimals=1,
        )
    )


def _table(made: dashboard.Dashboard) -> None:
    made.with_row(dashboard.Row("Runs"))
    made.with_panel(
        by_run(
            "Runs",
            "One row a run; click its name for its dashboard. Skipped 0 % after the first epoch: it skips nothing (see "
            "`policy`, `target_zero_variance`). Zero variance far above its target (`target_zero_variance`): it could "
            "save more. Effective per hour 0 or idle for long: it is stuck or has ended. "
            "Rollouts per effective group: what one costs; `group_size` is the least possible. The saving shows here. "
            f"Avoided: {UPPER}.",
            Column(q.newest("run_info", W, "policy"), ""),
            Column(q.newest("run_step", W), "step", "locale"),
            Column(q.newest("run_epoch", W), "epoch", "locale"),
            Column(q.steps_done(W, q.HOUR), "steps in 1 h", "locale"),
            Column(q.skip_rate(W, q.WINDOW), "skipped", "percentunit", ((0.05, "green"),), "orange"),
            Column(
                q.effective_share(W, q.WINDOW), "effective", "percentunit", ((0.3, "orange"), (0.5, "green")), "red"
            ),
            Column(f"sum by (run) ({q.newest('run_zero_variance_ratio', W, 'kind')})", "zero variance", "percentunit"),
            Column(f"sum by (run) ({q.newest('run_target_ratio', W, 'kind')})", "target", "percentunit"),
            Column(q.added("rollouts", W, q.RANGE, "run"), "rollouts", "short"),
            Column(q.added("rollouts_avoided", W, q.RANGE, "run"), "avoided (upper)", "short"),
            Column(
                f"{q.added('rollouts', W, q.RANGE, 'run')} / {q.added('groups', EFFECTIVE, q.RANGE, 'run')}",
                "rollouts per effective group",
                "short",
            ),
            Column(
                q.added("groups", EFFECTIVE, q.HOUR, "run"),
                "effective in 1 h",
                "locale",
                ((1, "green"),),
                "red",
            ),
            Column(q.idle_seconds(W), "idle", "s", ((1800, "orange"),), "green"),
        )
    )


def _savings(made: dashboard.Dashboard) -> None:
    made.with_row(dashboard.Row("Who skips how much"))
    made.with_panel(
        bars(
            "Rollouts avoided by run",
            f"Share of rollouts avoided in the time shown: {UPPER}. A run that skips little: it is in its first epoch, "
            "its pool has nothing to skip, or `target_zero_variance` is too high.",
            "percentunit",
            Shown(f"sort_desc({q.avoided_share(W, q.RANGE, 'run')})", "{{run}}"),
            most=1,
        )
    )
    made.with_panel(
        lines(
            "Skip rate by run",
            "Share of the examined candidates that were skipped. A curve that falls to 0: see that run's p and target "
            "(`exploration_bounds`, `target_zero_variance`).",
            "percentunit",
            Shown(q.skip_rate(W, q.WINDOW), "{{run}}"),
            most=1,
        )
    )


def _stuck(made: dashboard.Dashboard) -> None:
    made.with_row(dashboard.Row("Who is stuck"))
    made.with_panel(
        bars(
            "Idle",
            "Time since a run was last written to. Beyond the length of a round the trainer has stopped or waits. "
            "Ended runs leave after an hour.",
            "s",
            Shown(f"sort_desc({q.idle_seconds(W)})", "{{run}}"),
            span=8,
            steps=((1800, "orange"),),
        )
    )
    made.with_panel(
        bars(
            "Steps in the last hour",
            "How far each run's step moved. 0 while it is written to: steps don't complete; lower `train_batch_size`, "
            "or look why no group is effective.",
            "locale",
            Shown(f"sort({q.steps_done(W, q.HOUR)})", "{{run}}"),
            span=8,
        )
    )
    made.with_panel(
        lines(
            "Effective yield by run",
            "Share of the judged groups that are effective. A run near 0 learns nothing: its reward is broken, or its "
            "prompts are far too hard or too easy. Near 1 - `target_zero_variance` is right.",
            "percentunit",
            Shown(q.effective_share(W, q.WINDOW), "{{run}}"),
            span=8,
            most=1,
        )
    )
