"""The hand-written stub of the native module says what the built module is."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from reverie import _core

ROOT = Path(__file__).resolve().parents[2]
STUB = (ROOT / "src" / "reverie" / "_core.pyi").read_text("utf-8")

# What a name is: "value", "class", "property", or its parameters, one string per overload.
Shape = dict[str, Any]


def stub_shape(source: str) -> Shape:
    """Every public name of the stub, members as `Class.member`."""
    shape: Shape = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.AnnAssign):
            shape[ast.unparse(node.target)] = "value"
        elif isinstance(node, ast.FunctionDef):
            _add_function(shape, node.name, node)
        elif isinstance(node, ast.ClassDef):
            shape[node.name] = "class"
            for member in node.body:
                if isinstance(member, ast.FunctionDef):
                    _add_function(shape, f"{node.name}.{member.name}", member)
    return shape


def _add_function(shape: Shape, name: str, node: ast.FunctionDef) -> None:
    if any(ast.unparse(decorator) == "property" for decorator in node.decorator_list):
        shape[name] = "property"
    else:
        shape[name] = [*shape.get(name, []), _parameters(node.args)]


def _parameters(args: ast.arguments) -> str:
    # A caller cannot use the name of a positional-only parameter: only their number counts.
    names = ["_" for _ in args.posonlyargs] + ["/"] * bool(args.posonlyargs)
    names += [arg.arg for arg in args.args]
    names += ["*"] * bool(args.kwonlyargs) + [arg.arg for arg in args.kwonlyargs]
    return ", ".join(name for name in names if name != "self")


def module_shape(module: ModuleType) -> Shape:
    """The same of the built module, from the signatures that nanobind keeps."""
    shape: Shape = {}
    for name, value in vars(module).items():
        if name.startswith("_"):
            continue
        if not isinstance(value, type):
            shape[name] = _runtime(value) if callable(value) else "value"
            continue
        shape[name] = "class"
        for member, attribute in vars(value).items():
            if not member.startswith("_") or (
                member in ("__init__", "__eq__", "__hash__") and _has_signature(attribute)
            ):
                is_property = isinstance(attribute, property)
                shape[f"{name}.{member}"] = "property" if is_property else _runtime(attribute)
    return shape


def _has_signature(function: object) -> bool:
    return hasattr(function, "__nb_signature__")


def _runtime(function: Any) -> list[str] | str:
    if not _has_signature(function):
        return "no signature"
    return [_parse(signature[0]) for signature in function.__nb_signature__]


def _parse(signature: str) -> str:
    """Parameters of a signature as nanobind writes it, a default as a backslash and number."""
    text = re.sub(r"= \\\d+", "= ...", signature)
    while re.search(r"\[[^\[\]]*\]", text):  # array types are no valid Python
        text = re.sub(r"\[[^\[\]]*\]", "", text)
    function = ast.parse(f"{text}: ...").body[0]
    assert isinstance(function, ast.FunctionDef)
    return _parameters(function.args)


def differences(stub: Shape, module: Shape) -> list[str]:
    """Names that one side lacks or that differ, as readable lines."""
    names = sorted(stub.keys() | module.keys())
    return [
        f"{name}: stub {stub.get(name, 'lacks it')}, module {module.get(name, 'lacks it')}"
        for name in names
        if stub.get(name) != module.get(name)
    ]


def test_the_stub_and_the_built_module_agree() -> None:
    assert differences(stub_shape(STUB), module_shape(_core)) == []


@pytest.mark.parametrize(
    ("old", "new", "name"),
    [
        ("def close(self)", "def shut(self)", "Store.shut"),
        ("chunk_nbytes: int", "chunk_bytes: int", "Store.__init__"),
        ("    @property\n    def size(self)", "    def size(self)", "Table.size"),
        ("UNIFORM: int", "UNIFORN: int", "UNIFORM"),
        ("class Table:", "class Tables:", "Table"),
    ],
)
def test_the_check_sees_a_planted_lie(old: str, new: str, name: str) -> None:
    lie = STUB.replace(old, new)
    assert lie != STUB
    found = differences(stub_shape(lie), module_shape(_core))
    assert name in {line.split(":")[0] for line in found}


def test_signatures_of_arrays_and_defaults_are_read() -> None:
    signature = "def f(self, x: ndarray[dtype=float64, shape=(*, 3)], *, y: int = \\0) -> None"
    assert _parse(signature) == "x, *, y"
    assert _parse("def g(self, arg0: int, arg1: object | None, /) -> int") == "_, _, _, /"
