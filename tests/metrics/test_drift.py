"""Numbers on fixed arrays, stored for the pinned torchmetrics: an upgrade that changes a definition fails here.

SSIM changed in torchmetrics 1.4.2 and LPIPS in 1.2.1. Where a change is meant, recompute, and say so in the results.
"""

from importlib.metadata import version

import pytest
import torch

from lib.metrics import official, strict
from lib.metrics.extractors import LPIPSNet
from lib.metrics.perceptual import lpips
from lib.metrics.pixels import background_ssim
from tests.metrics.test_extractors import TwoLayerKeys, seeded


def fixed():
    """Images that no random number generator can change: products of sines, rounded to 8 bits."""
    y, x, c = torch.meshgrid(*(torch.arange(n).double() for n in (48, 56, 3)), indexing="ij")
    source = (0.5 + 0.5 * (0.31 * x + c).sin() * (0.23 * y - c).cos()).permute(2, 0, 1)[None]
    image = (source + 0.15 * (0.9 * x + 0.7 * y).sin().permute(2, 0, 1)).clamp(0, 1)
    mask = torch.zeros(1, 1, 48, 56, dtype=torch.bool)
    mask[..., 14:30, 20:41] = True
    return *(((rounded * 255).round() / 255).float() for rounded in (image, source)), mask


def test_the_numbers_are_of_this_version():
    assert version("torchmetrics") == "1.9.0"


def test_ssim():
    from torchmetrics.functional.image import structural_similarity_index_measure

    image, source, mask = fixed()
    whole = structural_similarity_index_measure(image.double(), source.double(), data_range=1.0).item()
    assert whole == pytest.approx(0.7092139048506, abs=1e-9)
    assert official.ssim(image, source, mask).item() == pytest.approx(0.8061821882318, abs=1e-9)
    assert background_ssim(image, source, mask).item() == pytest.approx(0.7035975034544, abs=1e-9)


def test_lpips():
    from torchmetrics.functional.image.lpips import SqueezeNet

    image, source, mask = fixed()
    net = LPIPSNet("squeeze", trunk=seeded(SqueezeNet(pretrained=False), spread=0.05))
    assert lpips(image, source, net).item() == pytest.approx(0.0091814013, rel=1e-4)
    assert official.lpips_part(image, source, mask, net).item() == pytest.approx(0.0073449231, rel=1e-4)
    assert strict.background_lpips(image, source, mask, net).item() == pytest.approx(0.0092423257, rel=1e-4)


def test_structure_distance():
    image, source, _ = fixed()
    assert official.structure(image, source, TwoLayerKeys()).item() == pytest.approx(9.8916e-05, rel=1e-3)
    assert strict.structure(image, source, TwoLayerKeys()).item() == pytest.approx(1.79608e-03, rel=1e-3)
