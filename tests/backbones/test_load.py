"""Opening models: what loads, in which dtype, and what one line a bad folder gives."""

import json
import shutil
import socket
import threading
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from diffusers.utils import logging as diffusers_logging

from lib.backbones import load
from lib.backbones.load import load_backbone
from lib.core.errors import InputError
from lib.core.recipe import hash_folder
from tests import tiny


def test_a_folder_is_known_by_its_content(flux_folder, sd3_folder):
    backbone = load_backbone(flux_folder, device="cpu")
    assert backbone.hash == hash_folder(flux_folder) == load_backbone(str(flux_folder), device="cpu").hash
    assert backbone.hash != load_backbone(sd3_folder, device="cpu").hash
    assert (backbone.name, backbone.device.type, backbone.dtype) == (str(flux_folder), "cpu", torch.float32)
    assert type(backbone)(backbone.pipe, name="in training").hash == "unsaved"


@pytest.mark.parametrize("build", [tiny.build_flux, tiny.build_sd3])
@pytest.mark.parametrize("stored", [torch.float16, torch.bfloat16])
def test_a_half_precision_folder_loads_wholly_in_float32(tmp_path, build: Callable, stored: torch.dtype):
    backbone = load_backbone(build(tmp_path, dtype=stored), device="cpu")
    parts = {name: part for name, part in backbone.pipe.components.items() if isinstance(part, torch.nn.Module)}
    dtypes = {name: {p.dtype for p in part.parameters()} for name, part in parts.items()}
    assert {"vae", "text_encoder", "text_encoder_2", "transformer"} <= set(dtypes)
    assert set().union(*dtypes.values()) == {torch.float32}, dtypes
    assert not any(part.training for part in parts.values())
    assert backbone.embed(["a cat"]).prompt_embeds.dtype == torch.float32


def test_the_model_may_be_in_bfloat16_and_latents_stay_in_float32(flux_folder):
    backbone = load_backbone(flux_folder, device="cpu", dtype=torch.bfloat16)
    assert backbone.dtype == backbone.embed(["a cat"]).prompt_embeds.dtype == torch.bfloat16
    x = backbone.encode(torch.rand(1, 3, 32, 32))
    v = backbone.velocity(x, 0.5, backbone.embed(["a cat"]))
    assert x.dtype == v.dtype == backbone.decode(x).dtype == torch.float32


def test_loading_is_silent_where_nobody_watches(flux_folder, capfd):
    load_backbone(flux_folder, device="cpu")
    assert capfd.readouterr() == ("", "")
    assert diffusers_logging.is_progress_bar_enabled()


def test_memory_savers(flux_folder):
    backbone = load_backbone(flux_folder, device="cpu", slicing=True, tiling=True)
    assert backbone.pipe.vae.use_slicing
    assert backbone.pipe.vae.use_tiling


def test_offloading_needs_a_gpu(flux_folder):
    with pytest.raises(InputError, match="found the CPU as its device; expected a GPU"):
        load_backbone(flux_folder, device="cpu", offload=True)


def test_unknown_guidance_mode(flux_folder):
    with pytest.raises(InputError, match="guidance_mode: found 'cfg'; expected auto or one of"):
        load_backbone(flux_folder, device="cpu", guidance_mode="cfg")


# Bad folders


def _edit_index(folder: Path, **entries) -> None:
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | entries))


def _truncate(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "no index": (lambda f: (f / "model_index.json").unlink(), "found no model_index.json"),
    "no autoencoder": (lambda f: _edit_index(f, vae=[None, None]), "found no vae in model_index.json"),
    "cut index": (lambda f: _truncate(f / "model_index.json", 40), "found an unreadable model_index.json"),
    "other class": (
        lambda f: _edit_index(f, _class_name="StableDiffusionPipeline"),
        "found pipeline class StableDiffusionPipeline; expected one of FluxPipeline, StableDiffusion3Pipeline",
    ),
    "no transformer": (lambda f: shutil.rmtree(f / "transformer"), "found no part transformer"),
    "no config": (lambda f: (f / "vae" / "config.json").unlink(), "found no vae/config.json"),
    "no weights": (
        lambda f: (f / "vae" / "diffusion_pytorch_model.safetensors").unlink(),
        "found no vae/diffusion_pytorch_model.safetensors",
    ),
    "cut weights": (
        lambda f: _truncate(f / "text_encoder_2" / "model.safetensors", -10),
        r"found \d+ bytes in text_encoder_2/model.safetensors; expected \d+ bytes",
    ),
    "cut header": (
        lambda f: _truncate(f / "transformer" / "diffusion_pytorch_model.safetensors", 100),
        "found an unreadable header in transformer/diffusion_pytorch_model.safetensors",
    ),
    "empty weights": (
        lambda f: _truncate(f / "transformer" / "diffusion_pytorch_model.safetensors", 0),
        "found an unreadable header in transformer",
    ),
    "missing shard": (
        lambda f: (f / "transformer" / "diffusion_pytorch_model.safetensors.index.json").write_text(
            json.dumps({"weight_map": {"a": "diffusion_pytorch_model-00001-of-00002.safetensors"}})
        ),
        "found no transformer/diffusion_pytorch_model-00001-of-00002.safetensors",
    ),
    "no vocabulary": (lambda f: (f / "tokenizer_2" / "tokenizer.json").unlink(), "found no vocabulary in tokenizer_2"),
    "cut vocabulary": (
        lambda f: _truncate(f / "tokenizer_2" / "tokenizer.json", 99),
        "expected a folder that diffusers",
    ),
    "no schedule": (
        lambda f: (f / "scheduler" / "scheduler_config.json").unlink(),
        "found no scheduler/scheduler_config.json",
    ),
    "weights of another shape": (
        lambda f: (f / "vae" / "config.json").write_text(
            (f / "vae" / "config.json").read_text().replace('"latent_channels": 4', '"latent_channels": 8')
        ),
        "expected a folder that diffusers can load",
    ),
}


