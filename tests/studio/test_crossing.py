"""Two curves of straight lines: where they cross, and that touching is not crossing."""

import pandas as pd
import pytest

from lib.studio.crossing import crossing_told, crossings


def summary(**curves: list[tuple[float, float]]) -> pd.DataFrame:
    rows = [
        (f"{name}{place}", metric, value)
        for name, points in curves.items()
        for place, point in enumerate(points)
        for metric, value in zip(("x", "y"), point, strict=True)
    ]
    return pd.DataFrame(rows, columns=["arm", "metric", "value"])


def found(a: list[tuple[float, float]], b: list[tuple[float, float]]) -> list[tuple[float, bool]]:
    arms = [[f"{name}{place}" for place in range(len(points))] for name, points in (("a", a), ("b", b))]
    return crossings(summary(a=a, b=b), *arms, ("x", "y"))


def test_a_steep_and_a_flat_line_cross_once():
    steep, flat = [(10.0, 1.0), (20.0, 0.0)], [(0.0, 0.5), (30.0, 0.5)]
    assert found(steep, flat) == [(pytest.approx(15.0), True)]
    assert found(flat, steep) == [(pytest.approx(15.0), False)]
    assert found(steep[::-1], flat) == found(steep, flat), "the order of the settings is not that of x"


def test_a_bend_may_cross_twice():
    bent = [(0.0, 0.0), (10.0, 2.0), (20.0, 0.0)]
    assert found(bent, [(0.0, 1.0), (20.0, 1.0)]) == [(pytest.approx(5.0), False), (pytest.approx(15.0), True)]


@pytest.mark.parametrize(
    "other",
    [
        [(0.0, 2.0), (20.0, 2.0)],  # above all along
        [(0.0, 1.0), (10.0, 1.0), (20.0, 2.0)],  # touches at a bend
        [(30.0, 0.0), (40.0, 2.0)],  # no common range
    ],
)
def test_no_crossing(other: list[tuple[float, float]]):
    assert found([(0.0, 0.0), (10.0, 1.0), (20.0, 0.0)], other) == []


def test_it_is_told_in_a_sentence():
    assert crossing_told("FlowEdit", "sdedit", [], "dB") == ""
    told = crossing_told("FlowEdit", "sdedit", [(26.04, True)], "dB")
    assert told == "Their curves cross at 26.0 dB: below that FlowEdit is the upper one."
