"""FlowEdit's set with what is odd about its files."""

import pytest
import torch

from lib.bench.flowedit_set import COUNTS, flowedit_cases, verify
from lib.core.errors import InputError
from tests.bench.layouts import FLOWEDIT, FLOWEDIT_COUNTS, picture, write_flowedit


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_flowedit(tmp_path_factory.mktemp("flowedit"))


def rewrite(folder, text):
    """The folder's prompts alone are written anew."""
    (folder / "flowedit.yaml").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory):
    return write_flowedit(tmp_path_factory.mktemp("spoilt"))


def test_every_prompt_is_a_case(folder):
    cases = list(flowedit_cases(folder))
    assert [case.id for case in cases] == [
        "flowedit-coconut-01",
        "flowedit-coconut-02",
        "flowedit-meditation2-01",
        "flowedit-meditation2-02",
        "flowedit-meditation2-03",
        "flowedit-bear-01",
    ]
    assert cases[0].source_prompt == "A coconut filled with water. The coconut is on a table."
    assert cases[0].target_prompt == "A baseball filled with water. The cat''s cup."
    assert [case.extras["code"] for case in cases] == ["1_baseball", "2_cup", None, None, None, "1_panda"]
    assert cases[5].source_prompt == 'A "brown" bear.'
    assert all(
        (case.mask, case.instruction, case.edit_type, case.benchmark) == (None, None, None, "flowedit")
        for case in cases
    )


def test_two_names_stand_for_other_files(folder):
    cases = flowedit_cases(folder)
    assert torch.equal(cases[0].image, cases[5].image)  # coconut_out.png is coconut.png, drawn as bear.png
    assert (cases[2].image[:, 0, 0] == 1).all()  # meditation1.png is meditation2.png, whose alpha is laid on white


def test_a_file_that_is_there_is_taken_by_its_own_name(tmp_path):
    write_flowedit(tmp_path)
    picture(1024, colour="navy").save(tmp_path / "Images" / "coconut_out.png", compress_level=1)
    assert flowedit_cases(tmp_path)[0].id == "flowedit-coconut_out-01"


def test_verify_counts_pictures_and_prompts(folder):
    assert COUNTS == {"pictures": 77, "prompts": 281}
    assert verify(folder, FLOWEDIT_COUNTS) == FLOWEDIT_COUNTS
    with pytest.raises(InputError, match=r"flowedit.yaml, number of cases of type pictures: found 3; expected 77"):
        verify(folder)


def test_pictures_of_another_size_are_refused(tmp_path):
    write_flowedit(tmp_path)
    picture(512).save(tmp_path / "Images" / "bear.png")
    message = r"image .*bear.png: found 512 x 512 pixels; expected 1024 x 1024 pixels"
    with pytest.raises(InputError, match=message):
        flowedit_cases(tmp_path)[-1]
    with pytest.raises(InputError, match=message):
        verify(tmp_path, FLOWEDIT_COUNTS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- [", "flowedit.yaml: found unreadable YAML"),
        ("\0", "flowedit.yaml: found unreadable YAML"),
        ("- a: 1\n  a: 2", "flowedit.yaml: found unreadable YAML"),
        ("- !!python/object/apply:os.getcwd []", "flowedit.yaml: found unreadable YAML"),
        ("", "flowedit.yaml: found None; expected a list of pictures"),
        ("[]", r"flowedit.yaml: found \[\]"),
        ("a: 1", r"flowedit.yaml: found \{'a': 1\}"),
        ("- bear", "picture 0: found a str; expected an object"),
        (FLOWEDIT.replace("    source_prompt: A woman.\n", ""), "picture 1, key 'source_prompt': found no such key"),
        (FLOWEDIT.replace("A woman.", "12"), "picture 1, key 'source_prompt': found 12"),
        (FLOWEDIT.replace("init_img ", "image "), "picture 1, key 'init_img': found no such key"),
        (FLOWEDIT.replace("[A panda.]", "A panda."), "picture 2, key 'target_prompts': found 'A panda.'"),
        (FLOWEDIT.replace("[A panda.]", "[]"), "picture 2, key 'target_prompts': found"),
        (FLOWEDIT.replace("[A panda.]", "[' ']"), "picture 2, key 'target_prompts': found"),
        (FLOWEDIT.replace("bear.png", "wolf.png"), "picture 2, key 'input_img': found no file .*wolf.png"),
        (FLOWEDIT.replace("bear.png", "coconut.png"), "pictures: found '.*coconut.png' more than once"),
    ],
)
def test_damage_names_file_and_key(spoilt, text, message):
    with pytest.raises(InputError, match=f"^{spoilt}.*{message}"):
        flowedit_cases(rewrite(spoilt, text))


def test_missing_files_are_named(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        flowedit_cases(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"flowedit.yaml: found no such file"):
        flowedit_cases(tmp_path)
