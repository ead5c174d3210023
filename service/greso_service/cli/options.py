"""The options of `greso serve`, made from the table of settings so that the two can't differ."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin

import typer

from greso_service.settings import Settings, allowed, default_text, option, options, variable

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic.fields import FieldInfo


def settings_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command that takes `**given` one option for each setting behind its own; those not used arrive as None.

    The values arrive as text, so that a wrong one is refused by `settings.load` in the same words as a variable's.
    """
    own = [
        parameter
        for parameter in inspect.signature(command, eval_str=True).parameters.values()
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD
    ]
    parameters = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_annotation(name, field))
        for name, field in Settings.model_fields.items()
    ]
    parameters = [*own, *parameters]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


def _annotation(name: str, field: FieldInfo) -> Any:
    help_text = f"{field.description} [{variable(name)}; {allowed(field)}; default: {default_text(field)}]"
    if field.annotation is bool:
        flags = f"{option(name)}/{option('no_' + name)}"
        return Annotated[bool | None, typer.Option(flags, help=help_text, show_default=False)]
    if get_origin(field.annotation) is Literal:
        metavar = "|".join(get_args(field.annotation))
    else:
        metavar = "NUMBER" if field.annotation in {int, float, int | None} else name.rpartition("_")[2].upper()
    return Annotated[str | None, typer.Option(*options(name), help=help_text, metavar=metavar, show_default=False)]
