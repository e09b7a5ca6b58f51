"""claims.yaml: complete, valid, and refused in one line where it is not."""

import re
import shlex
from copy import deepcopy

import pytest

from lib.bench.registry import benchmark_named
from lib.claims.ledger import load_claims, parse_claims
from lib.core.errors import InputError
from lib.core.paths import ROOT
from lib.editors.arguments import read_settings
from lib.editors.registry import editor_named, settings_of
from lib.metrics.perceptual import feature_distance
from lib.metrics.tables import TABLE
from lib.stages import edit

CLAIM = {
    "id": "lore-4-rf-solver",
    "paper": "LORE",
    "kind": "superiority",
    "statement": "LORE aligns better than RF-Solver.",
    "paper_value": None,
    "confirmatory": True,
    "test": {"notebook": "lore/method", "arms": ["lore", "rf-solver"], "metric": "clip_edited", "direction": "higher"},
}


def changed(path, value):
    claim = deepcopy(CLAIM)
    *outer, last = path.split(".")
    inner = claim
    for name in outer:
        inner = inner[name]
    if value is ...:
        del inner[last]
    else:
        inner[last] = value
    return claim


def test_every_claim_of_the_briefs_is_there():
    numbers = {"syncsde": set(), "flowedit": set(), "lore": set()}
    for claim in load_claims():
        paper, number = re.match(r"([a-z]+)-(\d+)", claim.id).groups()
        numbers[paper].add(int(number))
    assert numbers == {"syncsde": set(range(1, 10)), "flowedit": set(range(10, 18)), "lore": set(range(1, 16))}


def test_claims_that_need_weights_say_how_they_are_tested_or_what_is_missing():
    claims = load_claims()
    weighty = [claim for claim in claims if claim.needs_weights]
    assert {claim.id for claim in weighty} >= {"syncsde-7", "flowedit-10-clip", "lore-6", "lore-7"}
    ways = ("python -m lib.stages.notebook ", "python -m lib.stages.edit ", "no command: ")
    assert all(claim.command.startswith(ways) for claim in weighty)
    done = [claim for claim in weighty if not claim.command.startswith(ways[2])]
    assert all("missing: " in claim.command or "--score" in claim.command for claim in done)
    assert all(claim.command is None for claim in claims if not claim.needs_weights)


def test_their_commands_are_commands():
    """Each part that is one is read as the program reads it, and names an editor, settings and a benchmark it knows."""
    commands = {
        part.strip()
        for claim in load_claims()
        if claim.needs_weights
        for part in claim.command.split(";")
        if part.strip().startswith("python ")
    }
    assert len(commands) > 5
    for command in commands:
        python, _, module, *words = shlex.split(command)
        assert (python, module) == ("python", "lib.stages.edit")
        given = edit._parser().parse_args(words)
        settings_of(editor_named(given.editor), read_settings(given.settings))
        assert benchmark_named(given.benchmark).needs_folder and given.folder
        assert given.out.startswith("runs/edits/")


def test_their_scoring_commands_give_the_scores_that_they_name():
    wanted = re.compile(r"python (-m lib.stages.edit [^,;]*--score[^,;]*), whose summary.csv has ([^,;]+)")
    scoring = {found for claim in load_claims() if claim.needs_weights for found in wanted.findall(claim.command)}
    assert len(scoring) == 5
    for command, scores in scoring:
        given = edit._parser().parse_args(shlex.split(command)[2:])
        assert given.score and given.folder
        assert all(name.startswith(f"{given.namespace}/") and name in TABLE for name in scores.split(" and "))


def test_what_missing_parts_name_is_there():
    text = " ".join(claim.command for claim in load_claims() if claim.needs_weights)
    assert f"{feature_distance.__module__}.{feature_distance.__name__}" in text
    for name in re.findall(r"(?:strict|pie_official)/\w+", text):
        assert name in TABLE
    for path in re.findall(r"bench/\w+\.py", text):
        assert (ROOT / path).is_file()


