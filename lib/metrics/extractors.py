"""The networks that scores look through: what is asked of them, and the published ones, opened by name when wanted.

Scores take any object that has the methods below, so that tests and small models work without a download. The builders
import their libraries and fetch their weights when called; where these cannot be had, one InputError says so. Weights
from the Hugging Face hub are safetensors only. Everything runs in float32 (half precision moves a cosine in its third
digit), without gradients, on `device`.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from lib.core.errors import InputError
from lib.core.images import quantise, to_pil, to_uint8
from lib.core.paths import resolve

CLIP, DINO, DINO2 = "openai/clip-vit-large-patch14", "facebook/dino-vitb8", "facebook/dinov2-base"
VIT_SIDE = 224
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of images in [0, 1]
LPIPS_HEADS = Path(__file__).with_name("lpips_heads.safetensors")  # of LPIPS 0.1: <net>/<layer> -> [channels]
TRUNKS = {"squeeze": ("SqueezeNet", 17), "alex": ("Alexnet", 31), "vgg": ("Vgg16", 16)}  # class, smallest image side


class PerceptualNet(Protocol):
    """A trunk with LPIPS's linear heads."""

    name: str
    smallest: int  # shortest side in pixels that it takes
    heads: Sequence[Tensor]  # per layer one weight for each channel, [C_l], at least 0

    def features(self, images: Tensor) -> Sequence[Tensor]:
        """Per layer [B, C_l, h, w], of images [B, 3, H, W] in [-1, 1] after LPIPS's own shift and scale."""
        ...


class TokenKeys(Protocol):
    """A vision transformer, of which the keys of one block are read."""

    name: str

    def keys(self, images: Tensor) -> Tensor:
        """Keys [B, T, D], heads joined, of images [B, 3, H, W] after ImageNet's mean and deviation."""
        ...


class ImageEncoder(Protocol):
    """Images to vectors."""

    name: str

    def embed_images(self, images: Tensor) -> Tensor:
        """[B, D] of images [B, 3, H, W] in [0, 1]; it resizes and normalises them itself. NaN rows: nothing found."""
        ...


class ImageTextEncoder(ImageEncoder, Protocol):
    """Images and texts to vectors of one space. One that knows a few words only has `reads(text) -> bool` too."""

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """[B, D] of texts. Longer ones than it takes are cut, their end mark kept, and a warning says so."""
        ...


class CropEncoder(ImageEncoder, Protocol):
    """Images to vectors, which looks at the part of each that is asked about."""

    def embed_crops(self, images: Tensor, masks: Tensor) -> Tensor:
        """[B, D] of the crops of images [B, 3, H, W] in [0, 1] to masks bool [B, 1, H, W]. NaN: the mask is empty."""
        ...


def reads(encoder: ImageTextEncoder, text: str) -> bool:
    """Whether the encoder can read the text, however long: yes, unless it says itself that it cannot."""
    return getattr(encoder, "reads", lambda _: True)(text)


class LPIPSNet:
    """LPIPS of one name as a `PerceptualNet`: "squeeze" (PIE-Bench's), "alex" (the usual one) or "vgg".

    The heads are the published ones, beside this file (torchmetrics has them pickled). The trunk is torchvision's with
    ImageNet's weights, unless a torchmetrics trunk of that name is given.
    """

    def __init__(self, name: str = "squeeze", device: str = "cpu", trunk: nn.Module | None = None) -> None:
        from torchmetrics.functional.image import lpips

        if name not in TRUNKS:
            raise InputError("LPIPS net", found=repr(name), expected=f"one of {', '.join(TRUNKS)}")
        self.name, self._device = name, device
        class_name, self.smallest = TRUNKS[name]
        with _weights_of(f"LPIPS net {name}"):
            self._trunk = (trunk or getattr(lpips, class_name)(pretrained=True)).to(device).eval()
        heads = load_file(LPIPS_HEADS)
        self.heads = [heads[key] for key in sorted(heads) if key.startswith(f"{name}/")]  # squeeze/0 to squeeze/6

    @torch.no_grad()
    def features(self, images: Tensor) -> Sequence[Tensor]:
        return list(self._trunk(images.to(self._device)))


