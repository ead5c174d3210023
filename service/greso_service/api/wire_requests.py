"""The shapes of requests on the wire: they are validated with them. Those of answers: `wire`."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, NotRequired

from pydantic import (
    BaseModel,
    ConfigDict,
    FailFast,
    Field,
    FiniteFloat,
    PlainSerializer,
    SkipValidation,
    ValidatorFunctionWrapHandler,
    WithJsonSchema,
    WrapValidator,
    create_model,
)
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict

from greso_service.core import spec
from greso_service.core.limits import LARGEST_STEP, RUN_NAME

_STRICT = ConfigDict(extra="forbid", strict=True)

MOST_SECONDS: Final = 1e9
"""Of one report, some 30 years: sums of them stay finite."""

Step = Annotated[int, Field(ge=0, le=LARGEST_STEP, description="optimiser step of the trainer")]


# Lists end at their first wrong item: a complaint about each of a million would cost minutes.
# An id's length is looked at later, for all at once; the description says it in characters, which it can't in bytes.
_ID: Final = {"type": "string", "minLength": 1, "maxLength": 256}
Prompts = Annotated[list[str], FailFast(), WithJsonSchema({"type": "array", "items": _ID})]
PromptId = Annotated[str, WithJsonSchema(_ID)]
Rewards = Annotated[list[FiniteFloat], FailFast()]


class _Request(BaseModel):
    model_config = _STRICT


def _or_words(number: Any, param: spec.Param) -> Any:
    """A number or one of the field's words: not a union, whose complaints point at members that no body has."""
    expected = " or ".join(["a number", *(f'"{word}"' for word in param.words)])

    def judged(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        if value in param.words:
            return value
        if isinstance(value, str):
            raise PydanticCustomError("number_or_word", "Input should be {expected}", {"expected": expected})
        return handler(value)

    words = [{"type": "string", "const": word} for word in param.words]
    schema = {"anyOf": [{"type": "number", "minimum": param.low, "maximum": param.high}, *words]}
    as_it_is = PlainSerializer(lambda value: value)  # or the serializer would miss a number
    return Annotated[number, WrapValidator(judged), as_it_is, WithJsonSchema(schema)]


def _described(param: spec.Param) -> str:
    return f"{param.help} (default from: {param.source})"


DomainName = Annotated[str, Field(pattern=spec.DOMAIN_NAME)]


def _share(name: str) -> Any:
    return Field(ge=0, le=1, description=spec.DOMAIN_FIELDS[name])


class DomainSpec(TypedDict):
    """What differs in a domain."""

    __pydantic_config__ = _STRICT  # type: ignore[misc]
    target_zero_variance: NotRequired[Annotated[FiniteFloat, _share("target_zero_variance")]]
    easy_share: NotRequired[Annotated[FiniteFloat, _share("easy_share")]]
    quota: NotRequired[Annotated[FiniteFloat, _share("quota")]]


def _spec_fields() -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name, (field, param) in spec.params().items():
        kind: Any = {"int": int, "str": str, "bool": bool}.get(str(field.type), FiniteFloat)
        if name == "domains":
            fields[name] = (dict[DomainName, DomainSpec], Field(default={}, description=_described(param)))
            continue
        if param.choices:
            kind = Literal[param.choices]
        elif isinstance(field.default, tuple):
            kind = tuple[kind, kind]
        elif kind is bool:
            pass
        else:
            kind = Annotated[kind, Field(ge=param.low, le=param.high)]
        if param.words:
            kind = _or_words(kind, param)
        if field.default is None:
            kind = kind | None
        fields[name] = (kind, Field(default=field.default, description=_described(param)))
    return fields


RunSpec = create_model("RunSpec", __base__=_Request, __doc__="Parameters of a run; all optional.", **_spec_fields())
RunChanges = create_model(
    "RunChanges",
    __base__=_Request,
    __doc__="Tunables to change in a live run; those fixed at creation are refused.",
    **_spec_fields(),
)


class SelectRequest(_Request):
    """Which of these candidates to roll out?"""

    step: Step
    prompts: Prompts = Field(description="ids of the candidates, 1 to 256 UTF-8 bytes each")
    limit: int | None = Field(
        None,
        ge=0,
        description="keep so many at most: a filter judges in order until it has them, a ranking takes the best of all",
    )
    at_least: int = Field(0, ge=0, description="keep so many, filling up with the skipped that came closest")
    explain: bool = Field(False, description="say why, for each examined candidate")


class DrawRequest(_Request):
    """Which prompts of the pool to roll out next?"""

    step: Step
    count: int | None = Field(None, ge=0, description="prompts wanted; the current rollout batch size if left out")


class PoolPrompt(TypedDict):
    """A prompt that joins the pool, and what is known of it beforehand."""

    __pydantic_config__ = _STRICT  # type: ignore[misc]
    prompt: PromptId
    pass_rate: NotRequired[
        Annotated[FiniteFloat, Field(ge=0, le=1, description="share of responses of the model as it is now that pass")]
    ]
    samples: NotRequired[
        Annotated[
            int,
            Field(ge=1, le=65_535, description="responses that it was measured on; the run's group_size if left out"),
        ]
    ]
    domain: NotRequired[
        Annotated[str, Field(pattern=spec.DOMAIN_NAME, description="part of the pool that it is of, for good")]
    ]


class PoolRequest(_Request):
    """Prompts that join the pool: `prompts`, or all that another run has, or these with what it knows of them."""

    # Read in two goes, as ids mostly stand alone: a union for each of a million would cost most of a second more.
    prompts: list[SkipValidation[PromptId | PoolPrompt]] = Field(
        [], description="ids, 1 to 256 UTF-8 bytes each, or objects; all that `from_run` has if left out"
    )
    from_run: str = Field(
        "", pattern=RUN_NAME, description="another run, from which what it has learnt of the prompts is carried over"
    )


class ReportedGroup(TypedDict):
    """One prompt's group: a reward for each response really generated."""

    __pydantic_config__ = _STRICT  # type: ignore[misc]
    prompt: PromptId
    rewards: Rewards


class SecondsSpent(TypedDict):
    """What the trainer spent: on the rollouts of this report, and on updates since the report before."""

    __pydantic_config__ = _STRICT  # type: ignore[misc]
    rollout: NotRequired[Annotated[FiniteFloat, Field(ge=0, le=MOST_SECONDS)]]
    update: NotRequired[Annotated[FiniteFloat, Field(ge=0, le=MOST_SECONDS)]]


class ReportRequest(_Request):
    """What rollouts of a step earned."""

    step: Step
    results: Annotated[list[ReportedGroup], FailFast()]
    final: bool = Field(False, description="the step ends with this report, however many effective groups it has")
    seconds: SecondsSpent | None = Field(None, description="shown; nothing is decided by them")


class RewindRequest(_Request):
    """Go back to this step."""

    step: Step


class ForkRequest(_Request):
    """Begin a new run."""

    run: Annotated[str, Field(pattern=RUN_NAME, description="name of the new run")]
    step: Step | None = Field(None, description="begin as when this step completed; as it is now if left out")
