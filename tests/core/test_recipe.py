from dataclasses import dataclass

import pytest
import torch

from lib.core import recipe as module
from lib.core.errors import InputError
from lib.core.images import read_recipe, save_png
from lib.core.recipe import hash_folder, hash_tensor, recipe


@dataclass(frozen=True)
class Settings:
    steps: int = 28
    blocks: tuple[int, ...] = (1, 2)


def make_recipe() -> dict:
    return recipe(
        editor="flowedit",
        settings=Settings(),
        case_id="7",
        source_prompt=None,
        target_prompt="a żółw 🐢",
        seed=3,
        source_hash="0" * 16,
        backbone_hash="1" * 16,
    )


def test_recipe_survives_the_png(tmp_path):
    made = make_recipe()
    save_png(torch.rand(3, 8, 8), tmp_path / "out.png", made)
    assert read_recipe(tmp_path / "out.png") == made
    assert made["settings"] == {"class": "Settings", "steps": 28, "blocks": [1, 2]}
    assert made["versions"]["torch"] == torch.__version__.split("+")[0]
    assert set(made["versions"]) == {"torch", "diffusers", "transformers", "palimpsest"}


def test_versions_are_looked_up_once(monkeypatch):
    before = make_recipe()
    monkeypatch.setattr(module.metadata, "version", lambda package: pytest.fail(f"{package} again"))
    assert make_recipe() == before


def test_tensor_hash_sees_values_shape_and_dtype():
    x = torch.arange(6.0)
    hashes = [hash_tensor(y) for y in (x, x + 1, x.reshape(2, 3), x.to(torch.bfloat16), x > 2, torch.tensor(1.0))]
    assert len(set(hashes)) == len(hashes)
    assert hash_tensor(torch.stack([x, x], dim=1)[:, 0]) == hashes[0]  # strides do not matter
    assert len(hashes[0]) == 16


def test_folder_hash_sees_names_and_bytes_only(tmp_path):
    def write(name: str, files: dict[str, str]) -> str:
        for file, text in files.items():
            (tmp_path / name / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / file).write_text(text)
        return hash_folder(tmp_path / name)

    first = write("one", {"a.txt": "1", "sub/b.txt": "2"})
    assert write("two", {"sub/b.txt": "2", "a.txt": "1"}) == first
    assert write("three", {"a.txt": "1", "sub/b.txt": "3"}) != first
    assert write("four", {"a.txt": "1", "sub/c.txt": "2"}) != first


def test_hash_of_a_missing_folder(tmp_path):
    with pytest.raises(InputError, match="found no such folder"):
        hash_folder(tmp_path / "nothing")
