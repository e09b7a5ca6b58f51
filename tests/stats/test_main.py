"""The statistics from a CSV on the command line."""

import numpy as np
import pandas as pd
import pytest

from lib.core.errors import InputError
from lib.stats.__main__ import difference_table, main, read_scores
from lib.stats.multiple import holm
from lib.stats.paired import compare

QUICK = ["--resamples", "200"]


@pytest.fixture
def scores(tmp_path):
    generator = np.random.default_rng(0)
    rows = [
        {"case": i, "arm": arm, "metric": metric, "value": generator.normal(lift), "type": f"t{i % 2}"}
        for i in range(24)
        for arm, lift in (("lore", 1.0), ("rf-solver", 0.0), ("fireflow", 0.9))
        for metric in ("clip", "psnr")
    ]
    path = tmp_path / "scores.csv"
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


def test_a_table_is_printed(scores, capsys):
    assert main([str(scores), "--compare", "lore", "rf-solver", "--metric", "clip", "--stratum", "type", *QUICK]) == 0
    header, row, *rest = capsys.readouterr().out.splitlines()
    assert header.split()[:6] == ["metric", "a", "b", "difference", "low", "high"]
    wanted = compare(read_scores(scores), "lore", "rf-solver", "clip", stratum="type", resamples=200)
    assert row.split()[:5] == ["clip", "lore", "rf-solver", f"{wanted.value:.4g}", f"{wanted.low:.4g}"]
    assert rest[-1].startswith("a − b over cases; 95% BCa intervals, within strata of type; p by sign flips")


def test_all_metrics_against_all_rivals_with_holm_over_the_rows(scores):
    found = difference_table(read_scores(scores), ["lore", "rf-solver", "fireflow"], resamples=100)
    assert found[["metric", "b"]].to_numpy().tolist() == [
        ["clip", "rf-solver"],
        ["clip", "fireflow"],
        ["psnr", "rf-solver"],
        ["psnr", "fireflow"],
    ]
    assert found["p_holm"].tolist() == holm(found["p"]).tolist()


def test_equal_differences_are_pointed_out(tmp_path, capsys):
    path = tmp_path / "flat.csv"
    rows = [{"case": i, "arm": arm, "metric": "m", "value": 1.0} for i in range(4) for arm in "ab"]
    pd.DataFrame(rows).to_csv(path, index=False)
    assert main([str(path), "--compare", "a", "b", *QUICK]) == 0
    assert "all differences are equal" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--compare", "lore", "kv-edit"], "arm: found 'kv-edit'"),
        (["--compare", "kv-edit", "lore"], "arm: found 'kv-edit'"),
        (["--compare", "lore"], "two or more"),
        (["--compare", "lore", "rf-solver", "--metric", "dino"], "'dino'"),
        (["--compare", "lore", "rf-solver", "--stratum", "kind"], "no column kind"),
        (["--compare", "lore", "rf-solver", "--level", "95"], "level: found 95"),
    ],
)
def test_mistakes_are_one_line_and_exit_2(scores, capsys, arguments, message):
    assert main([str(scores), *arguments]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.startswith("error: ") and said.count("\n") == 1


def test_files_that_are_no_scores(tmp_path):
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "odd.csv").write_text('a,b\n"1,2\n')
    (tmp_path / "other.csv").write_text("x,y\n1,2\n")
    for name in ("missing.csv", "empty.csv", "odd.csv"):
        with pytest.raises(InputError, match=name):
            read_scores(tmp_path / name)
    with pytest.raises(InputError, match="no column arm, metric"):
        difference_table(read_scores(tmp_path / "other.csv"), ["a", "b"])
