"""The command line. Commands import what they need when they run, so that `greso --help` is quick."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from greso_service.cli.histories import export, import_, replay, tail
from greso_service.cli.keys import keys
from greso_service.cli.options import settings_options
from greso_service.cli.where import DEFAULT_URL, ApiKeyFile, AsJson, Url
from greso_service.errors import GresoError
from greso_service.settings import load

app = typer.Typer(
    name="greso",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)


def run() -> None:
    """Run the command line; an error of ours becomes one line and exit code 1."""
    try:
        app(prog_name="greso")
    except GresoError as error:
        print(f"greso: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(1)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version  # noqa: PLC0415

        typer.echo(f"greso {version('greso')}")
        raise typer.Exit


@app.callback()
def greso(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Decides, before the expensive rollout, which prompts are worth rolling out in GRPO-like RL training.

    \b
    Examples:
      greso serve                 run the service at http://127.0.0.1:8080 with a Redis of its own
      greso demo                  train a small model twice and see how many rollouts the service saves
      greso replay log.jsonl      what a training of yours would have saved, from its log
      greso runs                  the runs of a running service
      greso check                 is everything set up well?
    """  # \b keeps the lines apart in --help


@app.command()
@settings_options
def serve(**given: str | None) -> None:
    """Run the service until Ctrl-C or SIGTERM.

    Without --redis-url it starts a Redis of its own, which keeps every run in the data directory.
    Every option can be given as an environment variable too; the option wins.

    \b
    Examples:
      greso serve
      greso serve --port 0 --data-dir /tmp/try      any free port, data elsewhere
      greso serve --redis-url redis://:secret@redis.internal:6379/0
      greso serve --host 0.0.0.0 --keys-file keys.json --tls-cert cert.pem --tls-key key.pem
      GRESO_LOG_FORMAT=json greso serve
    """
    settings = load({name: value for name, value in given.items() if value is not None})
    from greso_service.cli.serving import serve  # noqa: PLC0415

    serve(settings)


@app.command()
@settings_options
def check(
    *,
    strict: Annotated[bool, typer.Option("--strict", help="Take warnings for errors, as before a deploy.")] = False,
    **given: str | None,
) -> None:
    """Look at the settings, the keys, the certificate and Redis, and say what to fix.

    Takes the options of `greso serve`. Without --redis-url it tries out the embedded Redis, or looks at the one of the
    service that runs on the data directory. The exit code is 1 when something must be fixed; with --strict also when
    something should be.

    \b
    Examples:
      greso check
      greso check --redis-url redis://redis.internal:6379 --durability replicas:1 --strict
    """
    from greso_service.cli.checking import check  # noqa: PLC0415

    settings = load({name: value for name, value in given.items() if value is not None})
    raise typer.Exit(check(settings, strict=strict))


@app.command(add_help_option=False, context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
def demo(context: typer.Context) -> None:
    """Train a small model on this CPU and see how many rollouts the service saves.

    Needs the trainer's packages (pip install '.[trainer]' in the checkout); `greso demo --help` lists its options.

    \b
    Examples:
      greso demo
      greso demo --help
    """
    try:
        from greso_client.trainer.demo import main  # noqa: PLC0415

        raise typer.Exit(main(context.args))
    except ModuleNotFoundError as error:
        raise _without_trainer("the demo", error) from None


@app.command(
    "bench-rl", add_help_option=False, context_settings={"ignore_unknown_options": True, "allow_extra_args": True}
)
def bench_rl(context: typer.Context) -> None:
    """Train with and without the service, several seeds each, and say what it saves.

    Needs the trainer's packages (pip install '.[trainer]' in the checkout); `greso bench-rl --help` lists its options.

    \b
    Examples:
      greso bench-rl --jobs 2
      greso bench-rl --help
    """
    try:
        from greso_client.trainer.compare.command import main  # noqa: PLC0415

        raise typer.Exit(main(context.args))
    except ModuleNotFoundError as error:
        raise _without_trainer("bench-rl", error) from None


@app.command(add_help_option=False, context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
def train(context: typer.Context) -> None:
    """Train a language model with GRPO on problems with checkable answers, with this service.

    Needs the trainer's packages (pip install '.[trainer]' in the checkout); `greso train --help` lists its options.

    \b
    Examples:
      greso train
      greso train --model Qwen/Qwen2.5-Math-1.5B --data gsm8k.jsonl --run gsm8k-1
      greso train --help
    """
    try:
        from greso_client.trainer.__main__ import main  # noqa: PLC0415

        raise typer.Exit(main(context.args))
    except ModuleNotFoundError as error:
        raise _without_trainer("the trainer", error) from None


def _without_trainer(what: str, error: ModuleNotFoundError) -> GresoError:
    """Return what to say when a package of the trainer is missing; raise the error when it is one of our own."""
    package = (error.name or "greso_client").partition(".")[0]
    if package in {"greso_service", "greso_client"}:
        raise error
    return GresoError(f"{what} needs {package}, which is not installed; run in the checkout: pip install '.[trainer]'")


@app.command()
def runs(
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="How many runs to list.")] = 20,
    url: Url = DEFAULT_URL,
    api_key_file: ApiKeyFile = None,
    as_json: AsJson = False,
) -> None:
    """List the runs, newest activity first.

    \b
    Examples:
      greso runs
      greso runs --url http://trainer-host:8080 --json
    """
    from greso_service.cli.looking import show_runs  # noqa: PLC0415
    from greso_service.cli.service import Service  # noqa: PLC0415

    with Service(url, key_file=api_key_file) as service:
        show_runs(service, limit, as_json)