@pytest.mark.parametrize("damage", BROKEN)
def test_a_damaged_folder_gives_one_line(flux_folder, tmp_path, damage: str):
    folder = shutil.copytree(flux_folder, tmp_path / "model")
    harm, message = BROKEN[damage]
    harm(folder)
    with pytest.raises(InputError, match=message) as caught:
        load_backbone(folder, device="cpu")
    assert str(caught.value).startswith(f"model {folder}: found ")
    assert len(str(caught.value).splitlines()) == 1


def test_a_missing_folder(tmp_path):
    with pytest.raises(InputError, match="found no such folder; expected a folder in diffusers layout"):
        load_backbone(tmp_path / "nothing")
    with pytest.raises(InputError, match=r"^model models/not-yet-trained: found no such folder"):
        load_backbone("models/not-yet-trained")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "model: found ''; expected a folder in diffusers layout, or the id of a model of the hub"),
        ("  ", "model: found ' '; expected a folder in diffusers layout"),
        ("~nosuchuser/x", "path ~nosuchuser/x: found no home folder ~nosuchuser; expected one"),
        ("lib/" + "b" * 300, f"model lib/{'b' * 300}: found File name too long; expected a folder in diffusers"),
        ("a/b..c", "model a/b..c: found no such folder, and no name that the hub allows; expected a folder in"),
    ],
)
def test_a_name_that_names_no_place(name: str, said: str):
    with pytest.raises(InputError) as caught:
        load_backbone(name)
    assert str(caught.value).startswith(said)
    assert len(str(caught.value).splitlines()) == 1


@pytest.fixture
def without_t5(sd3_folder, tmp_path) -> Path:
    folder = shutil.copytree(sd3_folder, tmp_path / "model")
    _edit_index(folder, text_encoder_3=[None, None], tokenizer_3=[None, None])
    shutil.rmtree(folder / "text_encoder_3")
    return folder


def test_a_part_left_out_on_purpose_is_fine(without_t5):
    backbone = load_backbone(without_t5, device="cpu")
    assert backbone.pipe.text_encoder_3 is None
    assert backbone.embed(["{anything}"]).prompt_embeds.shape == (1, tiny.CLIP_TOKENS + 256, 64)


def test_without_t5_a_prompt_is_as_long_as_clip_reads(without_t5, sd3):
    backbone = load_backbone(without_t5, device="cpu")
    words = ["cat"] * (tiny.CLIP_TOKENS - 2)  # and two end tokens
    backbone.embed([" ".join(words)])
    long = " ".join([*words, "cat"])
    for check in (backbone.check_prompt, lambda prompt: backbone.embed(["a cat", prompt])):
        with pytest.raises(InputError, match=r"^prompt 'cat cat .*\.\.\.': found 17 tokens; expected at most 16$"):
            check(long)
    with pytest.raises(InputError, match="prompt: found None; expected a text"):
        backbone.check_prompt(None)
    sd3.check_prompt(long)  # T5 reads what CLIP does not


# The hub


@pytest.fixture
def no_hub(tmp_path, monkeypatch) -> Path:
    """An empty cache, and a hub that is a closed port on this machine."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_model_of_the_hub_without_a_network(no_hub):
    with pytest.raises(InputError, match=r"^model some-one/some-model: found no such folder, .*none from the hub") as e:
        load_backbone("some-one/some-model")
    assert len(str(e.value).splitlines()) == 1


def test_a_hub_that_never_answers(no_hub, monkeypatch):
    monkeypatch.setattr(load, "HUB_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(InputError, match="none from the hub"):
            load_backbone("some-one/some-model")


def test_waiting_ends_even_if_the_call_does_not():
    over = threading.Event()
    assert load._within(0.01, over.wait) == "none within 0.01 s"
    over.set()
    assert load._within(60, over.wait) is None


def test_a_cached_model_of_the_hub_opens_without_a_network(no_hub, flux_folder):
    revision = "0123456789abcdef0123456789abcdef01234567"
    repository = no_hub / "models--some-one--some-model"
    shutil.copytree(flux_folder, repository / "snapshots" / revision)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(revision)
    backbone = load_backbone("some-one/some-model", device="cpu")
    assert backbone.hash == sha256(f"some-one/some-model@{revision}".encode()).hexdigest()[:16]
    (repository / "snapshots" / revision / "transformer" / "config.json").unlink()
    with pytest.raises(InputError, match="none from the hub"):
        load_backbone("some-one/some-model", device="cpu")