def test_a_changed_test_says_so_in_statement_and_note():
    remarked = {claim.id for claim in load_claims() if "(Test changed after the first run.)" in claim.statement}
    noted = {claim.id for claim in load_claims() if "Changed: " in claim.note}
    assert remarked == noted
    assert {"syncsde-5", "flowedit-17", "syncsde-9-exponent", "lore-12"} <= noted


def test_no_claim_compares_a_spread_with_nothing():
    """ODE inversion draws no noise: its spread over seeds is 0, and no spread can be lower."""
    for claim in load_claims():
        if claim.test.metric == "seed_std":
            assert "ode-inversion" not in claim.test.arms
            assert claim.test.margin is not None


def test_settings_in_the_names_of_arms_are_a_trends_levels():
    claim = {each.id: each for each in load_claims()}["flowedit-14-fidelity"]
    assert claim.test.series == (0.65, 0.8, 0.95)


def test_claims_of_one_measure_share_a_unit():
    measures = {each.id: each.measure for each in load_claims()}
    assert measures["lore-4-rf-solver"] == measures["syncsde-1-flowedit"] == "attribute_accuracy"
    assert measures["flowedit-14-alignment"] == "attribute_accuracy, slope"
    assert measures["flowedit-14-fidelity"] == "background_psnr, rank correlation with the setting"
    assert measures["lore-2"] == "correlation of in_mask_attention with text_distance"


def test_a_statement_is_one_line():
    assert parse_claims([changed("statement", "a\n  b")])[0].statement == "a b"


@pytest.mark.parametrize(
    ("claim", "message"),
    [
        (changed("kind", "equality"), "claim lore-4-rf-solver .*kind = 'equality'"),
        (changed("test.direction", "upwards"), "test.direction = 'upwards'"),
        (changed("test.arms", ["lore"]), "one arm without a margin"),
        (changed("test.arms", []), "test.arms"),
        (changed("test.arms", ["lore", "lore"]), "an arm twice"),
        (changed("test.arms", ["a", "b", "c"]), "3 arms where 1-2 belong"),
        (changed("test.direction", ...), "direction: superiority and trend need one"),
        (changed("test.metric", ...), "test.metric"),
        (changed("test.metrics", "clip"), "test.metrics = 'clip'"),
        (changed("paper_value", ...), "paper_value"),
        (changed("statement", ""), "statement"),
        (changed("id", "LORE 4"), "claim LORE 4 .*id = 'LORE 4'"),
        (changed("needs_weights", True), "needs_weights and command"),
        (changed("command", "make it so"), "needs_weights and command"),
        (changed("test.at_equal", "background_psnr"), "at_equal and along"),
        (changed("test.tolerance", 0.1), "tolerance: identity needs one"),
        (changed("test.across", "gap"), "across, which belongs to trend"),
        (changed("test.between", {"column": "gap", "levels": ["far"]}), "test.between.levels"),
        (changed("kind", "trend"), "2 arms where 3 or more belong"),
        (changed("kind", "identity"), "direction"),
        (changed("kind", "equivalence"), "direction"),
        ({**changed("test.direction", ...), "kind": "equivalence"}, "equivalence without a positive margin"),
        ({**changed("test.arms", ["a", "b", "c"]), "kind": "trend"}, "no settings"),
        ({**changed("test.arms", ["a@x=1", "a@x=2", "a@x=many"]), "kind": "trend"}, "could not convert"),
        ("lore-4", "claim number 1"),
    ],
)
def test_what_is_wrong_with_a_claim_is_said_in_one_line(claim, message):
    with pytest.raises(InputError, match=message) as refused:
        parse_claims([claim])
    assert "\n" not in str(refused.value)


def test_an_id_is_given_once():
    with pytest.raises(InputError, match=r"claim lore-4-rf-solver in claims\.yaml: found the same id twice"):
        parse_claims([CLAIM, CLAIM])


@pytest.mark.parametrize("text", ["", "a: b", "[]", "- [", "- {a: 1, a: 2}"])
def test_files_that_are_no_ledger(tmp_path, text):
    (tmp_path / "claims.yaml").write_text(text)
    with pytest.raises(InputError, match=r"claims\.yaml"):
        load_claims(tmp_path / "claims.yaml")
    with pytest.raises(InputError, match="no such file"):
        load_claims(tmp_path / "other.yaml")
