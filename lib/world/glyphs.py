"""Draw the sprites once from the Noto Color Emoji font (OFL-1.1) into data/sprites. Needs the font and Pillow with
raqm.

    python -m lib.world.glyphs /usr/share/fonts/truetype/noto/NotoColorEmoji.ttf

The pictures are kept under data/ with the licence; nobody needs the font again.
"""

import sys

from PIL import Image, ImageDraw, ImageFont, features

from lib.core.errors import InputError
from lib.core.paths import DATA
from lib.world.vocabulary import ACCESSORIES, CATEGORIES, HAIRS, IDENTITIES, PEOPLE, SKINS

FONT_SIZE = 109  # the only size that the font's bitmaps have
SIDE = 64  # pixels of a kept sprite


def glyph(text: str, font: ImageFont.FreeTypeFont) -> Image.Image:
    """One emoji (joined sequences too) as a square RGBA picture of SIDE pixels, cropped to its ink."""
    canvas = Image.new("RGBA", (300, 300), (0, 0, 0, 0))
    ImageDraw.Draw(canvas).text((20, 20), text, font=font, embedded_color=True)
    box = canvas.getbbox()
    width, height = box[2] - box[0], box[3] - box[1]
    side = max(width, height)
    square = Image.new("RGBA", (side, side), (0, 0, 0, 0))
    square.paste(canvas.crop(box), ((side - width) // 2, (side - height) // 2))
    return square.convert("RGBa").resize((SIDE, SIDE), Image.Resampling.BOX).convert("RGBA")


def sequences() -> dict[str, str]:
    """File stem -> emoji, for objects, accessories and people."""
    emoji = {name: e for leaves in CATEGORIES.values() for leaf in leaves.values() for name, e in leaf.items()}
    emoji |= {name: e for name, e in ACCESSORIES.items() if e}
    return emoji | {f"{p}_{s}_{h}": f"{PEOPLE[p]}{SKINS[s]}\u200d{HAIRS[h]}" for p, s, h in IDENTITIES}


def main(font_path: str) -> None:
    """Write data/sprites/<name>.png for every name."""
    if not features.check("raqm"):
        raise InputError("Pillow", found="no raqm layout", expected="raqm, which joins skin tone and hair to a person")
    font = ImageFont.truetype(font_path, FONT_SIZE, layout_engine=ImageFont.Layout.RAQM)
    folder = DATA / "sprites"
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in sequences().items():
        glyph(text, font).save(folder / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main(sys.argv[1])
