"""The overhead benchmark, with a clock that ticks only where the test says so."""

import pytest
import torch

from bench import overhead
from lib.editors.registry import EDITORS
from lib.editors.run import run_batch

EDITOR = EDITORS["flowedit"]


@pytest.fixture
def ticking(flux, monkeypatch):
    """Each transformer call takes 2 ticks, each velocity 1 more around it, encode 5, embed 7, decode 11."""
    now = [0.0]

    def slow(function, ticks):
        def wrapped(*arguments, **options):
            now[0] += ticks
            return function(*arguments, **options)

        return wrapped

    for name, ticks in {"velocity": 1, "encode": 5, "embed": 7, "decode": 11}.items():
        monkeypatch.setattr(flux, name, slow(getattr(flux, name), ticks))
    monkeypatch.setattr(flux.pipe.transformer, "forward", slow(flux.pipe.transformer.forward, 2))
    return flux, lambda: now[0]


def test_the_ratio_is_of_loop_to_transformer(ticking):
    backbone, clock = ticking
    batch = overhead.make_batch(32, 2)
    measured = overhead.measure([EDITOR, EDITORS["sdedit"]], backbone, batch, 3, clock)
    for name, prompts in (("flowedit", 2), ("sdedit", 1)):
        calls = run_batch(EDITORS[name], backbone, batch, EDITORS[name].settings()).nfe
        found = measured[name]
        assert found["calls"] == calls
        assert found["replayed transformer calls"] == 2 * calls
        assert found["loop"] == 3 * calls
        assert found["overhead"] == pytest.approx(1.5)
        assert (found["encode"], found["embed"], found["decode"]) == (5, 7 * prompts, 11)


def test_the_table_is_printed_and_written(flux_folder, tmp_path, capsys):
    out = tmp_path / "overhead.md"
    options = ["--backbone", str(flux_folder), "--batch", "1", "--repeats", "1", "--size", "32", "--device", "cpu"]
    overhead.main([*options, "--editors", "sdedit", "--out", str(out)])
    text = out.read_text()
    assert capsys.readouterr().out.strip() == text.strip()
    assert overhead.device_name(torch.device("cpu")) in text
    assert str(flux_folder) not in text
    for row in (
        "encode, ms",
        "embed, ms",
        "loop, ms",
        "replayed transformer calls, ms",
        "around the calls, ms",
        "decode, ms",
        "overhead",
    ):
        assert row in text