class HubKeys:
    """A ViT of transformers as `TokenKeys`: what the key layer of its last block puts out, caught by a hook."""

    def __init__(self, name: str, model: nn.Module, device: str = "cpu") -> None:
        self.name, self._device = name, device
        self._model = model.to(device).eval()
        layers = [part for path, part in model.named_modules() if path.endswith((".k_proj", ".attention.key"))]
        if not layers:
            raise InputError(f"model {name}", found="no key layer", expected="a ViT of transformers")
        self._caught: list[Tensor] = []
        layers[-1].register_forward_hook(lambda layer, inputs, output: self._caught.append(output))

    @torch.no_grad()
    def keys(self, images: Tensor) -> Tensor:
        self._caught.clear()
        self._model(images.to(self._device), interpolate_pos_encoding=True)
        return self._caught.pop()


def dino_keys(name: str | Path = DINO, device: str = "cpu") -> HubKeys:
    """The keys of a DINO ViT's last block (PIE-Bench: ViT-B/8, block 11, all tokens), from the hub or a folder."""
    from transformers import ViTModel

    folder = _folder_of(str(name))
    with _weights_of(f"model {name}"):
        # 1e-6 is what DINO was trained with; the converted configurations say 1e-12.
        model = ViTModel.from_pretrained(
            folder, use_safetensors=True, add_pooling_layer=False, layer_norm_eps=1e-6, dtype=torch.float32
        )
    return HubKeys(str(name), model, device)


class HubViT:
    """A ViT of transformers (DINO, DINOv2) as `ImageEncoder`: its class token, images squashed to 224 (bicubic)."""

    def __init__(self, name: str, model: nn.Module, device: str = "cpu") -> None:
        self.name, self._model, self._device = name, model.to(device).eval(), device
        self._options = (
            {"interpolate_pos_encoding": True} if model.config.model_type == "vit" else {}
        )  # others always do

    @torch.no_grad()
    def embed_images(self, images: Tensor) -> Tensor:
        from torchvision.transforms.v2 import functional  # takes a second to import

        small = functional.resize(
            quantise(images.cpu()), [VIT_SIDE, VIT_SIDE], functional.InterpolationMode.BICUBIC, antialias=True
        )
        pixels = functional.normalize(small.clamp(0, 1), list(IMAGENET_MEAN), list(IMAGENET_STD)).to(self._device)
        return self._model(pixels, **self._options).last_hidden_state[:, 0]


def hub_vit(name: str | Path = DINO2, device: str = "cpu") -> HubViT:
    """The class token of a ViT in transformers' layout (for objects' identity: DINOv2), from the hub or a folder."""
    from transformers import AutoConfig, AutoModel

    folder = _folder_of(str(name))
    with _weights_of(f"model {name}"):
        vit = AutoConfig.from_pretrained(folder).model_type == "vit"
        options = {"add_pooling_layer": False, "layer_norm_eps": 1e-6} if vit else {}  # as in `dino_keys`
        model = AutoModel.from_pretrained(folder, use_safetensors=True, dtype=torch.float32, **options)
    return HubViT(str(name), model, device)


class HubCLIP:
    """A CLIP of transformers with its own preparation: 8 bits, shorter side to 224 (bicubic), centre cut out."""

    def __init__(self, name: str, model: Any, tokenizer: Any, processor: Any, device: str) -> None:
        self.name, self._tokenizer, self._processor, self._device = name, tokenizer, processor, device
        self._model, self._longest = model.to(device).eval(), model.config.text_config.max_position_embeddings

    @torch.no_grad()
    def embed_images(self, images: Tensor) -> Tensor:
        pixels = self._processor(images=list(to_uint8(images.cpu())), return_tensors="pt")["pixel_values"]
        found = self._model.get_image_features(pixel_values=pixels.to(self._device))
        return getattr(found, "pooler_output", found)  # a bare tensor before transformers 5

    @torch.no_grad()
    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        _warn_of_cut([len(ids) > self._longest for ids in self._tokenizer(list(texts))["input_ids"]], self._longest)
        cut = {"padding": True, "truncation": True, "max_length": self._longest, "return_tensors": "pt"}
        found = self._model.get_text_features(**self._tokenizer(list(texts), **cut).to(self._device))
        return getattr(found, "pooler_output", found)


def hub_clip(name: str | Path = CLIP, device: str = "cpu") -> HubCLIP:
    """A CLIP in transformers' layout (PIE-Bench: openai/clip-vit-large-patch14), from the hub or a folder."""
    from transformers import CLIPImageProcessor, CLIPModel, CLIPTokenizer

    folder = _folder_of(str(name))
    with _weights_of(f"model {name}"):
        model = CLIPModel.from_pretrained(folder, use_safetensors=True, dtype=torch.float32)
        tokenizer, processor = (part.from_pretrained(folder) for part in (CLIPTokenizer, CLIPImageProcessor))
    return HubCLIP(str(name), model, tokenizer, processor, device)


