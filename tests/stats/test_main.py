"""The statistics from a CSV on the command line."""

import numpy as np
import pandas as pd
import pytest

from lib.core.errors import InputError
from lib.stats.__main__ import difference_table, main, read_scores
from lib.stats.multiple import holm
from lib.stats.paired import compare
from lib.stats.pareto import membership
from lib.stats.ranks import rank

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
    assert rest[-2].startswith("a − b over cases; 95% BCa intervals, within strata of type; p by sign flips")


def test_scores_of_several_runs_are_one_table(scores, tmp_path, capsys):
    main([str(scores), "--rank", "clip", *QUICK])
    wanted = capsys.readouterr().out
    table = pd.read_csv(scores, dtype={"case": str}).assign(seed=0)
    parts = [tmp_path / f"{arm}.parquet" for arm in ("lore", "rf-solver", "fireflow")]
    for part in parts:
        table[table["arm"] == part.stem].to_parquet(part)
    assert main([*map(str, parts), "--rank", "clip", *QUICK]) == 0
    assert capsys.readouterr().out == wanted
    parts[0].write_bytes(b"PAR1 no more")
    assert main([str(parts[0]), "--rank", "clip"]) == 2
    assert f"file {parts[0]}" in capsys.readouterr().err


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


def test_ranks_are_printed(scores, capsys):
    assert main([str(scores), "--rank", "clip", "--lower", "clip", "--stratum", "type", *QUICK]) == 0
    header, *rows, _, said = capsys.readouterr().out.splitlines()
    assert header.split() == ["arm", "rank", "low", "high", "n"]
    arms = ["lore", "rf-solver", "fireflow"]
    wanted = rank(read_scores(scores), arms, "clip", better="lower", stratum="type", resamples=200)
    assert [row.split()[0] for row in rows] == wanted.means["arm"].tolist()
    assert [row.split()[1] for row in rows] == [f"{value:.4g}" for value in wanted.means["rank"]]
    assert rows[0].startswith("rf-solver")  # the lowest
    assert said.startswith("Mean rank in clip (lower is better) over each case, 1 is best, ties averaged; 95% BCa")
    assert said.endswith(f"Friedman's p of equal ranks: {wanted.p:.3g}.")


def test_ties_share_a_rank_and_images_are_units(tmp_path, capsys):
    values = {"a": [3, 3, 1, 1], "b": [3, 3, 0, 0], "c": [1, 1, 4, 4]}  # two cases of each of two images
    rows = [
        {"case": i, "arm": arm, "metric": "m", "value": value, "image": f"i{i // 2}"}
        for arm, own in values.items()
        for i, value in enumerate(own)
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "ties.csv", index=False)
    assert main([str(tmp_path / "ties.csv"), "--rank", "m", "--image", "image", *QUICK]) == 0
    out = capsys.readouterr().out
    printed = {line.split()[0]: line.split()[1:] for line in out.splitlines()[1:4]}
    assert {arm: (own[0], own[-1]) for arm, own in printed.items()} == {
        "a": ("1.75", "2"),
        "b": ("2.25", "2"),
        "c": ("2", "2"),
    }
    assert "over each image (image)" in out


def test_the_front_is_printed_with_its_probability(scores, capsys):
    assert main([str(scores), "--pareto", "clip", "psnr", "--lower", "psnr", *QUICK]) == 0
    out = capsys.readouterr().out
    header, *rows = out.split("\n\n")[0].splitlines()
    assert header.split() == ["arm", "on_front", "probability", "n", "clip", "psnr"]
    ways = {"clip": "higher", "psnr": "lower"}
    wanted = membership(read_scores(scores), ["lore", "rf-solver", "fireflow"], ways, resamples=200)
    assert [row.split()[2] for row in rows] == [f"{value:.4g}" for value in wanted["probability"]]
    assert [row.split()[1] for row in rows] == ["yes" if on else "no" for on in wanted["on_front"]]
    assert "On the front of clip (higher), psnr (lower)" in out
    assert "share of 200 bootstrap samples of cases" in out


def test_parts_follow_each_other_and_arms_can_be_chosen(scores, capsys):
    chosen = ["--arms", "lore", "fireflow"]
    several = ["--compare", "lore", "rf-solver", "--rank", "clip", "--pareto", "clip", "psnr", *chosen, *QUICK]
    assert main([str(scores), *several]) == 0
    out = capsys.readouterr().out
    assert out.index("a − b over") < out.index("Mean rank") < out.index("On the front")
    assert "rf-solver" not in out[out.index("Holm") :]


def test_an_arm_without_the_metric_is_not_ranked(scores, capsys, tmp_path):
    table = read_scores(scores)
    table[~((table["arm"] == "fireflow") & (table["metric"] == "psnr"))].to_csv(tmp_path / "gap.csv", index=False)
    assert main([str(tmp_path / "gap.csv"), "--rank", "psnr", *QUICK]) == 0
    assert "fireflow" not in capsys.readouterr().out


def test_something_must_be_asked_for(scores, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([str(scores)])
    assert stopped.value.code == 2
    assert "give --compare, --rank or --pareto" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rank", "dino"], "metric dino: found none such; expected one of"),
        (["--rank", "clip", "--arms", "lore"], "arms: found ['lore']"),
        (["--rank", "clip", "--arms", "lore", "kv-edit"], "arm: found 'kv-edit'"),
        (["--rank", "clip", "--lower", "clpi"], "--lower: found ['clpi']"),
        (["--pareto", "clip"], "--pareto: found ['clip']"),
        (["--pareto", "clip", "clip"], "two metrics or more, each once"),
        (["--pareto", "clip", "dino"], "metric dino: found none such; expected one of"),
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
