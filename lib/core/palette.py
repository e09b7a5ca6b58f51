"""Pictures of few colours: a drawing takes a quarter of the bytes in a palette of 256, and nobody sees it."""

from __future__ import annotations

import numpy as np
from PIL import Image

SAMPLE = 100_000  # pixels that a palette is made from: k-means over all of a large figure takes a minute
WHITE = 255


def with_palette(image: Image.Image, tolerance: float) -> Image.Image:
    """An RGB picture in 256 colours, or as it is if these come no closer than `tolerance`. The same every time.

    `tolerance` is the root mean square error in levels of 255, over the pixels that are not white. White stays white.
    """
    sparse = min(1.0, (SAMPLE / (image.width * image.height)) ** 0.5)
    sides = max(1, round(image.width * sparse)), max(1, round(image.height * sparse))
    sample = image.resize(sides, Image.Resampling.NEAREST)
    palette = sample.quantize(256, method=Image.Quantize.MEDIANCUT, kmeans=1, dither=Image.Dither.NONE)
    few = image.quantize(palette=palette, dither=Image.Dither.NONE)
    pixels = np.asarray(image, dtype=np.float32)
    inked = (pixels < WHITE).any(axis=2)
    if not inked.all():  # the paper stays white, not nearly white
        colours, indices = np.reshape(palette.getpalette(), (-1, 3)), np.array(few)
        white = int(colours.sum(axis=1).argmax())
        colours[white], indices[~inked] = WHITE, white
        few = Image.fromarray(indices).convert("P")
        few.putpalette(colours.ravel().tolist())
    error = pixels - np.asarray(few.convert("RGB"), dtype=np.float32)
    close = not inked.any() or float(np.sqrt((error[inked] ** 2).mean())) <= tolerance
    return few if close else image
