"""The cell tagged `parameters` of a notebook: read without running it, and what is passed in checked against it."""

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lib.core.errors import InputError

SCALARS: dict[str, type] = {"int": int, "float": float, "str": str, "bool": bool}
ALLOWED = "`name: type = literal` with type int, float, str, bool or list[...] of these"


@dataclass(frozen=True)
class Parameter:
    """One line of the cell: its name, its type and its default."""

    name: str
    kind: Any
    default: Any

    @property
    def kind_name(self) -> str:
        return self.kind.__name__ if isinstance(self.kind, type) else str(self.kind)


def read_parameters(notebook: Mapping[str, Any], name: str) -> list[Parameter]:
    """The parameters that notebook `name` (its JSON as a mapping) declares.

    InputError names notebook and line unless there is exactly one code cell with the tag `parameters`, before any other
    code cell, and every statement in it is an annotated literal.
    """
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    tagged = [cell for cell in code if "parameters" in cell.get("metadata", {}).get("tags", [])]
    if len(tagged) != 1 or tagged[0] is not code[0]:
        found = "another one" if tagged and len(tagged) == 1 else f"{len(tagged)} code cells with that tag"
        raise InputError(f"notebook {name}", found=found, expected="first code cell tagged `parameters`, and only it")
    source = tagged[0]["source"]
    source = source if isinstance(source, str) else "".join(source)
    try:
        body = ast.parse(source).body
    except SyntaxError as error:
        thing = f"notebook {name}, parameters, line {error.lineno}"
        raise InputError(thing, found=error.msg, expected=ALLOWED) from error
    parameters = [_read_line(node, name, source) for node in body]
    repeated = {one.name for one in parameters if sum(other.name == one.name for other in parameters) > 1}
    if repeated:
        raise InputError(f"notebook {name}, parameters", found=f"{sorted(repeated)} twice", expected="each name once")
    check_overrides(parameters, {one.name: one.default for one in parameters}, name)
    return parameters


def check_overrides(parameters: list[Parameter], overrides: Mapping[str, Any], name: str) -> dict[str, Any]:
    """`overrides` in the declared types. A whole number may stand for a float, nothing else is converted.

    InputError lists what exists for an unknown name, and what was expected for a wrong type.
    """
    from pydantic import ConfigDict, ValidationError, create_model

    fields: dict[str, Any] = {f"field_{i}": (one.kind, ...) for i, one in enumerate(parameters)}
    places = {
        one.name: f"field_{i}" for i, one in enumerate(parameters)
    }  # any name is legal, also one that pydantic owns
    unknown = [key for key in overrides if key not in places]
    if unknown:
        there = ", ".join(f"{one.name}: {one.kind_name}" for one in parameters) or "none"
        raise InputError(f"parameter `{unknown[0]}` of notebook {name}", found="no such name", expected=there)
    given = {places[key]: value for key, value in overrides.items()}
    model = create_model(
        "Parameters",
        __config__=ConfigDict(strict=True, extra="forbid", allow_inf_nan=False),
        **{field: kind for field, kind in fields.items() if field in given},
    )
    try:
        checked = model.model_validate(given).model_dump()
    except ValidationError as error:
        first = error.errors()[0]
        one = next(one for one in parameters if places[one.name] == first["loc"][0])
        found = f"{overrides[one.name]!r} ({first['msg']})"
        thing = f"parameter `{one.name}` of notebook {name}"
        raise InputError(thing, found=found, expected=f"{one.kind_name}, as in {one.default!r}") from error
    return {key: checked[places[key]] for key in overrides}


def _read_line(node: ast.stmt, name: str, source: str) -> Parameter:
    thing = f"notebook {name}, parameters, line {node.lineno}"
    text = (ast.get_source_segment(source, node) or "").split("\n")[0]
    if not (isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None):
        raise InputError(thing, found=f"`{text}`", expected=ALLOWED)
    kind = _read_type(node.annotation)
    try:
        default = ast.literal_eval(node.value)
    except (ValueError, TypeError) as error:
        raise InputError(thing, found=f"`{text}`, whose value is computed", expected=ALLOWED) from error
    if kind is None:
        raise InputError(thing, found=f"`{text}`", expected=ALLOWED)
    return Parameter(node.target.id, kind, default)


def _read_type(node: ast.expr) -> Any:
    if isinstance(node, ast.Name):
        return SCALARS.get(node.id)
    if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id == "list":
        inner = _read_type(node.slice)
        return list[inner] if inner in SCALARS.values() else None
    return None
