"""Fixtures that several rooms share: the random tiny pipelines, built once per session."""

import os
from pathlib import Path

import pytest
import torch

from lib.backbones.base import Backbone
from lib.backbones.load import load_backbone
from tests import tiny

torch.set_num_threads(1)
# One thread for each process that a test starts, too: several tests run at once.
os.environ |= {"OMP_NUM_THREADS": "1", "PALIMPSEST_THREADS": "1"}


@pytest.fixture(scope="session")
def flux_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.build_flux(tmp_path_factory.mktemp("flux"))


@pytest.fixture(scope="session")
def sd3_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.build_sd3(tmp_path_factory.mktemp("sd3"))


@pytest.fixture(scope="session")
def flux(flux_folder: Path) -> Backbone:
    """Guidance is distilled: an embedding."""
    return load_backbone(flux_folder, device="cpu")


@pytest.fixture(scope="session")
def flux_cfg(flux_folder: Path) -> Backbone:
    """The same weights under classifier-free guidance."""
    return load_backbone(flux_folder, device="cpu", guidance_mode="classifier-free")


@pytest.fixture(scope="session")
def sd3(sd3_folder: Path) -> Backbone:
    return load_backbone(sd3_folder, device="cpu")


@pytest.fixture(scope="session", params=["flux", "flux_cfg", "sd3"])
def backbone(request: pytest.FixtureRequest) -> Backbone:
    """Each of the three in turn."""
    return request.getfixturevalue(request.param)
