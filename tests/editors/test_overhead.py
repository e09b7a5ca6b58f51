"""The overhead benchmark, with a clock that ticks only where the test says so."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from bench import overhead
from lib.backbones.attention import HookedProcessor, attention_layers
from lib.editors.registry import EDITORS
from lib.editors.run import run_batch

EDITOR = EDITORS["flowedit"]


@pytest.fixture
def ticking(flux, monkeypatch):
    """Seconds on the wall and of the CPU: each transformer call takes 2 and 2, each velocity 1 and 0.5 more around it,
    encode 5, embed 7, decode 11."""
    now = np.zeros(2)

    def slow(function, wall, cpu):
        def wrapped(*arguments, **options):
            now[:] += wall, cpu
            return function(*arguments, **options)

        return wrapped

    for name, ticks in {"velocity": (1, 0.5), "encode": (5, 5), "embed": (7, 7), "decode": (11, 11)}.items():
        monkeypatch.setattr(flux, name, slow(getattr(flux, name), *ticks))
    monkeypatch.setattr(flux.pipe.transformer, "forward", slow(flux.pipe.transformer.forward, 2, 2))
    return flux, now.copy


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
        assert found["around the calls"] == calls
        assert found["overhead"] == pytest.approx(1.5)
        assert found["overhead of whole repeats"] == found["low"] == found["high"] == 1.5
        assert found["loop / its own calls"] == pytest.approx(1.5)
        assert found["overhead in CPU time"] == pytest.approx(1.25)
        assert (found["encode"], found["embed"], found["decode"]) == (5, 7 * prompts, 11)


def test_each_call_is_replayed_once_next_to_itself_and_without_hooks_in_attention(flux, monkeypatch):
    """Before it and after it by turns; the edit does not notice."""
    editor, batch = EDITORS["rf-solver"], overhead.make_batch(32, 2)
    layer = attention_layers(flux)[1]
    stock, seen = layer.processor, []
    forward = flux.pipe.transformer.forward

    def watched(*inputs, **named):
        seen.append((float(named["timestep"][0]), isinstance(layer.processor, HookedProcessor)))
        return forward(*inputs, **named)

    monkeypatch.setattr(flux.pipe.transformer, "forward", watched)
    clock = overhead.clock_of(flux.device)
    settings = overhead.settings_with(editor, 2)
    with torch.inference_mode():
        wanted = run_batch(editor, flux, batch, settings)
        plain = list(seen)
        for before in (True, False):
            seen.clear()
            with overhead.Replayed(flux.pipe.transformer, clock, before=before) as replayed:
                found = run_batch(editor, flux, batch, settings)
            assert torch.equal(found.image, wanted.image)
            assert len(replayed.own) == len(replayed.alone) == len(plain) == 8
            pairs = [seen[i : i + 2] for i in range(0, 16, 2)]
            for i, (pair, call) in enumerate(zip(pairs, plain, strict=True)):
                own = 1 if (i % 2 == 0) == before else 0
                assert pair[own] == call
                assert pair[1 - own] == (call[0], False)
    assert any(hooked for _, hooked in plain)
    assert layer.processor is stock
    assert not flux.pipe.transformer._forward_hooks
    assert not flux.pipe.transformer._forward_pre_hooks


def test_another_number_of_steps_keeps_the_share_that_shares_values():
    solver = EDITORS["rf-solver"]
    assert overhead.settings_with(solver, None) == solver.settings()
    assert overhead.settings_with(solver, 30) == replace(solver.settings(), steps=30, inject=4)
    assert overhead.settings_with(solver, 2) == replace(solver.settings(), steps=2, inject=1)
    assert overhead.settings_with(EDITOR, 3) == replace(EDITOR.settings(), steps=3)


def test_the_table_is_printed_and_written(flux_folder, tmp_path, capsys):
    out = tmp_path / "overhead.md"
    options = ["--backbone", str(flux_folder), "--batch", "1", "--repeats", "1", "--size", "32", "--device", "cpu"]
    overhead.main([*options, "--editors", "sdedit", "flowedit", "--steps", "3", "--out", str(out)])
    text = out.read_text()
    assert capsys.readouterr().out.strip() == text.strip()
    assert overhead.device_name(torch.device("cpu")) in text
    assert str(flux_folder) not in text
    assert "default settings but for 3 steps" in text
    for column in ("encode, ms", "embed, ms", "loop, ms", "replayed transformer calls, ms", "decode, ms", "overhead"):
        assert f"| {column} |" in text
    rows = [line.split("|")[1:3] for line in text.splitlines() if line.startswith(("| sdedit", "| flowedit"))]
    assert rows == [[" sdedit ", " 3 "], [" flowedit ", " 6 "]]


def test_one_disturbed_call_spoils_a_repeat_but_not_the_overhead():
    """Three repeats of two calls, the second of which is twice as large; each repeat has a call disturbed."""
    phases = dict.fromkeys(overhead.PHASES, np.zeros(2))
    samples = []
    for own, alone in (([1.1, 9], [1, 2]), ([7, 2.4], [1, 2]), ([1.1, 2.4], [8, 2])):
        own, alone = np.array([own, own]).T, np.array([alone, alone]).T
        samples.append(overhead.Sample(phases, 1.01 * own.sum(0), own, alone))
    found = overhead.summary(samples)
    assert found["overhead"] == pytest.approx(1.01 * (1.1 + 2.4) / 3)
    assert found["loop / its own calls"] == pytest.approx(1.01)
    assert found["overhead of whole repeats"] == pytest.approx(1.01 * 9.4 / 3)


def test_the_table_names_who_is_above_the_aim():
    row = dict.fromkeys((*overhead.TIMES, "low"), 1.0) | dict.fromkeys(overhead.RATIOS, 1.05) | {"high": 2, "calls": 3}
    assert overhead.report({"one": row}, "").count("Above 1.05 by overhead: none.") == 1
    worse = row | {"overhead": 1.051, "overhead in CPU time": float("nan")}
    text = overhead.report({"one": row, "other": worse}, "")
    assert "Above 1.05 by overhead: other.\nAbove 1.05 by overhead in CPU time: none." in text
    assert "| **1.051** | - | 1.050 (1.000 to 2.000) | 1.050 |" in text
