"""`tiny-clip`: an OpenCLIP model of the world, the judge of how well a picture and a caption agree.

A ResNet and a text transformer trained with the symmetric contrastive loss of CLIP (Radford et al. 2021, Fig. 3).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import torch
from open_clip.model import CLIP
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F

from lib.core.errors import InputError
from lib.core.paths import MODELS, RUNS, resolve
from lib.learning.gates import Gate, check_gates, write_card, write_metrics
from lib.learning.parser import degrade, to_unit
from lib.learning.training import Run, step_generator, stream_seed, warm_stable_decay
from lib.world.language import MAX_WORDS, caption, training_caption, vocabulary
from lib.world.render import SIDE, render_all
from lib.world.scenes import Scene, Thing, sample_scene, sample_scenes, scene_split
from lib.world.vocabulary import PEOPLE, tints_of

CONFIG, WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"  # open_clip's own names
FOLDER = "a folder made by the stage `tiny-clip`"
MAX_LOGIT_SCALE = 100.0  # CLIP's bound on 1 / temperature
GROUND = ("background", "pattern", "style", "things")  # fields of a scene
VARIED = (*GROUND, "noun", "tint", "size", "place", "accessory", "skin", "hair")  # the others are fields of a thing


def word_tokenizer() -> Tokenizer:
    """One token per word of the world, between <start> and <end>. <end> has the highest id: CLIP pools there."""
    from tokenizers import models, normalizers, pre_tokenizers, processors

    vocab = {word: index for index, word in enumerate(("<pad>", "<unk>", "<start>", *vocabulary(), "<end>"))}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    ends = [(token, vocab[token]) for token in ("<start>", "<end>")]
    tokenizer.post_processor = processors.TemplateProcessing(single="<start> $A <end>", special_tokens=ends)
    return tokenizer


def configuration() -> dict[str, object]:
    """The untrained model in open_clip's words: pictures of 64 x 64, captions of up to 23 words."""
    return {
        "embed_dim": 128,
        "vision_cfg": {"image_size": SIDE, "layers": [1, 1, 1, 1], "width": 16, "head_width": 64, "patch_size": None},
        "text_cfg": {
            "context_length": MAX_WORDS + 2,
            "vocab_size": word_tokenizer().get_vocab_size(),
            "hf_tokenizer_name": "tokenizer.json",  # any name: open_clip then reads the tokenizer of the folder
            "width": 128,
            "heads": 4,
            "layers": 2,
        },
    }


class TinyClip(nn.Module):
    """An OpenCLIP model with its tokenizer. Embeddings are unit vectors; gradients flow through both towers."""

    def __init__(self, config: dict[str, object], tokenizer: Tokenizer) -> None:
        super().__init__()
        self.config, self.tokenizer = config, tokenizer
        self.model = CLIP(**config)
        self.side: int = config["vision_cfg"]["image_size"]

    def tokens(self, texts: Sequence[str]) -> Tensor:
        """Token ids [B, context_length], padded with 0.

        Raises:
            InputError: for a text without words, with a word that the world does not have, or with too many.
        """
        known = self.tokenizer.get_vocab()
        ids = torch.zeros(len(texts), self.model.context_length, dtype=torch.long)
        for row, text in enumerate(texts):
            words = text.lower().split()
            strange = [word for word in words if word not in known]
            if strange or not words:
                found = f"unknown words {', '.join(map(repr, strange))}" if strange else "no word"
                raise InputError(f"caption {text[:60]!r} for tiny-clip", found=found, expected="words of the world")
            if len(words) > ids.shape[1] - 2:
                expected = f"at most {ids.shape[1] - 2}"
                raise InputError(f"caption {text[:60]!r} for tiny-clip", found=f"{len(words)} words", expected=expected)
            encoded = self.tokenizer.encode(text).ids
            ids[row, : len(encoded)] = torch.tensor(encoded)
        return ids

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors [B, D] of captions; errors as in `tokens`."""
        return self.model.encode_text(self.tokens(texts).to(self.model.logit_scale.device), normalize=True)

    def embed_images(self, images: Tensor) -> Tensor:
        """Unit vectors [B, D] of pictures [B, 3, H, W] in [0, 1], resized (squashed if not square) to the input size.

        Raises:
            InputError: for another layout.
        """
        if images.ndim != 4 or images.shape[1] != 3:
            raise InputError("picture for tiny-clip", found=list(images.shape), expected="[B, 3, H, W]")
        if images.shape[2:] != (self.side, self.side):
            images = F.interpolate(images, (self.side, self.side), mode="bilinear", antialias=True)
        return self.model.encode_image(images * 2 - 1, normalize=True)


def save_clip(clip: TinyClip, folder: Path) -> None:
    """Half-precision weights, configuration and tokenizer; `open_clip` opens the folder as "local-dir:<folder>"."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {k: (v.half() if v.is_floating_point() else v).contiguous() for k, v in clip.model.state_dict().items()}
    save_file(state, folder / WEIGHTS, {"format": "pt"})
    picture = {"size": clip.side, "mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bilinear"}
    config = {"model_cfg": clip.config, "preprocess_cfg": picture | {"resize_mode": "squash"}}
    (folder / CONFIG).write_text(json.dumps(config, indent=1) + "\n")
    clip.tokenizer.save(str(folder / "tokenizer.json"))
    special = {"pad_token": "<pad>", "unk_token": "<unk>", "bos_token": "<start>", "eos_token": "<end>"}
    named = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": clip.model.context_length} | special
    (folder / "tokenizer_config.json").write_text(json.dumps(named, indent=1) + "\n")


