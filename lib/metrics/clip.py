"""Scores by embeddings of images and texts. Four conventions that share a name elsewhere are kept apart by name here.

| function | value | scale | published with |
|---|---|---|---|
| `clip_score` | 100 cos(image, text) | [-100, 100] | ViT-L/14 (torchmetrics, PIE-Bench) |
| `hessel_clipscore` | 2.5 max(cos, 0), text after "A photo depicts" | [0, 2.5] | ViT-B/32 (Hessel et al. 2021) |
| `clip_t`, `clip_i` | cos(image, text), cos(image, reference image) | [-1, 1] | ViT-B/32 (MagicBrush) |
| `directional_similarity` | cos(change of image, change of text) | [-1, 1] | ViT-L/14 (InstructPix2Pix) |

The encoder is injected (`lib.metrics.extractors`) and prepares its images itself. Images are float32 RGB [B, 3, H, W]
in [0, 1], one text for each; anything else raises InputError. Scores are float64 [B] on the CPU, one per image: nothing
is cut at 0 unless the definition says so.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nan

from lib.core.errors import InputError
from lib.core.images import check_images
from lib.metrics.extractors import ImageTextEncoder

HESSEL_PREFIX = "A photo depicts "
SMALLEST_CHANGE = 1e-6  # of two unit vectors in float32: below it a difference is rounding


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """cos of the rows of two [B, D], float64 [B] in [-1, 1]; NaN where a row is zero or holds NaN (nothing found)."""
    a, b = _embeddings(a, "embeddings"), _embeddings(b, "embeddings")
    if a.shape != b.shape:
        raise InputError("embeddings", found=f"shapes {list(a.shape)} and {list(b.shape)}", expected="equal shapes")
    return (unit(a) * unit(b)).sum(dim=1).clamp(-1, 1)


def unit(embeddings: Tensor) -> Tensor:
    """Rows scaled to length 1, float64 on the CPU; a zero row becomes NaN."""
    embeddings = _embeddings(embeddings, "embeddings")
    return embeddings / embeddings.norm(dim=1, keepdim=True)


def clip_score(image: Tensor, texts: Sequence[str], encoder: ImageTextEncoder) -> Tensor:
    """100 cos(image, text) in [-100, 100], torchmetrics' convention before its average (which alone is cut at 0)."""
    return 100 * clip_t(image, texts, encoder)


def hessel_clipscore(image: Tensor, texts: Sequence[str], encoder: ImageTextEncoder) -> Tensor:
    """2.5 max(cos(image, "A photo depicts " + text), 0) in [0, 2.5]."""
    return 2.5 * clip_t(image, [HESSEL_PREFIX + text for text in texts], encoder).clamp(min=0)


def clip_t(image: Tensor, texts: Sequence[str], encoder: ImageTextEncoder) -> Tensor:
    """cos(image, text) in [-1, 1]."""
    check_images(image, "scored images")
    check_texts(texts, image)
    return cosine(encoder.embed_images(image), encoder.embed_texts(texts))


def clip_i(image: Tensor, reference: Tensor, encoder: ImageTextEncoder) -> Tensor:
    """cos(image, reference image) in [-1, 1]. The two may differ in size but not in number."""
    check_images(image, "scored images")
    check_images(reference, "reference images")
    return cosine(encoder.embed_images(image), encoder.embed_images(reference))


def directional_similarity(image: Tensor, source: Tensor, text: Tensor, source_text: Tensor) -> Tensor:
    """cos(f(image) - f(source), g(text) - g(source text)) in [-1, 1] from embeddings [B, D], scaled to length 1 first.

    NaN, never 0, where the images or the texts do not differ (by more than rounding): no change has no direction.
    """
    changes = []
    for after, before in ((image, source), (text, source_text)):
        if after.shape != before.shape:
            found = f"shapes {list(after.shape)} and {list(before.shape)}"
            raise InputError("embeddings", found=found, expected="equal shapes before and after the edit")
        change = unit(after) - unit(before)
        changes.append(change.masked_fill(change.norm(dim=1, keepdim=True) < SMALLEST_CHANGE, nan))
    return cosine(*changes)


def clip_directional(
    image: Tensor,
    source: Tensor,
    texts: Sequence[str],
    source_texts: Sequence[str],
    encoder: ImageTextEncoder,
) -> Tensor:
    """`directional_similarity` of images and their texts after and before the edit."""
    for name, pictures in (("scored images", image), ("reference images", source)):
        check_images(pictures, name)
    for lines in (texts, source_texts):
        check_texts(lines, image)
    images = (encoder.embed_images(pictures) for pictures in (image, source))
    return directional_similarity(*images, *(encoder.embed_texts(lines) for lines in (texts, source_texts)))


def check_texts(texts: Sequence[str], images: Tensor) -> None:
    """Raise InputError unless there is one text for each image."""
    if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
        raise InputError("texts", found=f"a {type(texts).__name__}", expected="a list of texts")
    if len(texts) != len(images):
        raise InputError("texts", found=f"{len(texts)} for {len(images)} images", expected="one for each image")


def _embeddings(x: Tensor, name: str) -> Tensor:
    if not isinstance(x, Tensor) or x.ndim != 2 or not x.is_floating_point():
        found = f"{x.dtype} {list(x.shape)}" if isinstance(x, Tensor) else f"a {type(x).__name__}"
        raise InputError(name, found=found, expected="floats [B, D]")
    return x.detach().double().cpu()
