"""Seeded small stand-ins for the networks (shared by the tests next door), and the real wrappers on random weights."""

import json
import zlib

import pytest
import torch
from torch import nn
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, Dinov2Config, Dinov2Model, ViTConfig, ViTModel

from lib.core.errors import InputError
from lib.core.images import to_uint8
from lib.metrics import extractors
from lib.metrics.clip import clip_t
from lib.metrics.extractors import (
    HubKeys,
    Inception,
    LPIPSNet,
    dino_keys,
    hub_clip,
    hub_vit,
    inception_features,
    open_clip_encoder,
)
from tests.tiny import CLIP_TOKENS, clip_tokenizer

WIDTH = 12


def seeded(module: nn.Module, seed: int = 0, spread: float = 0.3) -> nn.Module:
    """The module with weights drawn by a generator of its own."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.data.copy_(spread * torch.randn(parameter.shape, generator=generator))
    return module.eval().requires_grad_(False)


class TwoConvs:
    """A `PerceptualNet` of two convolutions and random heads; it keeps what it was shown."""

    name, smallest = "two-convs", 8

    def __init__(self):
        self.first = seeded(nn.Conv2d(3, 6, 3, stride=2, padding=1), 1)
        self.second = seeded(nn.Conv2d(6, 8, 3, stride=2, padding=1), 2)
        self.heads = [torch.rand(c, generator=torch.Generator().manual_seed(c)) for c in (6, 8)]
        self.shown = []

    def features(self, images):
        self.shown.append(images)
        first = self.first(images).relu()
        return [first, self.second(first).relu()]


class TwoLayerKeys:
    """`TokenKeys` of a small ViT: patches of 32 pixels, one mixing layer, keys. It keeps what it was shown."""

    name = "two-layer-vit"

    def __init__(self):
        self.patches = seeded(nn.Conv2d(3, WIDTH, 32, stride=32), 3, spread=0.02)
        self.mix = seeded(nn.TransformerEncoderLayer(WIDTH, 2, WIDTH, batch_first=True, dropout=0.0), 4)
        self.key = seeded(nn.Linear(WIDTH, WIDTH), 5)
        self.shown = []

    def keys(self, images):
        self.shown.append(images)
        return self.key(self.mix(self.patches(images).flatten(2).mT))


class Pooled:
    """An `ImageTextEncoder`: images by a coarse picture of themselves, texts by a random vector each."""

    name = "pooled"

    def __init__(self):
        self.project = seeded(nn.Linear(3 * 4 * 4, WIDTH), 6, spread=1.0)
        self.shown, self.told = [], []

    def embed_images(self, images):
        self.shown.append(images)
        return self.project(nn.functional.adaptive_avg_pool2d(images, 4).flatten(1))

    def embed_texts(self, texts):
        self.told.append(list(texts))
        seeds = [zlib.crc32(text.encode()) for text in texts]
        return torch.stack([torch.randn(WIDTH, generator=torch.Generator().manual_seed(seed)) for seed in seeds])


def pictures(n=3, height=40, width=48, noise=0.1, seed=0):
    """Edited images, sources and masks of a random rectangle each."""
    generator = torch.Generator().manual_seed(seed)
    source = torch.rand(n, 3, height, width, generator=generator)
    image = (source + noise * torch.randn(source.shape, generator=generator)).clamp(0, 1)
    mask = torch.zeros(n, 1, height, width, dtype=torch.bool)
    for row in mask:
        top, left = (int(torch.randint(4, side // 2, (), generator=generator)) for side in (height, width))
        row[:, top : top + height // 3, left : left + width // 4] = True
    return image, source, mask


BAD_IMAGES = {
    "0 to 255": lambda x: x * 255,
    "-1 to 1": lambda x: 2 * x - 1,
    "four channels": lambda x: torch.cat([x, x[:, :1]], dim=1),
    "channels last": lambda x: x.permute(0, 2, 3, 1),
    "uint8": lambda x: (x * 255).to(torch.uint8),
    "another size": lambda x: torch.cat([x, x], dim=3),
}


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory):
    folder, tokenizer = tmp_path_factory.mktemp("clip"), clip_tokenizer()
    size = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": 0}
    text = {**size, **ends, "vocab_size": len(tokenizer), "max_position_embeddings": CLIP_TOKENS}
    vision = {**size, "image_size": 32, "patch_size": 16}
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8))
    seeded(model).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=32).save_pretrained(folder)
    return folder


def test_hub_clip_is_the_model_on_its_own_preparation(clip_folder):
    encoder, model = hub_clip(clip_folder), CLIPModel.from_pretrained(clip_folder)
    image = pictures(n=2, height=32, width=32)[0]
    mean, std = (torch.tensor(getattr(CLIPImageProcessor, name))[:, None, None] for name in ("image_mean", "image_std"))
    pixels = (to_uint8(image).float() / 255 - mean) / std  # 32 pixels already: nothing to resize
    with torch.no_grad():
        wanted = model.get_image_features(pixel_values=pixels).pooler_output
    assert torch.allclose(encoder.embed_images(image), wanted, atol=1e-5)
    assert encoder.embed_images(torch.rand(1, 3, 50, 41)).shape == (1, 8)
    assert clip_t(image, ["a cat", "a dog"], encoder).abs().max() <= 1


def test_hub_clip_keeps_the_end_of_a_text_that_is_too_long_and_says_so(clip_folder):
    encoder = hub_clip(clip_folder)
    with pytest.warns(UserWarning, match=f"1 of 2 texts cut to {CLIP_TOKENS} tokens"):
        cut, short = encoder.embed_texts(["cat " * 200, "cat dog"])
    kept = "cat " * (CLIP_TOKENS - 2)  # and the two marks
    assert torch.allclose(cut, encoder.embed_texts([kept.strip()])[0], atol=1e-6)
    assert torch.allclose(short, encoder.embed_texts(["cat dog"])[0], atol=1e-6)  # padding does not count
    assert not torch.allclose(cut, short, atol=1e-3)


@pytest.fixture(scope="module")
def vit_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vit")
    size = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4}
    seeded(ViTModel(ViTConfig(**size, image_size=32, patch_size=16), add_pooling_layer=False)).save_pretrained(folder)
    return folder


def test_hub_keys_are_the_last_block_s_key_slice(vit_folder):
    keys, images = dino_keys(vit_folder), torch.randn(2, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    model = ViTModel.from_pretrained(vit_folder, add_pooling_layer=False, layer_norm_eps=1e-6)
    last = model.layers[-1]
    inputs = []
    last.layernorm_before.register_forward_hook(lambda layer, given, output: inputs.append(output))
    with torch.no_grad():
        model(images, interpolate_pos_encoding=True)
        qkv = torch.cat([part.weight for part in (last.attention.q_proj, last.attention.k_proj, last.attention.v_proj)])
        wanted = (inputs[0] @ qkv.T)[..., 16:32] + last.attention.k_proj.bias
    found = keys.keys(images)
    assert found.shape == (2, 1 + 2 * 3, 16)  # the class token and all patches, other sizes than its own too
    assert torch.allclose(found, wanted, atol=1e-5)
    with pytest.raises(InputError, match="no key layer"):
        HubKeys("conv", nn.Conv2d(3, 3, 1))


@pytest.mark.parametrize("kind", ["vit", "dinov2"])
def test_hub_vit_is_the_class_token_of_squashed_images(kind, vit_folder, tmp_path):
    if kind == "vit":
        folder, model = vit_folder, ViTModel.from_pretrained(vit_folder, add_pooling_layer=False, layer_norm_eps=1e-6)
        options = {"interpolate_pos_encoding": True}
    else:
        size = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "patch_size": 16}
        folder, model = tmp_path, seeded(Dinov2Model(Dinov2Config(**size, image_size=32)))
        model.save_pretrained(folder)
        options = {}
    encoder, image = hub_vit(folder), pictures(n=2, height=224, width=224)[0]
    mean, std = (torch.tensor(x)[:, None, None] for x in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    pixels = (to_uint8(image).float() / 255 - mean) / std  # 224 pixels already: nothing to resize
    with torch.no_grad():
        wanted = model.eval()(pixels, **options).last_hidden_state[:, 0]
    assert torch.allclose(encoder.embed_images(image), wanted, atol=1e-5)
    assert encoder.embed_images(torch.rand(1, 3, 50, 41)).shape == (1, 16)
    assert encoder.name == str(folder)
    with pytest.raises(InputError, match="image"):
        encoder.embed_images(image * 255)


def test_inception_gives_features_and_logits():
    class Both(nn.Module):
        def forward(self, x):
            assert x.dtype == torch.uint8
            return x.float().mean(dim=(2, 3)), x.flatten(1).float()

    network, image = Inception(Both(), "cpu"), pictures()[0]
    assert network.embed_images(image).shape == (3, 3)
    assert network.class_logits(image).shape == (3, 3 * 40 * 48)


def test_open_clip_opens_a_folder_of_its_layout(tmp_path):
    open_clip = pytest.importorskip("open_clip")
    from safetensors.torch import save_file

    config = {
        "embed_dim": 8,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 16, "head_width": 8, "patch_size": 16},
        "text_cfg": {"context_length": 10, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
    }
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
    with pytest.raises(InputError, match="open_clip model"):
        open_clip_encoder(tmp_path)  # no weights
    model = seeded(open_clip.model.CLIP(**config), spread=0.1)
    save_file(model.state_dict(), tmp_path / "open_clip_model.safetensors")
    encoder = open_clip_encoder(tmp_path)
    with pytest.warns(UserWarning, match="1 of 2 texts cut to 10 tokens"):
        found = encoder.embed_texts(["a cat", "cat " * 60])
    tokens = torch.zeros(2, 10, dtype=torch.long)
    start, a, cat, end = 49406, 320, 2368, 49407
    tokens[0, :4] = torch.tensor([start, a, cat, end])
    tokens[1] = torch.tensor([start, *[cat] * 8, end])
    assert torch.allclose(found, model.encode_text(tokens), atol=1e-6)
    assert encoder.embed_texts(["cat " * 8]).shape == (1, 8)  # ten tokens fit: no warning
    assert encoder.embed_images(pictures()[0]).shape == (3, 8)


@pytest.mark.parametrize("name", ["squeeze", "alex", "vgg"])
def test_the_published_heads(name):
    from torchmetrics.functional.image.lpips import _NoTrainLpips

    net, reference = LPIPSNet(name, trunk=nn.Identity()), _NoTrainLpips(net=name, pnet_rand=True)
    for layer, head in enumerate(net.heads):
        assert head.equal(getattr(reference, f"lin{layer}").model[1].weight.detach().flatten())
    assert len(net.heads) == reference.L
    widths = {"squeeze": [64, 128, 256, 384, 384, 512, 512], "alex": [64, 192, 384, 256, 256]}
    assert [len(head) for head in net.heads] == widths.get(name, [64, 128, 256, 512, 512])
    assert all((head >= 0).all() for head in net.heads)


def test_weights_that_cannot_be_had_are_one_clear_error(tmp_path, monkeypatch):
    def offline(*args, **kwargs):
        raise OSError("no route\nto host")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", offline)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", offline)
    monkeypatch.setattr(extractors, "resolve", lambda name: tmp_path / "none")
    for build, thing in (
        (lambda: LPIPSNet("squeeze"), "LPIPS net squeeze"),
        (inception_features, "Inception of 2015"),
        (lambda: hub_clip("nobody/nothing"), "model nobody/nothing"),
        (lambda: dino_keys("nobody/nothing"), "model nobody/nothing"),
        (lambda: hub_vit("nobody/nothing"), "model nobody/nothing"),
    ):
        with pytest.raises(InputError, match=f"^{thing}: found .*no route"):
            build()
    with pytest.raises(InputError, match="LPIPS net: found 'vgg19'"):
        LPIPSNet("vgg19")
    with pytest.raises(InputError, match="no weights named"):
        open_clip_encoder("ViT-L-14-quickgelu")


def test_an_empty_or_unsafe_folder_is_refused(tmp_path, vit_folder):
    with pytest.raises(InputError, match="model "):
        hub_clip(tmp_path)
    (tmp_path / "config.json").write_text((vit_folder / "config.json").read_text())
    torch.save(
        ViTModel.from_pretrained(vit_folder, add_pooling_layer=False).state_dict(), tmp_path / "pytorch_model.bin"
    )
    with pytest.raises(InputError, match="model "):
        dino_keys(tmp_path)  # pickled weights are not opened
