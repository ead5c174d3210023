"""The commands about a training's history, `export`, `import`, `tail` and `replay`.

They import what they need when they run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from greso_service.cli.where import DEFAULT_URL, ApiKeyFile, Url


def export(
    run: Annotated[str, typer.Argument(help="Name of the run.", show_default=False)],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write it here; compressed if the name ends with .gz."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", "-f", help="Replace the file if it is there.")] = False,
    url: Url = DEFAULT_URL,
    api_key_file: ApiKeyFile = None,
) -> None:
    """Write a run's whole history to a file, or to standard output.

    It is as the run is now; what is written meanwhile is not in it. The last line proves that it is whole. The file is
    there when it is whole, not before; one that is there is only replaced with --force.

    \b
    Examples:
      greso export my-run -o my-run.ndjson.gz
      greso export my-run | greso replay -
    """
    from greso_service.cli.exporting import export  # noqa: PLC0415
    from greso_service.cli.service import Service  # noqa: PLC0415

    with Service(url, key_file=api_key_file) as service:
        export(service, run, output, force=force)


def import_(
    file: Annotated[
        str,
        typer.Argument(metavar="FILE", help="An export, compressed or not; - for standard input.", show_default=False),
    ],
    run: Annotated[
        str | None, typer.Argument(help="Name of the run. Default: that of the exported run.", show_default=False)
    ] = None,
    url: Url = DEFAULT_URL,
    api_key_file: ApiKeyFile = None,
) -> None:
    """Make a run of an export, with its whole history.

    It goes on exactly where the exported run was. All of the file is taken or, if anything in it is off, nothing: then
    the line is named. A run that exists is left as it is; if it has this very history, that is said.

    \b
    Examples:
      greso import my-run.ndjson.gz
      greso import my-run.ndjson.gz my-run-again
      greso export my-run --url http://old:8080 | greso import - --url http://new:8080
    """
    from greso_service.cli.importing import import_  # noqa: PLC0415
    from greso_service.cli.service import Service  # noqa: PLC0415

    with Service(url, key_file=api_key_file) as service:
        import_(service, file, run)


def tail(  # noqa: PLR0917  # the command line names its options
    run: Annotated[str, typer.Argument(help="Name of the run.", show_default=False)],
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="Begin with so many of the last events.")] = 10,
    after: Annotated[
        str | None,
        typer.Option(
            "--after", metavar="ID", help="Begin behind this event instead, by its id or number; 0: with all."
        ),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow/--no-follow", help="Go on with what is written, or end with what there is.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object a line, with the id.")] = False,
    url: Url = DEFAULT_URL,
    api_key_file: ApiKeyFile = None,
) -> None:
    """Watch what happens to a run: selections, reports, changes, rewinds, whoever makes them. Leave with Ctrl-C.

    While the service is away it waits, and goes on behind the last event that it has shown; or, when those behind it
    were trimmed meanwhile (--keep-steps of the service), with the oldest that is there, and says which are missing.
    In a report, mixed groups are those with rewards that are not all the same.

    \b
    Examples:
      greso tail my-run
      greso tail my-run -n 100 --no-follow
      greso tail my-run --json | jq 'select(.event == "rewound")'
      greso tail my-run --after 120-2903487166
    """
    from greso_service.cli.service import Service  # noqa: PLC0415
    from greso_service.cli.tailing import tail  # noqa: PLC0415

    with Service(url, key_file=api_key_file) as service:
        tail(service, run, after, lines, follow=follow, as_json=as_json)


def replay(  # noqa: PLR0917  # the command line names its options
    logs: Annotated[
        list[str],
        typer.Argument(metavar="LOG", help="Files, folders with *.jsonl, or - for standard input.", show_default=False),
    ],
    policies: Annotated[
        list[str] | None,
        typer.Option("--policy", metavar="NAME", help="Policy to replay; repeat it for more. Default: all."),
    ] = None,
    sets: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="FIELD=VALUE", help="Parameter of the run, for all policies; repeat it for more."
        ),
    ] = None,
    keep: Annotated[
        float | None,
        typer.Option(
            "--keep", min=0, max=1, help="Share that rankings keep of each step. Default: as many as greso keeps."
        ),
    ] = None,
    group_size: Annotated[
        int | None,
        typer.Option("--group-size", min=1, max=65_535, help="Responses per prompt. Default: what most groups have."),
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Seed of the policies' draws.")] = None,
    step_field: Annotated[str | None, typer.Option("--step-field", metavar="NAME", help="Field with the step.")] = None,
    prompt_field: Annotated[
        str | None,
        typer.Option("--prompt-field", metavar="NAME", help="Field that tells prompts apart, the same in each epoch."),
    ] = None,
    reward_field: Annotated[
        str | None,
        typer.Option("--reward-field", metavar="NAME", help="Field with a response's reward, or a group's as a list."),
    ] = None,
    sort: Annotated[bool, typer.Option("--sort", help="Steps stand in any order.")] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Write replay.png, .txt, .csv and .json to this folder, too."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """What if: replay a training's log under other policies, without a service.

    Says for each policy what it would have skipped, how many rollouts that saves, and how many of the groups that
    train it would have lost; and how well the models behind the policies foretell pass rates.

    A log is JSON Lines, plain or gzip: a line for each group, {"step": 3, "prompt": "q17", "rewards": [1, 0, 0]}, or
    one for each response, {"step": 3, "prompt": "q17", "reward": 1}, where the lines of a step with the same prompt
    make a group. Other fields are ignored, and other common names of these are known; a dot in a name leads into an
    object. Or it is the export of a run.

    A policy may carry parameters of its own, as in greso:target_zero_variance=0.1,easy_share=0.5; a list is written
    as in band:pass_rate_band=[0.2,0.8].

    \b
    Examples:
      greso replay rollouts.jsonl
      greso replay rollouts/ --prompt-field extra_info.index --reward-field acc
      greso replay log.jsonl.gz --policy greso --policy greso:target_zero_variance=0.1 --out what-if
      greso replay log.jsonl --policy irt --policy mopps --keep 0.5 --set group_size=16
      greso replay log.jsonl --policy greso --policy 'band:pass_rate_band=[0.2,0.8]'
      greso export my-run | greso replay - --json
    """
    from greso_service.cli.replaying import Asked, replay  # noqa: PLC0415
    from greso_service.whatif.plain import Fields  # noqa: PLC0415

    fixed = {"group_size": group_size, "seed": seed}
    replay(
        logs,
        Fields(step_field, prompt_field, reward_field),
        Asked(policies or [], sets or [], {name: value for name, value in fixed.items() if value is not None}),
        keep=keep,
        sort=sort,
        out=out,
        as_json=as_json,
    )
