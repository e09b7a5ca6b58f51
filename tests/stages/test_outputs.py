from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lib.core.errors import InputError
from lib.stages import outputs


@pytest.fixture(autouse=True)
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PALIMPSEST_OUT", str(tmp_path))
    return tmp_path


def test_metrics_are_rounded_to_four_digits(out: Path) -> None:
    outputs.write_metrics({"arm": {"a": 123456.7, "a_low": np.float32(0.000123456), "n": np.int64(48), "z": -0.0}})
    text = (out / "metrics.json").read_text()
    assert text == '{\n "arm": {\n  "a": 123500.0,\n  "a_low": 0.0001235,\n  "n": 48,\n  "z": 0.0\n }\n}\n'


@pytest.mark.parametrize(
    "metrics",
    [
        {},
        {"arm": {}},
        {"arm": 1.0},
        {"arm": {"a": float("nan")}},
        {"arm": {"a": float("inf")}},
        {"arm": {"a": "1"}},
        {"arm": {"a": True}},
        {"arm": {"a": None}},
        {"arm": {"a_low": 1.0}},
        {"arm": {name: 1.0 for name in "abcdef"}},
    ],
)
def test_metrics_of_another_form_are_refused(metrics: dict, out: Path) -> None:
    with pytest.raises(InputError, match=r"metrics\.json"):
        outputs.write_metrics(metrics)
    assert not list(out.iterdir())


def test_metrics_with_more_digits_are_found() -> None:
    outputs.check_metrics({"arm": {"a": 0.1235}})
    with pytest.raises(InputError, match=r"4 significant digits: 0\.1235"):
        outputs.check_metrics({"arm": {"a": 0.12346}})


def test_a_table_has_the_same_bytes_and_no_index(out: Path) -> None:
    table = pd.DataFrame({"case": ["a", "b"], "value": [0.1, 0.2], "seed": [0, 1]})
    outputs.save_table(table)
    outputs.save_table(table.copy(), "again")
    assert (out / "results.parquet").read_bytes() == (out / "again.parquet").read_bytes()
    read = pd.read_parquet(out / "results.parquet")
    assert list(read.columns) == ["case", "value", "seed"]
    assert read.to_dict("list") == table.to_dict("list")
    with pytest.raises(InputError, match="reset_index"):
        outputs.save_table(table.set_index("case"))


def test_a_figure_does_not_name_the_library(out: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure()
    figure.subplots().plot([1, 2])
    outputs.save_figure(figure, "line")
    outputs.save_figure(figure, "again")
    first = (out / "figures" / "line.png").read_bytes()
    assert b"matplotlib" not in first.lower()
    assert (out / "figures" / "again.png").read_bytes() == first


def test_a_chart_takes_a_palette_and_a_picture_keeps_its_colours(out: Path) -> None:
    from matplotlib.figure import Figure
    from PIL import Image

    noise = np.random.default_rng(0).random((60, 80, 3))
    chart, picture = Figure(figsize=(4, 3)), Figure(figsize=(4, 3))
    chart.subplots().plot([1, 3, 2])
    picture.figimage(noise, resize=False)
    outputs.save_figure(chart, "chart")
    outputs.save_figure(picture, "picture")
    with Image.open(out / "figures" / "chart.png") as written:
        assert (written.mode, written.size) == ("P", (480, 360))
    with Image.open(out / "figures" / "picture.png") as written:
        assert (written.mode, written.size) == ("RGB", (480, 360))
        kept = np.asarray(written, dtype=float)[-60:, :80] / 255
    assert np.abs(kept - noise).max() < 1 / 255


def test_a_csv_has_six_digits(out: Path) -> None:
    outputs.save_csv(pd.DataFrame({"a": [1 / 3]}), "curve")
    assert (out / "curve.csv").read_bytes() == b"a\n0.333333\n"


def test_outside_of_a_stage_the_folder_is_scratch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(outputs, "ROOT", tmp_path)
    monkeypatch.delenv("PALIMPSEST_OUT")
    monkeypatch.delenv("PALIMPSEST_SCRATCH", raising=False)
    monkeypatch.setenv("JPY_SESSION_NAME", str(tmp_path / "notebooks" / "flowedit" / "method.ipynb"))
    assert outputs.out_dir() == tmp_path / ".scratch" / "interactive" / "flowedit" / "method"
    assert outputs.scratch_dir("start") == tmp_path / ".scratch" / "interactive-work" / "start"
    assert outputs.out_dir().is_dir()
