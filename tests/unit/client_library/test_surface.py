"""The public surface: what it is made of, and that it says so consistently."""

from __future__ import annotations

import dataclasses
import inspect
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest

import greso_client
from greso_client import AsyncClient, Client, GresoError, Problem, ProblemDetail, RefusedError, UnavailableError
from greso_client import _errors as errors

ERRORS = sorted(
    (value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, GresoError)),
    key=lambda kind: kind.__name__,
)
VALUES = [value for value in map(greso_client.__dict__.get, greso_client.__all__) if dataclasses.is_dataclass(value)]
CALLS = {name: value for name, value in vars(Client).items() if not name.startswith("_")}
METHODS = [name for name, value in CALLS.items() if not isinstance(value, property)]
PROPERTIES = [name for name in CALLS if name not in METHODS]
IMPORT_ALONE = """
import sys
allowed = set(sys.stdlib_module_names) | {"greso_client", "httpx", "httpcore", "h11", "anyio", "idna", "certifi",
                                          "sniffio", "typing_extensions"}
class Refuse:
    def find_spec(self, name, path=None, target=None):
        root = name.partition(".")[0]
        if root not in allowed and not root.startswith(("_", "__editable__")):
            raise ImportError("blocked: " + name)
sys.meta_path.insert(0, Refuse())
import greso_client
greso_client.Client(run="alone", spool=False).close()
print(sorted({name.partition(".")[0] for name in sys.modules} & {"numpy", "torch", "pydantic", "orjson"}))
"""


def test_all_is_sorted_and_is_what_is_public() -> None:
    public = {name for name in vars(greso_client) if not name.startswith("_") and name != "trainer"} | {"__version__"}
    modules = {name for name in public if inspect.ismodule(getattr(greso_client, name))}
    assert greso_client.__all__ == sorted(greso_client.__all__)
    assert set(greso_client.__all__) == public - modules


def test_the_package_and_a_client_need_nothing_but_httpx_and_the_standard_library() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORT_ALONE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[]\n"


def test_own_modules_import_only_httpx_the_standard_library_and_each_other() -> None:
    folder = Path(greso_client.__file__).parent
    for path in folder.glob("*.py"):
        roots = re.findall(r"^(?:from|import) (\w+)", path.read_text(), re.MULTILINE)
        assert set(roots) <= set(sys.stdlib_module_names) | {"greso_client", "httpx"}, path.name


@pytest.mark.parametrize("name", METHODS)
def test_both_clients_have_the_same_calls_with_the_same_arguments(name: str) -> None:
    blocking, awaited = inspect.signature(getattr(Client, name)), inspect.signature(getattr(AsyncClient, name))
    for one, other in zip(blocking.parameters.values(), awaited.parameters.values(), strict=True):
        assert (one.name, one.default, one.kind) == (other.name, other.default, other.kind)
    assert blocking.return_annotation == awaited.return_annotation


@pytest.mark.parametrize("name", PROPERTIES)
def test_both_clients_show_the_same(name: str) -> None:
    blocking, awaited = vars(Client)[name], vars(AsyncClient)[name]
    assert inspect.signature(blocking.fget) == inspect.signature(awaited.fget)


def test_both_clients_have_no_call_that_the_other_has_not() -> None:
    assert set(CALLS) == {name for name in vars(AsyncClient) if not name.startswith("_")}
    assert {"counters", "generation"} == set(PROPERTIES)


def test_both_clients_are_set_up_with_the_same_arguments() -> None:
    blocking, awaited = inspect.signature(Client), inspect.signature(AsyncClient)
    assert [(p.name, p.default) for p in blocking.parameters.values()] == [
        (p.name, p.default) for p in awaited.parameters.values()
    ]


@pytest.mark.parametrize("value", VALUES)
def test_values_are_frozen_and_slotted(value: type) -> None:
    assert value.__dataclass_params__.frozen  # type: ignore[attr-defined]
    assert "__slots__" in vars(value)


def test_the_tree_in_the_docstring_is_the_tree_of_classes() -> None:
    assert errors.__doc__ is not None
    parents: list[str] = []
    for line in errors.__doc__.split("::")[1].split("\n\nEach")[0].strip().splitlines():
        drawn = re.match(r"([ │├└─]*)(\w+)(?: \((\w+)\))?", line)
        assert drawn is not None
        depth = len(drawn[1]) // 4 - 1 if "─" in drawn[1] else 0  # the whole drawing is indented by 4
        kind = getattr(errors, drawn[2])
        del parents[depth:]
        if parents:
            assert parents[-1] in [base.__name__ for base in kind.__bases__], line
        if drawn[3]:
            assert drawn[3] in [base.__name__ for base in kind.__bases__], line
        parents.append(drawn[2])
    drawn_names = set(re.findall(r"\w+Error(?= |\n)", errors.__doc__.split("Each")[0]))
    assert {kind.__name__ for kind in ERRORS} <= drawn_names


@pytest.mark.parametrize("kind", ERRORS)
def test_errors_survive_pickling(kind: type[GresoError]) -> None:
    problem = Problem(422, "Wrong", "details", errors=(ProblemDetail("/step", "negative"),))
    error = kind(problem) if issubclass(kind, RefusedError) else kind("a message")
    error.__dict__["more"] = 3
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert str(again) == str(error)
    assert again.__dict__ == error.__dict__


def test_an_unavailable_error_keeps_what_the_service_asked_for_when_pickled() -> None:
    again = pickle.loads(pickle.dumps(UnavailableError("busy", status=503, retry_after=3.0)))
    assert (again.status, again.retry_after, again.transient) == (503, 3.0, True)


def test_a_refusal_shows_places_details_and_the_request_id() -> None:
    problem = Problem(
        422, "Invalid request", "2 fields are wrong", instance="req-7",
        errors=(ProblemDetail("/results/3/rewards/1", "not finite"), ProblemDetail("", "too long")),
    )  # fmt: skip
    text = str(errors.refusal(problem))
    for part in ("422", "2 fields are wrong", "/results/3/rewards/1: not finite", "(body): too long", "req-7"):
        assert part in text


@pytest.mark.parametrize(
    ("status", "standard"), [(422, ValueError), (401, PermissionError), (403, PermissionError), (404, LookupError)]
)
def test_refusals_are_the_standard_errors_they_resemble(status: int, standard: type[Exception]) -> None:
    assert isinstance(errors.refusal(Problem(status, "x")), standard)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"url": "localhost:8080"}, "http://"),
        ({"url": "ftp://host"}, "http://"),
        ({"run": "-x"}, "must match"),
        ({"run": "a/b"}, "must match"),
        ({"run": "x" * 129}, "must match"),
        ({"budget": 0.0}, "budget"),
        ({"budget": float("nan")}, "budget"),
        ({"budget": float("inf")}, "budget inf must be more than 0 and at most 86400 seconds"),
        ({"budget": 86_401.0}, "budget"),
        ({"budget": 1e300}, "budget"),
        ({"api_key": "secret\n"}, "line end"),
        ({"spool_bytes": 0}, "spool_bytes"),
    ],
)
def test_arguments_that_cannot_work_are_refused_at_construction(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Client(**({"run": "r"} | arguments))  # type: ignore[arg-type]
