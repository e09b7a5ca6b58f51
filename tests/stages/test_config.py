from pathlib import Path

import pytest

from lib.core.errors import InputError
from lib.core.paths import ROOT
from lib.stages.config import load_params, load_section, load_yaml, set_scale

TEXT = """\
# comments stay
scale: smoke  # this one too
start:
  cases: {smoke: 4, default: 48, full: 480}
  rate: 1e-4
  answer: no
  octal: 010
  list: [1, 2.5]
paper:
  method: {steps: 28}
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "params.yaml").write_text(TEXT)
    return tmp_path


def test_a_section_is_read_at_the_scale_of_the_file(root: Path) -> None:
    expected = {"cases": 4, "rate": 1e-4, "answer": "no", "octal": 10, "list": [1, 2.5]}
    assert load_section("start", root=root) == expected
    assert load_section("start", scale="full", root=root)["cases"] == 480
    assert load_section("paper/method", root=root) == {"steps": 28}


def test_a_missing_section_is_an_error_unless_it_is_optional(root: Path) -> None:
    with pytest.raises(InputError, match=r"section paper/other .* no `other`; expected one of \['method'\]"):
        load_section("paper/other", root=root)
    assert load_section("paper/other", optional=True, root=root) == {}


@pytest.mark.parametrize("values", ["{smoke: 1, other: 2}", "{default: 1}"])
def test_a_value_by_scale_must_have_the_scale_in_force(root: Path, values: str) -> None:
    (root / "params.yaml").write_text(f"scale: smoke\na: {{b: {values}}}\n")
    with pytest.raises(InputError, match="b in section a"):
        load_section("a", root=root)


def test_setting_the_scale_changes_that_word_only(root: Path) -> None:
    assert set_scale("full", root)
    assert (root / "params.yaml").read_text() == TEXT.replace("scale: smoke", "scale: full")
    assert not set_scale("full", root)
    with pytest.raises(InputError, match="scale: found tiny; expected one of smoke, default, full"):
        set_scale("tiny", root)
    assert load_params(root)["scale"] == "full"


@pytest.mark.parametrize("text", ["scale: tiny\n", "a: 1\n", "- 1\n", "a: [1\n", "scale: smoke\nscale: full\n"])
def test_a_broken_params_file_is_one_clear_error(root: Path, text: str) -> None:
    (root / "params.yaml").write_text(text)
    with pytest.raises(InputError, match=r"scale|mapping|YAML"):
        load_params(root)


def test_a_missing_params_file_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        load_params(tmp_path)


def test_dvc_reads_the_same(root: Path) -> None:
    from dvc.utils.serialize import load_yaml as dvc_loads

    files = [root / "params.yaml", *(path for path in [ROOT / "params.yaml"] if path.is_file())]
    for path in files:
        ours, theirs = load_yaml(path), dvc_loads(str(path))
        assert ours == theirs
        assert repr(ours) == repr(theirs)  # 1, 1.0 and True are equal, but not alike