def load_clip(folder: str | Path) -> TinyClip:
    """The trained model of a folder, in evaluation mode, float32.

    Raises:
        InputError: for a missing folder or file, a folder of something else, or unreadable weights.
    """
    folder = resolve(folder)
    for name in (CONFIG, WEIGHTS, "tokenizer.json"):
        if not (folder / name).is_file():
            raise InputError(f"tiny-clip {folder.name}", found=f"no {name}", expected=FOLDER)
    try:
        config = json.loads((folder / CONFIG).read_text())["model_cfg"]
        clip = TinyClip(config, Tokenizer.from_file(str(folder / "tokenizer.json")))
        stored = load_file(folder / WEIGHTS)
        clip.model.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in stored.items()})
    except Exception as error:  # tokenizers raises no narrower class
        raise InputError(f"tiny-clip {folder.name}", found=f"{error!r:.200}", expected=FOLDER) from error
    return clip.eval().requires_grad_(False)


@dataclass(frozen=True)
class ClipTraining:
    """Settings of the training; gates in share of held-out pictures whose own caption of 256 is the nearest."""

    steps: int = 1200
    batch: int = 128  # half of it are variants of the other half
    lr: float = 2e-3
    seed: int = 0
    noise: float = 0.05  # largest deviation of the noise added to pictures
    ship_retrieval: float = 0.90
    goal_retrieval: float = 0.95


def contrastive_loss(images: Tensor, texts: Tensor, scale: Tensor, captions: Sequence[str]) -> Tensor:
    """Mean of both directions' cross-entropy over cosine * scale; embeddings [B, D], unit length.

    Row i's positive is text i alone. Where another row has the same caption, it is left out: neither right nor wrong.
    """
    index = {text: number for number, text in enumerate(captions)}
    same = torch.tensor([index[text] for text in captions], device=images.device)
    again = (same[:, None] == same[None]).fill_diagonal_(False)
    logits = (scale * images @ texts.T).masked_fill(again, float("-inf"))
    target = torch.arange(len(captions), device=images.device)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def variant(scene: Scene, rng: Random) -> Scene:
    """The scene with its background, pattern, style, things or one word of a thing from another random scene.

    Its caption is another one, its split the same.
    """
    words, split = caption(scene), scene_split(scene)
    while True:
        other = sample_scene(rng, len(scene.things))
        name = rng.choice(VARIED)
        slot = rng.randrange(len(scene.things))
        if name in GROUND:
            found = replace(scene, **{name: getattr(other, name)})
        else:
            thing = replace(scene.things[slot], **{name: getattr(other.things[slot], name)})
            found = replace(scene, things=(*scene.things[:slot], thing, *scene.things[slot + 1 :]))
        if all(map(_exists, found.things)) and caption(found) != words and scene_split(found) == split:
            return found


def _exists(thing: Thing) -> bool:
    """Whether the world has such a thing: people have skin and hair and no tint or accessory; others the reverse."""
    if thing.noun in PEOPLE:
        return None not in (thing.skin, thing.hair) and (thing.tint, thing.accessory) == ("natural", "none")
    return thing.skin is thing.hair is None and thing.tint in tints_of(thing.noun)


