import json
from math import inf, nan

import pytest

from lib.core.errors import PalimpsestError
from lib.learning.gates import Gate, check_gates, rounded, write_card, write_metrics

GATES = [Gate("sharpness", 31.0, 29.0, 32.0), Gate("accuracy", 0.97, 0.98, 0.99), Gate("speed", 5.0, 4.0, 5.0)]


def test_verdicts_have_three_levels():
    assert [gate.verdict for gate in GATES] == ["ship reached", "failed", "goal reached"]


def test_only_the_ship_level_stops_a_model():
    check_gates([GATES[0], GATES[2]], "toy")
    with pytest.raises(PalimpsestError, match=r"^toy does not pass: accuracy is 0\.97, to ship it must be 0\.98$"):
        check_gates(GATES, "toy")


@pytest.mark.parametrize("value", [nan, inf, -inf])
def test_a_number_that_is_none_does_not_pass(value):
    gate = Gate("accuracy", value, 0.9, 0.9)
    assert gate.verdict == "failed"
    said = f"toy does not pass: accuracy is {value:g}, not a finite number, to ship it must be 0.9"
    with pytest.raises(PalimpsestError, match=f"^{said}$"):
        check_gates([GATES[0], gate], "toy")


def test_metrics_have_four_digits(tmp_path):
    assert rounded({"a": 0.123456, "b": 31234.5}) == {"a": 0.1235, "b": 31230.0}
    path = write_metrics(tmp_path / "runs" / "metrics.json", {"b": 1 / 3, "a": 2.0})
    assert json.loads(path.read_text()) == {"a": 2.0, "b": 0.3333}
    assert path.read_text().index('"a"') < path.read_text().index('"b"')


def test_the_card_says_which_gates_were_passed(tmp_path):
    write_card(tmp_path, "toy", {"What": "A toy.", "Data": "None."}, GATES)
    text = (tmp_path / "README.md").read_text()
    assert text.startswith("# toy\n\n## What\nA toy.\n\n## Data\nNone.\n\n## Gates\n")
    assert "| accuracy | 0.97 | 0.98 | 0.99 | failed |" in text
    assert "| speed | 5 | 4 | 5 | goal reached |" in text