class OpenCLIP:
    """A CLIP of open_clip with its own preparation."""

    def __init__(self, name: str, model: Any, tokenizer: Any, prepare: Any, device: str) -> None:
        self.name, self._tokenizer, self._prepare, self._device = name, tokenizer, prepare, device
        self._model, self._longest = model.to(device).eval(), model.context_length

    @torch.no_grad()
    def embed_images(self, images: Tensor) -> Tensor:
        pixels = torch.stack([self._prepare(to_pil(image)) for image in images.cpu()])
        return self._model.encode_image(pixels.to(self._device))

    @torch.no_grad()
    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        *beyond, padding = self._tokenizer([*texts, ""], context_length=self._longest + 1)[:, -1].tolist()
        _warn_of_cut([last != padding for last in beyond], self._longest)
        return self._model.encode_text(self._tokenizer(list(texts), self._longest).to(self._device))


def open_clip_encoder(name: str | Path, pretrained: str | None = None, device: str = "cpu") -> OpenCLIP:
    """A model of open_clip by architecture and weights ("ViT-L-14-quickgelu", "openai"), or a folder of its layout.

    InputError also where the weights were trained with another activation than the architecture has.
    """
    import open_clip

    folder = resolve(name)
    if not folder.is_dir() and not pretrained:
        raise InputError(f"open_clip model {name}", found="no folder and no weights named", expected="either")
    wanted = f"local-dir:{folder}" if folder.is_dir() else str(name)
    with _weights_of(f"open_clip model {name}"), warnings.catch_warnings():
        warnings.filterwarnings("error", message="QuickGELU mismatch")
        model, _, prepare = open_clip.create_model_and_transforms(
            wanted, pretrained=None if folder.is_dir() else pretrained, require_pretrained=True
        )
        tokenizer = open_clip.get_tokenizer(wanted)
    return OpenCLIP(f"{name} {pretrained or ''}".strip(), model, tokenizer, prepare, device)


class Inception:
    """The network of 2015 as torch-fidelity has it, images resized as in 2015: features for FID and KID [B, 2048]."""

    name = "inception-v3-compat"

    def __init__(self, model: nn.Module, device: str) -> None:
        self._model, self._device = model.to(device), device

    @torch.no_grad()
    def embed_images(self, images: Tensor) -> Tensor:
        return self._model(to_uint8(images).to(self._device))[0]

    @torch.no_grad()
    def class_logits(self, images: Tensor) -> Tensor:
        """[B, 1008], without the last layer's bias, as the Inception Score was defined."""
        return self._model(to_uint8(images).to(self._device))[1]


def inception_features(device: str = "cpu") -> Inception:
    """The network itself. Its file is checked against the hash in its name and read as bare tensors first."""
    from torch_fidelity import feature_extractor_inceptionv3 as inception

    with _weights_of("Inception of 2015"):
        torch.hub.load_state_dict_from_url(inception.URL_INCEPTION_V3, check_hash=True, weights_only=True)
        return Inception(inception.FeatureExtractorInceptionV3(Inception.name, ["2048", "logits_unbiased"]), device)


def _folder_of(name: str) -> Path:
    """A local folder (relative to the repository's root), the hub's cache, or a download."""
    from huggingface_hub import snapshot_download, try_to_load_from_cache

    if resolve(name).is_dir():
        return resolve(name)
    with _weights_of(f"model {name}"):
        cached = try_to_load_from_cache(name, "model.safetensors")
        if isinstance(cached, str):
            return Path(cached).parent
        from lib.backbones.load import ask_hub

        ask_hub(name)  # soon: the client's own retries may take minutes
        return Path(snapshot_download(name, allow_patterns=["*.json", "*.txt", "*.safetensors"]))


@contextmanager
def _weights_of(thing: str) -> Iterator[None]:
    """Whatever goes wrong while weights are fetched and opened becomes one InputError."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # every library and the network raise their own
        found = f"{type(error).__name__}: {(str(error).strip().splitlines() or ['no message'])[0][:160]}"
        raise InputError(thing, found=found, expected="weights that can be fetched and opened") from error


def _warn_of_cut(cut: Sequence[bool], longest: int) -> None:
    if any(cut):
        warnings.warn(f"{sum(cut)} of {len(cut)} texts cut to {longest} tokens, end mark kept", stacklevel=3)