def training_batch(settings: ClipTraining, step: int) -> tuple[list[Scene], list[str]]:
    """Scenes of the train split, one in three with two objects, each followed by its variant; and their captions."""
    half, seed = settings.batch // 2, stream_seed(settings.seed, step + 1, "scenes")
    scenes = [*sample_scenes("train", half - half // 3, seed=seed)]
    scenes += sample_scenes("train", half // 3, objects=2, seed=seed)
    rng = Random(f"tiny-clip/{settings.seed}/{step}")
    scenes = [each for scene in scenes for each in (scene, variant(scene, rng))]
    return scenes, [training_caption(scene, rng) for scene in scenes]


def held_out(count: int) -> list[Scene]:
    """Scenes of the test split with distinct captions, one in three with two objects."""
    single, pair = sample_scenes("test", 4 * count), sample_scenes("test", 2 * count, objects=2)
    first = {caption(scene): scene for scene in single}.values()
    second = {caption(scene): scene for scene in pair}.values()
    return [*list(first)[: count - count // 3], *list(second)[: count // 3]]


@torch.inference_mode()
def judge(clip: TinyClip, scenes: Sequence[Scene]) -> dict[str, float]:
    """Retrieval of the scenes' complete captions among all of them, and of each from its own variant's caption."""
    images = torch.cat([clip.embed_images(part) for part in to_unit(render_all(scenes)).split(128)])
    texts = clip.embed_texts([caption(scene) for scene in scenes])
    rng = Random("tiny-clip/variants")
    variants = clip.embed_texts([caption(variant(scene, rng)) for scene in scenes])
    own = torch.arange(len(scenes))
    return {
        "image_to_text": ((images @ texts.T).argmax(1) == own).float().mean().item(),
        "text_to_image": ((texts @ images.T).argmax(1) == own).float().mean().item(),
        "own_over_variant": ((images * texts).sum(1) > (images * variants).sum(1)).float().mean().item(),
    }


def train(scratch: Path, settings: ClipTraining) -> tuple[TinyClip, float]:
    """Train (or resume) in `scratch`, every batch rendered afresh. Returns the averaged model and seconds."""
    torch.manual_seed(settings.seed)
    clip = TinyClip(configuration(), word_tokenizer())
    optimizer = torch.optim.AdamW(clip.parameters(), lr=settings.lr, betas=(0.9, 0.98), weight_decay=1e-4)
    run = Run(scratch, clip, [optimizer], ema_decay=0.995)
    for step in run.steps(settings.steps, "tiny-clip"):
        draw = step_generator(settings.seed, step)
        scenes, captions = training_batch(settings, step)
        with torch.autocast("cpu", torch.bfloat16):
            images = clip.embed_images(degrade(to_unit(render_all(scenes)), settings.noise, draw)).float()
            texts = clip.embed_texts(captions).float()
        scale = clip.model.logit_scale.exp().clamp(max=MAX_LOGIT_SCALE)
        loss = contrastive_loss(images, texts, scale, captions)
        run.update(loss, warm_stable_decay(step, settings.steps))
        if step % 50 == 0:
            run.note(loss=loss.item(), scale=scale.item())
    clip.load_state_dict(run.ema)
    return clip.eval().requires_grad_(False), run.seconds


SETTINGS = ClipTraining
CONTINUABLE = ("steps", "ship_retrieval", "goal_retrieval")


def inputs() -> dict[str, str]:
    """What the training reads besides the world: nothing."""
    return {}


def stage(scratch: Path, settings: ClipTraining) -> dict[Path, Path]:
    """Train, judge what is kept, write the folder, the card and the metrics. Returns finished output -> final place."""
    clip, seconds = train(scratch, settings)
    folder = scratch / "tiny-clip"
    save_clip(clip, folder)
    found = judge(load_clip(folder), held_out(256))
    gates = [Gate("image to text", found["image_to_text"], settings.ship_retrieval, settings.goal_retrieval)]
    check_gates(gates, "tiny-clip")
    about = {
        "What": f"An OpenCLIP model of {sum(p.numel() for p in clip.parameters()) / 1e6:.1f} M parameters (ResNet and "
        "text transformer) for 64 x 64 pictures and captions in the world's words; it opens in open_clip too.",
        "Data": f"{settings.steps * settings.batch} fresh renders of the train split, some blurred and noisy, with "
        "their captions, some of which leave attributes unsaid. Every second scene differs from the one before in one "
        "thing or one word.",
        "Limits": "It knows the world's words only and refuses others. Retrieval is measured among 256 complete, "
        f"distinct captions of the test split; the own caption beats one with one thing or word changed in "
        f"{found['own_over_variant']:.1%} of cases.",
        "Time": f"{seconds / 60:.0f} minutes on one CPU core.",
    }
    write_card(folder, "tiny-clip", about, gates)
    metrics = write_metrics(scratch / "metrics.json", found)
    return {folder: MODELS / "tiny-clip", metrics: RUNS / "tiny-clip" / "metrics.json"}
