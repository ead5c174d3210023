"""The dashboard of one run: what the filter skips, what the rest earns, and what to change."""

from __future__ import annotations

from deploy.grafana import frame
from deploy.grafana import queries as q
from deploy.grafana.panels import Shown, bars, lines, number
from grafana_foundation_sdk.builders import dashboard

W = q.ONE_RUN
EFFECTIVE = f'{W}, outcome="effective"'
STREAKS = ("1", "2", "3", "4-7", "8-15", "16+")
UPPER = (
    "skipped prompts times `group_size`, as if each would have been rolled out. Each walk over the pool counts again: "
    "an upper bound, not a saving"
)


def board() -> dashboard.Dashboard:
    """The dashboard, ready to be written."""
    made = frame.new(
        "greso-run", "GRESO / Run", "One run: does the filter save rollouts, and what to change if not.", since="now-6h"
    )
    made.with_variable(frame.run_variable(several=False)).with_variable(frame.window_variable())
    frame.mark_changes(made, W)
    for add in (_glance, _filter, _yield, _work, _prompts, _domains):
        add(made)
    return made


def _glance(made: dashboard.Dashboard) -> None:
    made.with_row(dashboard.Row("At a glance"))
    made.with_panel(
        number(
            "Rollouts avoided",
            f"Share of rollouts that were skipped, of those skipped or made, over the time shown: {UPPER}; what is "
            "saved shows in *Rollouts per effective group*. It begins at 0: in the first epoch every prompt is new. If "
            "it stays there, see *Skip rate*.",
            "percentunit",
            Shown(q.avoided_share(W, q.RANGE), "avoided (upper bound)"),
            decimals=1,
        )
    )
    made.with_panel(
        number(
            "Rollouts per effective group",
            "Responses that one effective group cost, over the time shown: what the filter is to lower. `group_size` "
            "is the least possible. The model changes meanwhile, so only a run with `policy` `uniform` beside it "
            "measures the saving.",
            "short",
            Shown(f"{q.added('rollouts', W, q.RANGE)} / {q.added('groups', EFFECTIVE, q.RANGE)}", "rollouts"),
            decimals=1,
        )
    )
    made.with_panel(
        number(
            "Effective groups",
            "Share of the newest complete step's groups whose rewards differ: what a rollout earns. Under a half, most "
            "rollouts teach nothing: lower `target_zero_variance`, or give the run easier or harder prompts.",
            "percentunit",
            Shown(q.newest("run_effective_ratio", W), "effective"),
            steps=((0.3, "orange"), (0.5, "green")),
            below="red",
            decimals=0,
        )
    )
    made.with_panel(
        number(
            "Step",
            "The newest step that was reported for. If it stands still while the run is written to, steps don't "
            "complete: `train_batch_size` asks for more effective groups than the prompts give.",
            "locale",
            Shown(q.newest("run_step", W), "step"),
            span=3,
        )
    )
    made.with_panel(
        number(
            "Epoch",
            "How often the pool was walked through (0 while it is not drawn from). Skipping begins with the second "
            "visit of a prompt.",
            "locale",
            Shown(q.newest("run_epoch", W), "epoch"),
            span=3,
        )
    )
    made.with_panel(
        number(
            "Generation",
            "How often the run was rewound. A trainer that writes with an older generation is refused.",
            "locale",
            Shown(q.newest("run_generation", W), "generation"),
            span=3,
        )
    )
    made.with_panel(
        number(
            "Last written",
            "Time since anything was written for this run. A round of rollouts may take half an hour; longer, and the "
            "trainer has probably stopped. After an hour the run's gauges end.",
            "s",
            Shown(q.idle_seconds(W), "idle"),
            span=3,
            steps=((1800, "orange"),),
        )
    )


