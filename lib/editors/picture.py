"""One picture file in, one edited picture out: the shortest way to an edit of one's own.

python -m lib.editors.picture docs/cat.png "a small blue cat on the left of a plain purple background" \\
    "a small blue dog on the left of a plain purple background" dog.png
"""

import argparse
import logging
import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lib.backbones.base import Backbone
from lib.backbones.load import load_backbone
from lib.bench.cases import EditCase
from lib.core.errors import InputError, PalimpsestError
from lib.core.images import fit_to, load_image, load_mask, save_png
from lib.editors.arguments import read_settings
from lib.editors.registry import EDITORS
from lib.editors.run import Edited, run_editor

LOG = logging.getLogger(__name__)


def edit_picture(
    picture: str | Path,
    source_prompt: str,
    target_prompt: str,
    out: str | Path,
    *,
    backbone: str | Path | Backbone,
    editor: str = "flowedit",
    settings: Mapping[str, Any] | None = None,
    mask: str | Path | None = None,
    seed: int = 0,
    max_side: int | None = None,
) -> Edited:
    """Edit a picture file and write a PNG that carries its recipe.

    The picture is shrunk to `max_side` pixels if given and cropped in the centre to the sizes that the backbone can
    read. The mask has the size of the picture as it is opened, and goes the same way.
    Raises InputError, with nothing written, for a bad file, prompt, editor, setting, backbone or place to write to;
    files and places are looked at before the backbone is loaded.
    Logs a note on a picture larger than those the model was trained on, and on words that its tokenizer spells out.
    """
    _check_place(Path(out))
    if max_side is not None and max_side < 1:
        raise InputError("--max-side (max_side)", found=max_side, expected="1 or more pixels")
    image = load_image(picture)
    region = None if mask is None else load_mask(mask, size=(image.shape[1], image.shape[2]))
    model = backbone if isinstance(backbone, Backbone) else load_backbone(backbone)
    image = fit_to(image, model.multiple, max_side)
    region = None if region is None else fit_to(region, model.multiple, max_side)
    for doubt in doubts(model, (image.shape[1], image.shape[2]), source_prompt, target_prompt):
        LOG.warning("note: %s", doubt)
    case = EditCase(
        id=Path(picture).stem,
        image=image,
        target_prompt=target_prompt,
        source_prompt=source_prompt,
        mask=region,
        benchmark="picture",
        licence="the user's own",
    )
    (edited,) = run_editor(editor, model, [case], settings, seed=seed, progress=False)
    try:
        save_png(edited.image, out, edited.recipe)
    except OSError as error:
        raise InputError(f"file {out}", found=error.strerror, expected="a place to write to") from error
    return edited


def side_of(backbone: Backbone) -> int:
    """The side in pixels of the square pictures that the model's autoencoder was trained on; 64 if it does not say."""
    return int(getattr(backbone.pipe.vae.config, "sample_size", None) or 64)


def doubts(model: Backbone, size: tuple[int, int], *prompts: str) -> Iterator[str]:
    """What the model will take without complaint and most likely not do well: a line for each."""
    side, (height, width) = side_of(model), size
    if max(size) > side:
        has = f"this one has {height} x {width}; --max-side {side} (max_side) shrinks it"
        yield f"{model.name} was trained on pictures of {side} x {side} pixels, {has}"
    tokenizer = model.t5_tokenizer()
    words = dict.fromkeys(word for prompt in prompts for word in re.findall(r"[^\W\d_]{3,}", prompt))
    spelt = [word for word in words if tokenizer is not None and _spelt_out(tokenizer, word)]
    if spelt:
        yield f"{model.name} does not know, and reads letter by letter: {', '.join(spelt)}"


def _spelt_out(tokenizer: Any, word: str) -> bool:
    pieces = [piece.strip("▁") for piece in tokenizer.tokenize(word)]
    return [piece for piece in pieces if piece] == list(word)


def _check_place(out: Path) -> None:
    """InputError if no file can be written at `out`; makes nothing."""
    if out.is_dir():
        raise InputError(f"file {out}", found="a folder", expected="the name of a PNG file to write")
    above = next((folder for folder in out.absolute().parents if os.path.lexists(folder)), Path("/"))
    if not above.is_dir():
        raise InputError(f"file {out}", found=f"{above}, which is a file", expected="a folder to write to")
    if not os.access(above, os.W_OK | os.X_OK):
        raise InputError(f"file {out}", found=f"{above}, where nothing may be written", expected="a place to write to")


def main(arguments: list[str] | None = None) -> int:
    """Command line of `edit_picture`."""
    parser = argparse.ArgumentParser(prog="python -m lib.editors.picture", description="Edit one picture by text.")
    parser.add_argument("picture", help="a file that Pillow opens")
    parser.add_argument("source_prompt", help="what it shows")
    parser.add_argument("target_prompt", help="what the edited one shall show")
    parser.add_argument("out", help="the PNG to write, with its recipe")
    parser.add_argument("--backbone", default="models/tiny-flux", help="a folder or a hub name (default: %(default)s)")
    parser.add_argument("--editor", default="flowedit", help=f"one of {', '.join(EDITORS)} (default: %(default)s)")
    parser.add_argument("--settings", nargs="*", default=[], metavar="KEY=VALUE", help="default: the paper's")
    parser.add_argument("--mask", help="a picture of its size, white where it may change, for editors that need one")
    parser.add_argument("--seed", type=int, default=0, help="of the noise (default: %(default)s)")
    parser.add_argument("--max-side", type=int, metavar="PIXELS", help="shrink the picture first")
    given = parser.parse_args(arguments)
    try:
        edited = edit_picture(**vars(given) | {"settings": read_settings(given.settings)})
    except PalimpsestError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{edited.nfe:g} transformer evaluations; wrote {given.out} with its recipe")
    return 0


if __name__ == "__main__":
    sys.exit(main())
