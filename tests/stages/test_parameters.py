import re

import pytest

from lib.core.errors import InputError
from lib.stages.parameters import check_overrides, read_parameters

from .conftest import PARAMETERS, code_cell, notebook


def cells(source: str) -> dict:
    return notebook(code_cell(source, tags=["parameters"]))


def test_names_types_and_defaults_are_read_without_running() -> None:
    read = read_parameters(cells(PARAMETERS + "\nnothing: list[int] = []\nshift: float = -1"), "n")
    assert [(one.name, one.kind_name, one.default) for one in read] == [
        ("count", "int", 1),
        ("rate", "float", 0.5),
        ("name", "str", "a"),
        ("flags", "list[bool]", [True]),
        ("nothing", "list[int]", []),
        ("shift", "float", -1),
    ]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("a = 1", "`a = 1`"),
        ("a: int", "`a: int`"),
        ("a: int = 1 + b", "computed"),
        ("a: int = len('x')", "computed"),
        ("a: dict = {}", "`a: dict = {}`"),
        ("a: list = []", "`a: list = []`"),
        ("a: list[list[int]] = []", "`a: list"),
        ("a: int | None = None", "`a: int | None"),
        ("a: int = 'x'", "'x'"),
        ("a: int = True", "True"),
        ("a: float = 1e999", "inf"),
        ("import os", "`import os`"),
        ("x.a: int = 1", "`x.a: int = 1`"),
        ("a: int = (", "never closed"),
    ],
)
def test_anything_but_annotated_literals_is_refused_with_its_line(line: str, said: str) -> None:
    with pytest.raises(InputError, match=re.escape(said)) as caught:
        read_parameters(cells(f"first: int = 1\n{line}"), "start")
    assert "notebook start" in str(caught.value)
    assert "line 2" in str(caught.value) or "parameter `a`" in str(caught.value)


def test_a_name_may_stand_once_only() -> None:
    with pytest.raises(InputError, match="twice"):
        read_parameters(cells("a: int = 1\na: int = 2"), "n")


@pytest.mark.parametrize(
    "other",
    [
        notebook(code_cell("a: int = 1")),
        notebook(code_cell("x = 1"), code_cell("a: int = 1", tags=["parameters"])),
        notebook(code_cell("a: int = 1", tags=["parameters"]), code_cell("b: int = 1", tags=["parameters"])),
    ],
)
def test_the_first_code_cell_and_no_other_is_tagged(other: dict) -> None:
    with pytest.raises(InputError, match="first code cell tagged"):
        read_parameters(other, "n")


def test_a_whole_number_may_stand_for_a_float() -> None:
    checked = check_overrides(read_parameters(cells(PARAMETERS), "n"), {"rate": 2, "flags": [False, True]}, "n")
    assert checked == {"rate": 2.0, "flags": [False, True]}
    assert isinstance(checked["rate"], float)


@pytest.mark.parametrize(
    "override",
    [
        {"count": 1.0},
        {"count": "1"},
        {"count": True},
        {"rate": "0.5"},
        {"rate": True},
        {"rate": float("nan")},
        {"name": 3},
        {"flags": True},
        {"flags": [1]},
        {"flags": None},
    ],
)
def test_a_wrong_type_is_refused_with_what_was_expected(override: dict) -> None:
    name = next(iter(override))
    with pytest.raises(InputError, match=f"parameter `{name}` of notebook n: found .*; expected"):
        check_overrides(read_parameters(cells(PARAMETERS), "n"), override, "n")


def test_an_unknown_name_is_refused_with_the_names_that_exist() -> None:
    with pytest.raises(
        InputError, match=r"`cuont` .* no such name; expected count: int, rate: float, name: str, flags"
    ):
        check_overrides(read_parameters(cells(PARAMETERS), "n"), {"cuont": 1}, "n")


def test_names_that_pydantic_has_for_itself_are_fine() -> None:
    read = read_parameters(cells("model_config: str = 'a'\ncopy: int = 1\n_private: int = 2"), "n")
    assert check_overrides(read, {"model_config": "b", "_private": 3}, "n") == {"model_config": "b", "_private": 3}
