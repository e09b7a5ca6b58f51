"""Tables and sentences: intervals are told as they are."""

import pandas as pd
import pytest

from lib.studio.tables import cell, headline, interval_table, verdict

SUMMARY = pd.DataFrame(
    [
        ("flowedit", "attribute_accuracy", 0.7123, 0.65, 0.771, 200),
        ("flowedit", "background_psnr", 24.26, 23.9, 24.7, 180),
        ("copy", "attribute_accuracy", 0.0, 0.0, 0.0, 200),
        ("copy", "background_psnr", float("nan"), float("nan"), float("nan"), 0),
    ],
    columns=["arm", "metric", "value", "low", "high", "n"],
)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ((0.7123, 0.65, 0.771), "0.71 [0.65, 0.77]"),
        ((0.5, 0.5, 0.5), "0.50"),
        ((float("nan"), 0.0, 1.0), "–"),
        ((0.5, float("nan"), float("nan")), "0.50"),
    ],
)
def test_cell(values, text):
    assert cell(*values) == text


def test_interval_table():
    table = interval_table(
        SUMMARY, ["flowedit", "copy"], ["attribute_accuracy", "background_psnr"], {"flowedit": 22.0, "copy": 0}
    )
    assert table.loc["flowedit"].tolist() == ["0.71 [0.65, 0.77]", "24.3 [23.9, 24.7]", "22", 200]
    assert table.loc["copy"].tolist() == ["0.00", "–", "0", 200]


def test_headline_leaves_out_what_has_no_value():
    found = headline(SUMMARY, ["copy"], ["attribute_accuracy", "background_psnr"], {"copy": 0})
    assert found == {
        "copy": {
            "attribute_accuracy": 0.0,
            "attribute_accuracy_low": 0.0,
            "attribute_accuracy_high": 0.0,
            "nfe": 0.0,
            "n": 200,
        }
    }


@pytest.mark.parametrize(
    ("bounds", "words"),
    [
        ((0.05, 0.01, 0.09), "A lies above B"),
        ((-0.05, -0.09, -0.01), "A lies below B"),
        ((0.01, -0.02, 0.04), "cannot be told apart"),
    ],
)
def test_verdict(bounds, words):
    sentence = verdict("accuracy", "A", "B", *bounds)
    assert words in sentence
    assert f"{bounds[0]:+.3f}" in sentence