def _filter(made: dashboard.Dashboard) -> None:
    made.with_row(dashboard.Row("The filter"))
    made.with_panel(
        lines(
            "Skip rate by kind",
            "Share of the examined candidates that were skipped as easy (solved last time) and as hard (all wrong last "
            "time). 0 is right in the first epoch. Later, 0 means that `policy` is `uniform`, that p is at its high "
            "bound (lower `target_zero_variance`), or that ids never repeat.",
            "percentunit",
            Shown(q.skip_rate(W, q.WINDOW, "kind"), "{{kind}}"),
            most=1,
            stacked=True,
        )
    )
    made.with_panel(
        lines(
            "Zero-variance ratio against target",
            "Share of the newest complete step's groups whose rewards are all equal, by kind, and the target it is "
            "steered to (dashed). Above it, p falls and more is skipped. Above it for hours with p at its low bound: "
            "widen `exploration_bounds` downwards. Far below it: lower `target_zero_variance` to skip more. "
            "`easy_share` divides the target.",
            "percentunit",
            Shown(q.newest("run_zero_variance_ratio", W, "kind"), "{{kind}}"),
            Shown(q.newest("run_target_ratio", W, "kind"), "target {{kind}}"),
        )
    )
    made.with_panel(
        lines(
            "p_easy and p_hard",
            "The base of the keep probability of prompts without effect: a streak of z groups keeps a prompt with p^z. "
            "It moves by `exploration_step` each step. At a bound (dashed) it can't steer any more: at the low one "
            "widen `exploration_bounds`, at the high one nothing is skipped, so lower `target_zero_variance`.",
            "percentunit",
            Shown(q.newest("run_exploration_probability", W, "kind"), "p_{{kind}}"),
            Shown(q.newest("run_exploration_bound", W, "bound"), "bound {{bound}}"),
            most=1,
        )
    )
    made.with_panel(
        lines(
            "Candidates",
            "Candidates a minute that were examined, and what became of them. Examined without selected: everything is "
            "skipped (raise `min_keep_probability`).",
            "short",
            Shown(f"60 * {q.rate_of('prompts_selected', W, q.WINDOW)}", "selected"),
            Shown(f"60 * {q.rate_of('prompts_skipped', W, q.WINDOW, 'kind')}", "skipped {{kind}}"),
            stacked=True,
        )
    )


def _yield(made: dashboard.Dashboard) -> None:
    made.with_row(dashboard.Row("What it earns"))
    made.with_panel(
        lines(
            "Effective yield",
            "Share of the judged groups that are effective: of the newest step, and smoothed. With the filter it "
            "should rise after the first epoch and stay near 1 - `target_zero_variance`. A fall means that the pool is "
            "used up (add prompts) or that training has gone wrong.",
            "percentunit",
            Shown(q.newest("run_effective_ratio", W), "newest step"),
            Shown(q.effective_share(W, q.WINDOW), "effective, smoothed"),
            most=1,
        )
    )
    made.with_panel(
        lines(
            "Groups by outcome",
            "Groups a minute that were reported: effective, easy (all right), hard (all wrong), undetermined (fewer "
            "than two rewards; many of them: rollouts fail). Hardly any easy or hard ones from the first step on: the "
            "reward is shaped; send the outcome reward, or set `reward_tolerance`.",
            "short",
            Shown(f"60 * {q.rate_of('groups', W, q.WINDOW, 'outcome')}", "{{outcome}}"),
            stacked=True,
        )
    )
    made.with_panel(
        lines(
            "Rollouts made and avoided",
            f"Responses a minute that were generated, and those avoided: {UPPER}. What matters is how many rollouts an "
            "effective group costs: compare with the first epoch.",
            "short",
            Shown(f"60 * {q.rate_of('rollouts', W, q.WINDOW)}", "made"),
            Shown(f"60 * {q.rate_of('rollouts_avoided', W, q.WINDOW)}", "avoided (upper bound)"),
            stacked=True,
        )
    )
    made.with_panel(
        lines(
            "Rollouts per effective group over time",
            "What one effective group costs. `group_size` is the least possible; the more of the rolled-out prompts "
            "have no effect, the higher. Lower `target_zero_variance` if it rises.",
            "short",
            Shown(f"{q.rate_of('rollouts', W, q.WINDOW)} / {q.rate_of('groups', EFFECTIVE, q.WINDOW)}", "rollouts"),
        )
    )
    made.with_panel(
        lines(
            "False-skip rate of audits",
            "Share of effective groups among those that the policy would have skipped, as easy and as hard, and that "
            "were rolled out all the same (`audit_share`, shadow mode; of a ranking what the walk brought besides), "
            "over 6 hours. Compare with *Effective yield*: as high as that, the skips lose what they save; raise "
            "`target_zero_variance` or `min_keep_probability`. The run's state tells the interval.",
            "percentunit",
            Shown(q.false_skip_rate(W, q.LONG, "kind"), "{{kind}}"),
            most=1,
        )
    )
    made.with_panel(
        lines(
            "Audited groups",
            "Groups over 6 hours that the false-skip rate is made of: with 100 of them it is known within 10 points. "
            "None: `audit_share` is 0, or nothing is skipped.",
            "locale",
            Shown(q.added("audited_groups", W, q.LONG, "kind"), "{{kind}}"),
            stacked=True,
        )
    )


