"""For schemathesis, which loads this as a file: makes sure that many of its requests come to something.

Of a run's fields some contradict others, which a schema can't say; a made-up generation is that of no run; and without
runs nothing could follow.
"""

from __future__ import annotations

from typing import Any, Final

import schemathesis

ALONE: Final = {
    "group_size",
    "train_batch_size",
    "seed",
    "policy",
    "streak_rule",
    "safety_factor",
    "shadow",
    "audit_share",
}
"""Fields of a run that contradict none of the others."""


@schemathesis.hook
def map_body(context: Any, body: Any) -> Any:
    """Leave such fields out of every second run that is to be made, and `at_least` out of a select with a limit."""
    label = context.operation.label if context.operation else ""
    if not isinstance(body, dict):
        return body
    if label == "PUT /v1/runs/{run}" and len(body) % 2 == 0 and set(body) - ALONE:
        return {name: value for name, value in body.items() if name in ALONE}
    if label == "POST /v1/runs/{run}/select" and "limit" in body:
        return {name: value for name, value in body.items() if name != "at_least"}
    return body


@schemathesis.hook
def map_headers(context: Any, headers: Any) -> Any:
    """Most often the generation of a run that was not rewound, if any is given."""
    given = (headers or {}).get("Greso-Generation")
    if given is None or (str(given).isdecimal() and int(given) % 8 == 7):
        return headers
    return {**headers, "Greso-Generation": "0"}


@schemathesis.hook
def map_path_parameters(context: Any, path_parameters: Any) -> Any:
    """Most often the one run that the links make."""
    run = (path_parameters or {}).get("run")
    return path_parameters if run is None or len(str(run)) % 4 == 3 else {**path_parameters, "run": "my-run"}
