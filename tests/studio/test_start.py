"""The notebook `start` runs from its own folder and from the root, on models of any size, to equal bytes."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from lib.core.images import read_recipe, save_png
from lib.core.paths import ROOT
from lib.learning.autoencoder import build
from lib.learning.flux_model import TinyFlux, as_pipeline
from lib.learning.parser import Parser, save_parser
from lib.stages.outputs import check_metrics
from lib.stages.parameters import check_overrides, read_parameters
from lib.stages.sources import as_text, read_notebook, strip

SOURCE = ROOT / "notebooks" / "start.ipynb"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights in the folders' layout: tiny-flux for 64 pixels, the same for 128, a parser."""
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    flux, vae = TinyFlux(), build()
    for side in (64, 128):
        vae.register_to_config(sample_size=side)
        as_pipeline(flux, vae).save_pretrained(folder / f"flux-{side}")
    save_parser(Parser(), folder / "parser")
    save_png(torch.rand(3, 150, 200), folder / "photo.png")
    return folder


def run(folder: Path, out: Path, monkeypatch: pytest.MonkeyPatch, **overrides: Any) -> dict[str, Any]:
    """The code cells one after the other, as a kernel runs them, with `overrides` after the parameters."""
    monkeypatch.setenv("PALIMPSEST_OUT", str(out))
    monkeypatch.chdir(folder)
    notebook = read_notebook(SOURCE, "start")
    values = check_overrides(read_parameters(notebook, "start"), overrides, "start")
    space: dict[str, Any] = {}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), space)
            if "parameters" in cell["metadata"].get("tags", []):
                space |= values
    return space


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_it_runs_anywhere_to_equal_bytes(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"backbone": str(models / "flux-64"), "parser": str(models / "parser"), "photo": str(models / "photo.png")}
    folders = ROOT, ROOT / "notebooks"
    for i, folder in enumerate(folders):
        run(folder, tmp_path / str(i), monkeypatch, **given)
    first, second = (files(tmp_path / str(i)) for i in range(2))
    assert first == second
    figures = {
        f"figures/{name}.png" for name in ("cases", "result", "steps", "anchors", "edit", "own_prompt", "photograph")
    }
    assert set(first) == {"metrics.json", *figures}
    metrics = json.loads(first["metrics.json"])
    check_metrics(metrics)
    assert set(metrics["flowedit"]) >= {"attribute_accuracy", "attribute_preservation", "target_psnr"}
    assert read_recipe(tmp_path / "0" / "figures" / "edit.png")["editor"] == "flowedit"


def test_a_larger_model_gets_larger_pictures_and_no_reading(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"backbone": str(models / "flux-128"), "parser": "not/there", "photo": str(models / "photo.png")}
    space = run(ROOT, tmp_path, monkeypatch, editor="sdedit", case_index=9, **given)
    assert space["edited"].image.shape == (3, 128, 128)
    assert space["shot"].image.shape == (3, 128, 128)
    assert set(json.loads((tmp_path / "metrics.json").read_text())["sdedit"]) == {"target_psnr"}  # a style: mask is all


def test_the_source_is_stripped() -> None:
    assert SOURCE.read_text(encoding="utf-8") == as_text(strip(read_notebook(SOURCE, "start")))