def _work(made: dashboard.Dashboard) -> None:
    made.with_row(dashboard.Row("Steps and batches"))
    made.with_panel(
        lines(
            "Step and epoch",
            "Progress of the training. A step back is a rewind (marked red).",
            "locale",
            Shown(q.newest("run_step", W), "step"),
            Shown(q.newest("run_epoch", W), "epoch"),
            span=8,
        )
    )
    made.with_panel(
        lines(
            "Rounds per step",
            "Rounds of rollouts that the newest complete step took. 1 to 2 is right; more, and the trainer waits for "
            "small rounds: raise `rollout_batch_size` or `safety_factor`.",
            "short",
            Shown(q.newest("run_step_rounds", W), "rounds"),
            span=8,
            marks=((3, "orange"),),
        )
    )
    made.with_panel(
        lines(
            "Batch size",
            "Prompts of the next round, the most of a round (`rollout_batch_size`, limit) and the effective groups "
            "wanted in a step (`train_batch_size`). Within a step the next round shrinks to what is missing, times "
            "`safety_factor`, at least `min_rollout_batch_size`.",
            "short",
            Shown(q.newest("run_next_rollout_batch_size", W), "next round"),
            Shown(q.newest("run_rollout_batch_size", W), "limit of a round"),
            Shown(q.newest("run_train_batch_size", W), "wanted effective groups"),
            span=8,
        )
    )


def _prompts(made: dashboard.Dashboard) -> None:
    made.with_row(dashboard.Row("The prompts"))
    made.with_panel(
        bars(
            "Streaks",
            "Prompts by how many groups without effect they had in a row, now. Many hard ones at 16+ are never solved: "
            "take them out, or start from a better model. Many easy ones at 16+ are solved for good. If all are at 1 "
            "after epochs, outcomes alternate and there is little to skip.",
            "locale",
            *(_streak(streak) for streak in STREAKS),
            span=8,
        )
    )
    made.with_panel(
        lines(
            "Prompts by their latest group",
            "New ones have no judged group yet; effective ones are always kept; easy and hard ones are skipped with "
            "1 - p^z. When new ones don't get fewer, ids never repeat: send the same id for the same prompt.",
            "locale",
            Shown(f"sum by (kind) ({q.newest('run_prompts_by_streak', W, 'kind', 'streak')})", "{{kind}}"),
            span=8,
            stacked=True,
        )
    )
    made.with_panel(
        lines(
            "Prompts known and pooled",
            "Prompts that the run has seen or registered, and those of its pool (0: the trainer offers its own with "
            "select). A steady climb with select means ids that never repeat.",
            "locale",
            Shown(q.newest("run_prompts", W), "known"),
            Shown(q.newest("run_pool_prompts", W), "in the pool"),
            span=8,
        )
    )


def _streak(streak: str) -> Shown:
    where = f'{W}, kind=~"easy|hard", streak="{streak}"'
    return Shown(q.newest("run_prompts_by_streak", where, "kind", "streak"), "{{kind}} {{streak}}")


def _domains(made: dashboard.Dashboard) -> None:
    made.with_row(dashboard.Row("Domains"))
    made.with_panel(
        lines(
            "Effective yield by domain",
            "Share of effective groups among those of each domain in its newest complete step; empty without domains. "
            "A domain far below the others costs rollouts that teach little: give it a smaller `quota`, or a lower "
            "`target_zero_variance` of its own (`domains`).",
            "percentunit",
            Shown(q.newest("run_domain_effective_ratio", W, "domain"), "{{domain}}"),
            most=1,
        )
    )
    made.with_panel(
        lines(
            "Zero-variance ratio by domain",
            "Share of groups whose rewards are all equal among those of each domain, by kind. Each domain is steered "
            "to its own target: the run's, unless `domains` says another.",
            "percentunit",
            Shown(q.newest("run_domain_zero_variance_ratio", W, "domain", "kind"), "{{domain}}, {{kind}}"),
        )
    )
    made.with_panel(
        lines(
            "p_easy and p_hard by domain",
            "The base of the keep probability in each domain. A domain at its high bound skips nothing: it meets its "
            "target without. Lower the domain's `target_zero_variance` if it should skip more.",
            "percentunit",
            Shown(q.newest("run_domain_exploration_probability", W, "domain", "kind"), "{{domain}}, {{kind}}"),
            most=1,
        )
    )
    made.with_panel(
        lines(
            "Share of the selected prompts by domain",
            "What part of all prompts selected so far each domain had, beside its part of the pool (dashed). With a "
            "`quota` it nears it; without, the two differ by what is skipped or ranked.",
            "percentunit",
            Shown(q.share_of_all("run_domain_selected_prompts", W), "{{domain}}"),
            Shown(q.share_of_all("run_domain_pool_prompts", W), "target {{domain}}"),
            most=1,
        )
    )
