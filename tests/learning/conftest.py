"""An untrained tiny-flux and its folder, shared by the tests of this room."""

from collections.abc import Iterator
from contextlib import nullcontext
from copy import deepcopy
from functools import partialmethod
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL

from lib.learning import autoencoder
from lib.learning.flux_model import TinyFlux, as_pipeline, save_half
from lib.learning.training import Run


@pytest.fixture(scope="session")
def tiny_vae() -> AutoencoderKL:
    """Untrained, in evaluation mode."""
    torch.manual_seed(1)
    return autoencoder.build().eval().requires_grad_(False)


@pytest.fixture(scope="session")
def tiny_flux() -> TinyFlux:
    """Untrained, its weights rounded to half precision as a saved folder's are."""
    torch.manual_seed(2)
    return TinyFlux().bfloat16().float().eval().requires_grad_(False)


@pytest.fixture(scope="session")
def tiny_flux_folder(tiny_flux: TinyFlux, tiny_vae: AutoencoderKL, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny-flux")
    save_half(deepcopy(as_pipeline(tiny_flux, tiny_vae)), folder)
    return folder


@pytest.fixture(autouse=True, scope="session")
def fast_arithmetic() -> Iterator[None]:
    """float32 where a training would take bfloat16 and the CPU has no instructions for it: 20 times faster there."""
    with pytest.MonkeyPatch.context() as patch:
        if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
            patch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
        yield


@pytest.fixture
def save_each_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints after every step, so that a run of a few can be resumed in its middle."""
    monkeypatch.setattr(Run, "steps", partialmethod(Run.steps, save_every=1))
