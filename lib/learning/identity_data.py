"""What identity encoders are trained and verified on, and what their two trainings share.

An identity is a person with skin and hair, or a noun with a tint. Held out are the world's people of the test and tune
splits, and about 15 % of the (noun, tint) combinations for each: none of them is seen in training, in any scene.
"""

from collections.abc import Callable
from dataclasses import replace
from hashlib import blake2b
from itertools import product
from pathlib import Path
from random import Random
from typing import Protocol

import torch
from torch import Tensor, nn

from lib.core.paths import MODELS, RUNS
from lib.learning.gates import Gate, check_gates, write_card, write_metrics
from lib.learning.identity import (
    MARGIN,
    IdentityEncoder,
    Pairs,
    best_threshold,
    crop_to_mask,
    load_identity,
    save_identity,
    similarities,
    verification_accuracy,
)
from lib.learning.parser import to_unit
from lib.learning.training import Run, step_generator, warm_stable_decay
from lib.world.render import render_all, silhouette
from lib.world.scenes import Scene, Thing, sample_scene, scene_split
from lib.world.vocabulary import HELD_OUT_IDENTITIES, IDENTITIES, OBJECTS, PEOPLE, SPLITS, TINTS, tints_of

Identity = tuple[str, ...]  # (person, skin, hair) or (noun, tint)
KINDS: dict[str, tuple[Identity, ...]] = {
    "people": IDENTITIES,
    "objects": tuple((noun, tint) for noun, tint in product(OBJECTS, TINTS) if tint in tints_of(noun)),
}
PEOPLE_SHARE = 0.4  # share of people among the identities of a batch
WHOLE_SHARE = 0.5  # share of one-thing scenes that are seen whole, not as a crop
SHIPPED_SEEDS = {"identity-a": 1, "identity-b": 2}  # their weights were trained with the augmentation of seed 0


def identity(thing: Thing) -> Identity:
    """What stays the same wherever a thing stands, whatever its size and whatever it wears."""
    return (thing.noun, thing.skin, thing.hair) if thing.noun in PEOPLE else (thing.noun, thing.tint)


def identity_split(who: Identity) -> str:
    """Split of an identity: people as in the world, objects by (noun, tint): about 15 % test, 15 % tune, else train."""
    if who[0] in PEOPLE:
        return next((split for split, held_out in HELD_OUT_IDENTITIES.items() if who in held_out), "train")
    bucket = int.from_bytes(blake2b("|".join(("identity", *who)).encode(), digest_size=4).digest(), "big") % 20
    return "test" if bucket < 3 else "tune" if bucket < 6 else "train"


def scene_with(who: Identity, rng: Random) -> tuple[Scene, int]:
    """A random scene with this identity in it, and its slot; one scene in three has two objects."""
    scene = sample_scene(rng, 2 if rng.random() < 1 / 3 else 1)
    slot = rng.randrange(len(scene.things))
    person = who[0] in PEOPLE
    words = dict(zip(("noun", "skin", "hair") if person else ("noun", "tint"), who, strict=True))
    bare = {"tint": "natural", "accessory": "none"} if person else {"skin": None, "hair": None}
    thing = replace(scene.things[slot], **(bare | words))
    return replace(scene, things=(*scene.things[:slot], thing, *scene.things[slot + 1 :])), slot


def training_scene(who: Identity, rng: Random) -> tuple[Scene, int]:
    """As `scene_with`, of the train split and with no held-out identity beside it."""
    while True:
        scene, slot = scene_with(who, rng)
        if scene_split(scene) == "train" and all(identity_split(identity(each)) == "train" for each in scene.things):
            return scene, slot


def view(scene: Scene, slot: int, *, whole: bool, margin: float = MARGIN) -> Tensor:
    """What an encoder sees of a thing: the whole picture or the crop to its silhouette, float32 [1, 3, 64, 64]."""
    image = to_unit(render_all([scene]))
    return image if whole else crop_to_mask(image, torch.from_numpy(silhouette(scene, slot) > 0)[None, None], margin)


def identities(kind: str, split: str) -> list[Identity]:
    """The identities of one kind ("people", "objects") and split."""
    return [who for who in KINDS[kind] if identity_split(who) == split]


CLASSES = [*identities("people", "train"), *identities("objects", "train")]  # the labels of a training


def training_views(rng: Random, count: int, each: int) -> tuple[Tensor, Tensor]:
    """Views [count * each, 3, 64, 64] of `count` identities and their labels, places in CLASSES.

    Objects come in threes of one noun or one tint, so that a batch holds what is easily confused.
    """
    people = identities("people", "train")
    chosen = rng.sample(people, round(count * PEOPLE_SHARE))
    objects = identities("objects", "train")
    while len(chosen) < count:
        first = rng.choice(objects)
        position = rng.randrange(2)
        alike = [who for who in objects if who[position] == first[position]]
        chosen += [who for who in rng.sample(alike, min(3, len(alike))) if who not in chosen][: count - len(chosen)]
    views = []
    for who in chosen * each:
        scene, slot = training_scene(who, rng)
        whole = len(scene.things) == 1 and rng.random() < WHOLE_SHARE
        views.append(view(scene, slot, whole=whole, margin=rng.uniform(0, 0.35)))
    return torch.cat(views), torch.tensor([CLASSES.index(who) for who in chosen] * each)


def one_apart(one: Identity, other: Identity) -> bool:
    """Whether two identities of one kind differ in exactly one word."""
    return sum(a != b for a, b in zip(one, other, strict=True)) == 1