@app.command()
def show(  # noqa: PLR0917  # the command line names its options
    run: Annotated[str, typer.Argument(help="Name of the run.", show_default=False)],
    prompt: Annotated[str | None, typer.Option("--prompt", help="Show this prompt's history instead.")] = None,
    steps: Annotated[int, typer.Option("--steps", min=0, max=999, help="How many of the latest steps to show.")] = 10,
    url: Url = DEFAULT_URL,
    api_key_file: ApiKeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Show a run and its latest steps, or one prompt's history.

    \b
    Examples:
      greso show my-run
      greso show my-run --steps 50
      greso show my-run --prompt dapo/17
    """
    from greso_service.cli.looking import show_prompt, show_run  # noqa: PLC0415
    from greso_service.cli.service import Service  # noqa: PLC0415

    with Service(url, key_file=api_key_file) as service:
        if prompt is None:
            show_run(service, run, steps, as_json)
        else:
            show_prompt(service, run, prompt, as_json)


@app.command()
def top(
    run: Annotated[
        str | None, typer.Argument(help="Show this run alone, with what to change.", show_default=False)
    ] = None,
    every: Annotated[float, typer.Option("--every", min=0.2, max=3600, help="Seconds between looks.")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Print once and end, as in a pipe.")] = False,
    url: Url = DEFAULT_URL,
    api_key_file: ApiKeyFile = None,
) -> None:
    """Watch the runs live: who saves how much, and what is off. Leave with q or Ctrl-C.

    Goes on trying while the service is away. Without a terminal it prints once.

    \b
    Examples:
      greso top
      greso top my-run
      greso top --every 10 --url http://trainer-host:8080
      greso top my-run --once
    """
    from greso_service.cli.service import Service  # noqa: PLC0415
    from greso_service.cli.top import top  # noqa: PLC0415

    with Service(url, key_file=api_key_file) as service:
        top(service, run, every, once=once)


@app.command()
def rewind(
    run: Annotated[str, typer.Argument(help="Name of the run.", show_default=False)],
    step: Annotated[int, typer.Argument(min=0, help="A completed step: that of the checkpoint.", show_default=False)],
    url: Url = DEFAULT_URL,
    api_key_file: ApiKeyFile = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Take a run back to a completed step, for a trainer that resumes from its checkpoint.

    All that came after the step is forgotten, and the run's generation goes up by one: a trainer that was thought dead
    and still carries the older one is refused. The reference trainer does this by itself.

    \b
    Examples:
      greso rewind my-run 400
      greso rewind my-run 400 --yes
    """
    from greso_service.cli import time_travel  # noqa: PLC0415
    from greso_service.cli.service import Service  # noqa: PLC0415

    with Service(url, key_file=api_key_file) as service:
        time_travel.rewind(service, run, step, yes=yes)


@app.command()
def fork(
    run: Annotated[str, typer.Argument(help="Name of the run.", show_default=False)],
    new: Annotated[str, typer.Argument(help="Name of the new run.", show_default=False)],
    step: Annotated[int | None, typer.Option("--step", min=0, help="Begin where this step completed.")] = None,
    url: Url = DEFAULT_URL,
    api_key_file: ApiKeyFile = None,
) -> None:
    """Begin a new run with the history of another, whole or up to a completed step.

    \b
    Examples:
      greso fork my-run my-run-b
      greso fork my-run warm --step 400
    """
    from greso_service.cli import time_travel  # noqa: PLC0415
    from greso_service.cli.service import Service  # noqa: PLC0415

    with Service(url, key_file=api_key_file) as service:
        time_travel.fork(service, run, new, step)


@app.command()
def delete(
    run: Annotated[str, typer.Argument(help="Name of the run.", show_default=False)],
    url: Url = DEFAULT_URL,
    api_key_file: ApiKeyFile = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete a run with all that is known of it. There is no way back but from an export made before.

    \b
    Examples:
      greso export my-run -o my-run.ndjson.gz && greso delete my-run
      greso delete my-run --yes
    """
    from greso_service.cli.deleting import delete  # noqa: PLC0415
    from greso_service.cli.service import Service  # noqa: PLC0415

    with Service(url, key_file=api_key_file) as service:
        delete(service, run, yes=yes)


app.add_typer(keys)
app.command()(tail)
app.command()(export)
app.command("import")(import_)
app.command()(replay)


@app.command()
def openapi() -> None:
    """Print the OpenAPI description of the HTTP API.

    Needs no Redis.

    \b
    Examples:
      greso openapi > openapi.json
    """
    import json  # noqa: PLC0415

    from greso_service.api.app import create_app  # noqa: PLC0415
    from greso_service.history.memory import MemoryHistory  # noqa: PLC0415

    settings = load().model_copy(update={"keys_file": None})  # keys change nothing of it
    typer.echo(json.dumps(create_app(settings, MemoryHistory()).openapi(), indent=2))
