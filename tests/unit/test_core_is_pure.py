"""The core decides from what it is given alone: no clock, no randomness, no input or output, no other package."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

import greso_service.core

FOLDER = Path(greso_service.core.__file__).parent
ALLOWED = {
    "__future__", "collections", "dataclasses", "enum", "functools", "itertools", "math", "mmap", "numpy", "operator",
    "re", "statistics", "typing", "weakref", "zlib",
}  # fmt: skip
BARRED_NAMES = {"open", "print", "input", "eval", "exec", "compile", "__import__", "breakpoint", "hash", "id"}
BARRED_ATTRIBUTES = {"random", "datetime64", "fromfile", "tofile", "load", "save", "savez", "memmap", "loadtxt"}


def test_the_allowed_modules_are_standard_or_numpy() -> None:
    assert ALLOWED - {"numpy"} <= sys.stdlib_module_names


@pytest.mark.parametrize("path", sorted(FOLDER.glob("**/*.py")), ids=lambda path: path.stem)
def test_imports_and_calls(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Import(names=names):
                imported = [name.name for name in names]
            case ast.ImportFrom(module=module, level=level):
                assert level == 0, f"{path.name}:{node.lineno} imports relatively"
                imported = [module or ""]
            case ast.Name(id=name):
                assert name not in BARRED_NAMES, f"{path.name}:{node.lineno} uses {name}"
                continue
            case ast.Attribute(attr=name):
                assert name not in BARRED_ATTRIBUTES, f"{path.name}:{node.lineno} uses .{name}"
                continue
            case ast.Global():
                raise AssertionError(f"{path.name}:{node.lineno} changes a global")
            case _:
                continue
        for name in imported:
            own = name == "greso_service.core" or name.startswith("greso_service.core.")
            assert own or name.partition(".")[0] in ALLOWED, f"{path.name}:{node.lineno} imports {name}"