def verification_pairs(kind: str, split: str, count: int, *, close: bool = False) -> Pairs:
    """`count` pairs of views of a kind, half of them of the same identity, the same on every run.

    Every identity is a held-out one of `split`; if `close`, the other of a different pair is any that differs in one
    word (a woman's hair, a cat's tint), of any split. Scenes are free: any background, style, place, size, company.
    """
    rng = Random(f"verification/{kind}/{split}/{close}")
    own = identities(kind, split)
    pairs: list[list[Tensor]] = [[], []]
    same = [index % 2 == 0 for index in range(count)]
    for alike in same:
        who = rng.choice(own)
        others = [each for each in (KINDS[kind] if close else own) if each != who]
        other = who if alike else rng.choice([each for each in others if not close or one_apart(who, each)])
        for side, each in zip(pairs, (who, other), strict=True):
            scene, slot = scene_with(each, rng)
            side.append(view(scene, slot, whole=len(scene.things) == 1 and rng.random() < WHOLE_SHARE))
    return Pairs(torch.cat(pairs[0]), torch.cat(pairs[1]), torch.tensor(same))


class Objective(Protocol):
    """A module with an `encoder` and a loss of embeddings [B, D] and labels [B]."""

    encoder: IdentityEncoder

    def loss(self, embeddings: Tensor, labels: Tensor) -> Tensor: ...


class Settings(Protocol):
    """What both trainings' settings have."""

    steps: int
    identities: int
    views: int
    lr: float
    seed: int
    ship_accuracy: float
    goal_accuracy: float


def train(
    scratch: Path,
    objective: nn.Module,
    settings: Settings,
    augment: Callable[[Tensor, torch.Generator], Tensor],
    title: str,
) -> float:
    """Train (or resume) `objective` in `scratch`, every batch rendered afresh; it is left averaged. Returns seconds."""
    optimizer = torch.optim.AdamW(objective.parameters(), lr=settings.lr, weight_decay=1e-4)
    run = Run(scratch, objective, [optimizer], ema_decay=0.995)
    seed = 0 if settings.seed == SHIPPED_SEEDS.get(title) else settings.seed
    for step in run.steps(settings.steps, title):
        images, labels = training_views(Random(f"{title}/{settings.seed}/{step}"), settings.identities, settings.views)
        with torch.autocast("cpu", torch.bfloat16):
            embeddings = objective.encoder.embed(augment(images, step_generator(seed, step, title)))
        loss = objective.loss(embeddings, labels)
        run.update(loss, warm_stable_decay(step, settings.steps), clip=5.0)
        if step % 50 == 0:
            run.note(loss=loss.item())
    objective.load_state_dict(run.ema)
    objective.eval().requires_grad_(False)
    return run.seconds


def judge(encoder: IdentityEncoder, count: int = 1000) -> dict[str, float]:
    """Set the encoder's threshold on the tune split; verification accuracies on the test split, `count` pairs each."""
    tune = [verification_pairs(kind, "tune", count // 2) for kind in KINDS]
    found = torch.cat([similarities(encoder, pairs) for pairs in tune])
    encoder.threshold = best_threshold(found, torch.cat([pairs.same for pairs in tune]))
    measured = {}
    for kind in KINDS:
        for close in (False, True):
            pairs = verification_pairs(kind, "test", count, close=close)
            accuracy = verification_accuracy(similarities(encoder, pairs), pairs.same, encoder.threshold)
            measured[f"{kind}_one_word_apart" if close else kind] = accuracy
    return measured


def finish(
    scratch: Path, encoder: IdentityEncoder, settings: Settings, seconds: float, title: str, what: str
) -> dict[Path, Path]:
    """Judge what is kept; write the folder, the card and the metrics. Returns finished output -> final place."""
    folder = scratch / title
    save_identity(encoder, folder)
    kept = load_identity(folder)
    measured = judge(kept)
    gates = [Gate(kind, measured[kind], settings.ship_accuracy, settings.goal_accuracy) for kind in KINDS]
    check_gates(gates, title)
    save_identity(kept, folder)  # now with its threshold
    held_out = {kind: [len(identities(kind, split)) for split in SPLITS] for kind in KINDS}
    about = {
        "What": f"{what} {sum(p.numel() for p in kept.parameters()) / 1e6:.2f} M parameters; a picture of 64 x 64 or "
        "the crop to a mask becomes a unit vector of 64 numbers. Same identity: a cosine of at least "
        f"{kept.threshold:.3f}, chosen on the tune split.",
        "Data": f"{settings.steps * settings.identities * settings.views} fresh renders of the train split. Identities "
        f"to train, tune and test on: people (person, skin, hair) {held_out['people']}, objects (noun, tint) "
        f"{held_out['objects']}.",
        "Limits": "The gates are verification accuracies of balanced same and different pairs of held-out identities, "
        "in whole pictures and crops, in any scene. Where the different one is only one word away: people "
        f"{measured['people_one_word_apart']:.1%}, objects {measured['objects_one_word_apart']:.1%}. A whole picture "
        "should show one thing: crop to a mask otherwise.",
        "Time": f"{seconds / 60:.0f} minutes on one CPU core.",
    }
    write_card(folder, title, about, gates)
    metrics = write_metrics(scratch / "metrics.json", measured)
    return {folder: MODELS / title, metrics: RUNS / title / "metrics.json"}
