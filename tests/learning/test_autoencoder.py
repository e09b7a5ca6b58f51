"""The autoencoder: shapes, normalised latents, and the training at a handful of steps."""

import pytest
import torch

from lib.learning import autoencoder
from lib.learning.autoencoder import AutoencoderTraining, encode_all, pictures, reconstruction_psnr, to_model, train
from lib.world.render import render
from lib.world.scenes import sample_scenes

FEW = AutoencoderTraining(steps=3, batch=1, scenes=6)


def test_latents_are_a_quarter_of_the_side(tiny_vae):
    images = pictures("train", 6)
    latents = encode_all(tiny_vae, images, batch=4)
    assert (latents.shape, latents.dtype) == ((6, 16, 16, 16), torch.float16)
    assert tiny_vae.decode(latents.float()).sample.shape == (6, 3, 64, 64)


def test_one_picture_in_three_shows_two_objects():
    images = pictures("test", 9, seed=3)
    assert (images.shape, images.dtype) == ((9, 3, 64, 64), torch.uint8)
    wanted = [*sample_scenes("test", 6, seed=3), *sample_scenes("test", 3, objects=2, seed=3)]
    for image, scene in zip(images, wanted, strict=True):
        assert (image.permute(1, 2, 0).numpy() == render(scene)).all()


def test_the_models_range_is_minus_one_to_one():
    assert to_model(torch.tensor([0, 255], dtype=torch.uint8)).tolist() == [-1, 1]


def test_psnr_is_that_of_the_pictures(monkeypatch):
    """A model that is off by 16 of 255 everywhere."""

    class OffBySixteen:
        def encode(self, x: torch.Tensor):
            self.latent_dist = self
            self.x = x
            return self

        def mode(self) -> torch.Tensor:
            return self.x + 16 / 127.5

        def decode(self, z: torch.Tensor):
            self.sample = z
            return self

    images = torch.randint(0, 239, (3, 3, 64, 64), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    wanted = 20 * torch.tensor(255 / 16).log10()
    torch.testing.assert_close(reconstruction_psnr(OffBySixteen(), images), wanted.expand(3), rtol=1e-4, atol=0)


@pytest.fixture
def few_pictures(monkeypatch):
    monkeypatch.setattr(autoencoder, "pictures", lambda split, count, seed=0: pictures(split, min(count, 9), seed))


def test_a_killed_training_ends_where_an_undisturbed_one_does(tmp_path, monkeypatch, few_pictures, save_each_step):
    (tmp_path / "one").mkdir()
    (tmp_path / "other").mkdir()
    whole, found = train(tmp_path / "one", FEW)
    latents = encode_all(
        whole, pictures("train", 9, seed=1)
    ).float()  # the pictures that shift and scale are taken from
    assert latents.mean().abs() < 0.01
    assert latents.std() == pytest.approx(1, abs=0.01)
    assert 0 < found["psnr_db_worst_tenth"] <= found["psnr_db"] < 40
    assert not whole.training

    def dying(images: torch.Tensor) -> torch.Tensor:
        if (tmp_path / "other" / "checkpoint.safetensors").is_file():
            raise KeyboardInterrupt
        return to_model(images)

    with monkeypatch.context() as patch:
        patch.setattr(autoencoder, "to_model", dying)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "other", FEW)
    resumed, again = train(tmp_path / "other", FEW)
    assert all(torch.equal(value, whole.state_dict()[name]) for name, value in resumed.state_dict().items())
    assert resumed.config == whole.config
    assert {**again, "seconds": 0} == {**found, "seconds": 0}
