"""The renderer: a pure function from a scene to 64 x 64 pixels, in integers, so that every machine draws the same
bytes.
"""

from collections.abc import Iterable
from functools import cache, lru_cache

import numpy as np
from PIL import Image

from lib.core.errors import InputError
from lib.core.paths import DATA
from lib.world.scenes import Scene, Thing
from lib.world.vocabulary import BACKGROUNDS, PAIR_PLACES, PAIR_SIZE, PLACES, SIZES, TINTS

SIDE = 64  # pixels of a frame
ROWS, COLUMNS = np.mgrid[:SIDE, :SIDE]


@cache
def sprite(name: str, tint: str) -> Image.Image:
    """A sprite in a tint, 64 x 64, premultiplied RGBa. A tint maps luminance to black - tint - light tint."""
    path = DATA / "sprites" / f"{name}.png"
    if not path.is_file():
        raise InputError(f"sprite {name}", found=f"no file {path.name} in data/sprites", expected="`dvc pull data.dvc`")
    picture = Image.open(path).convert("RGBA")
    colour = TINTS[tint]
    if colour is not None:
        pixels = np.asarray(picture).astype(np.int32)
        light = ((77 * pixels[..., 0] + 150 * pixels[..., 1] + 29 * pixels[..., 2]) >> 8)[..., None] * 170 // 255
        tone = np.array(colour)
        pixels[..., :3] = np.where(light < 128, tone * light // 128, tone + (255 - tone) * (light - 128) // 127)
        picture = Image.fromarray(pixels.astype(np.uint8), "RGBA")
    return picture.convert("RGBa")


@lru_cache(maxsize=8192)
def stamp(name: str, tint: str, side: int, angle: int) -> np.ndarray:
    """A sprite at its final size and angle: uint16 [side, side, 4], premultiplied by alpha."""
    turned = sprite(name, tint).rotate(angle, Image.Resampling.BILINEAR) if angle else sprite(name, tint)
    return np.asarray(turned.resize((side, side), Image.Resampling.BOX)).astype(np.uint16)


def stamps(thing: Thing, pair: bool) -> list[tuple[np.ndarray, int, int]]:
    """What a thing draws, back to front: (stamp, x, y of its upper left corner)."""
    side = PAIR_SIZE if pair else SIZES[thing.size]
    x, y = (PAIR_PLACES if pair else PLACES)[thing.place]
    x, y = x + thing.dx, y + thing.dy
    parts = [(stamp(thing.sprite, thing.tint, side, thing.angle), x - side // 2, y - side // 2)]
    if thing.accessory != "none":
        small = side * 9 // 16
        lift = -side * 7 // 16 if thing.accessory == "hat" else side * 5 // 16
        parts.append((stamp(thing.accessory, "natural", small, 0), x - small // 2, y + lift - small // 2))
    return parts


@cache
def pattern_mask(pattern: str, phase: tuple[int, int]) -> np.ndarray:
    """Where the darker tone of a pattern lies: bool [64, 64, 1]."""
    x, y = COLUMNS + phase[0], ROWS + phase[1]
    drawn = {
        "plain": lambda: np.zeros_like(x, dtype=bool),
        "striped": lambda: (x + y) // 6 % 2 == 1,
        "dotted": lambda: (x % 12 - 6) ** 2 + (y % 12 - 6) ** 2 <= 10,
        "checkered": lambda: (x // 8 + y // 8) % 2 == 1,
    }
    return drawn[pattern]()[..., None]


SPOTLIGHT = (256 - np.clip((ROWS - 32) ** 2 + (COLUMNS - 32) ** 2 - 350, 0, 900) * 190 // 900)[..., None].astype(
    np.uint16
)
SCANLINE = np.where(ROWS % 4 == 0, 120, 256)[..., None].astype(np.uint16)


def _styled(frame: np.ndarray, style: str) -> np.ndarray:
    """A style filter on uint16 [64, 64, 3] of 0..255."""
    if style == "spotlight":
        return frame * SPOTLIGHT >> 8
    if style == "scanline":
        return frame * SCANLINE >> 8
    if style == "ink":  # black lines where luminance jumps
        light = (77 * frame[..., 0] + 150 * frame[..., 1] + 29 * frame[..., 2] >> 8).astype(np.int16)
        jump = np.zeros((SIDE, SIDE), np.int16)
        jump[:, 1:] += abs(light[:, 1:] - light[:, :-1])
        jump[1:] += abs(light[1:] - light[:-1])
        return np.where((jump > 36)[..., None], 20, frame)
    return frame


def _paste(frame: np.ndarray, drawn: np.ndarray, x: int, y: int) -> None:
    """Premultiplied over-composition of a stamp onto uint16 [64, 64, C], clipped to the frame."""
    side = drawn.shape[0]
    top, left, bottom, right = max(y, 0), max(x, 0), min(y + side, SIDE), min(x + side, SIDE)
    part = drawn[top - y : bottom - y, left - x : right - x]
    window = frame[top:bottom, left:right]
    channels = window.shape[-1]
    window[:] = (part[..., :3] if channels == 3 else part[..., 3:]) + window * (255 - part[..., 3:]) // 255


def render(scene: Scene) -> np.ndarray:
    """The picture of a scene: uint8 [64, 64, 3]."""
    base = np.array(BACKGROUNDS[scene.background]) + np.array(scene.tone)
    base = np.clip(base, 0, 255).astype(np.uint16)
    frame = np.where(pattern_mask(scene.pattern, scene.phase), base * 3 // 4, base)
    for thing in scene.things:
        for drawn, x, y in stamps(thing, len(scene.things) > 1):
            _paste(frame, drawn, x, y)
    return np.minimum(_styled(frame, scene.style), 255).astype(np.uint8)


def silhouette(scene: Scene, slot: int) -> np.ndarray:
    """Coverage of one thing with what it wears: uint8 [64, 64], 255 = opaque."""
    cover = np.zeros((SIDE, SIDE, 1), np.uint16)
    for drawn, x, y in stamps(scene.things[slot], len(scene.things) > 1):
        _paste(cover, drawn, x, y)
    return cover[..., 0].astype(np.uint8)


def render_all(scenes: Iterable[Scene]) -> np.ndarray:
    """Pictures of many scenes: uint8 [N, 64, 64, 3]."""
    return np.stack([render(scene) for scene in scenes])
