"""What every training shares: checkpoints that survive a kill, an exponential moving average, a learning-rate schedule.

A run is a pure function of (seed, step): batch indices, noise and dropout of step k are drawn from a generator keyed
by k, so a resumed run needs no generator state and ends where an undisturbed one does.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tqdm import tqdm

from lib.core.errors import InputError


def stream_seed(seed: int, step: int, stream: str = "") -> int:
    """32 bits that key what one step of a training with `seed` draws: torch's CPU generator heeds no more of them.

    Seed 0 has the step itself, as the shipped weights were trained, in every stream; any other seed has the first 4
    bytes of the SHA-256 of (stream, seed, step).
    """
    return int.from_bytes(sha256(f"{stream}/{seed}/{step}".encode()).digest()[:4], "big") if seed else step


def step_generator(seed: int, step: int, stream: str = "") -> torch.Generator:
    """The random stream of one training step; `stream` tells apart trainings that share a seed."""
    return torch.Generator().manual_seed(stream_seed(seed, step, stream))


def warm_stable_decay(step: int, total: int, *, warm: int = 200, decay: float = 0.3) -> float:
    """Learning-rate factor: linear warm-up, constant, then linear to zero over the last `decay` share.

    Until the decay begins the factor does not depend on `total`, so a checkpoint of that part serves a longer run too.
    """
    tail = max(1, int(total * decay))
    return min(1.0, (step + 1) / warm, (total - step) / tail)


def muon_and_adamw(modules: Mapping[str, nn.Module], *, muon_lr: float, adamw_lr: float) -> list[torch.optim.Optimizer]:
    """Muon on the matrices of the modules named "blocks*", AdamW on everything else.

    Muon (Jordan et al. 2024) orthogonalises the momentum of a matrix; embeddings, norms and biases are not matrices
    in its sense.
    """
    matrices, rest = [], []
    for name, module in modules.items():
        for parameter in module.parameters():
            (matrices if name.startswith("blocks") and parameter.ndim == 2 else rest).append(parameter)
    return [
        torch.optim.Muon(matrices, lr=muon_lr, momentum=0.95, weight_decay=0.0),
        torch.optim.AdamW(rest, lr=adamw_lr, betas=(0.9, 0.99), weight_decay=0.0),
    ]


def digest_of(tensors: Mapping[str, Tensor], about: str) -> str:
    """The SHA-256 of `about` and of names, types, shapes and bytes of CPU tensors, in the order of their names."""
    digest = sha256(about.encode())
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {value.dtype} {[*value.shape]}".encode())
        digest.update(value.contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


class Run:
    """A model in training with its optimisers, its moving average and its checkpoint file in `scratch`."""

    def __init__(
        self, scratch: Path, model: nn.Module, optimizers: list[torch.optim.Optimizer], *, ema_decay: float = 0.999
    ) -> None:
        self.file = scratch / "checkpoint.safetensors"
        self.log = scratch / "log.jsonl"
        self.model, self.optimizers, self.ema_decay = model, optimizers, ema_decay
        self.base_lrs = [[group["lr"] for group in optimizer.param_groups] for optimizer in optimizers]
        self.ema = {name: value.detach().clone() for name, value in model.state_dict().items()}
        self.step, self.seconds = 0, 0.0
        if self.file.is_file():
            self._load()

    def _read(self) -> tuple[dict[str, Tensor], dict[str, float]]:
        """Tensors, and step and seconds, of the checkpoint.

        Raises:
            InputError: if it cannot be read or is not, to the byte, what was saved.
        """
        try:
            stored = load_file(self.file)
            with safe_open(self.file, "pt") as handle:
                about = handle.metadata()
            damage = "" if digest_of(stored, about["run"]) == about["sha256"] else "not the bytes that were saved"
            meta = json.loads(about["run"])
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            damage = repr(error)
        if damage:
            expected = "a whole file (removing it begins anew)"
            raise InputError(f"checkpoint {self.file}", found=f"damaged weights ({damage:.200})", expected=expected)
        return stored, meta

    def _load(self) -> None:
        stored, meta = self._read()
        self.step, self.seconds = meta["step"], meta["seconds"]
        self.model.load_state_dict({k.removeprefix("model/"): v for k, v in stored.items() if k.startswith("model/")})
        self.ema = {k.removeprefix("ema/"): v for k, v in stored.items() if k.startswith("ema/")}
        for index, optimizer in enumerate(self.optimizers):
            state: dict[int, dict[str, Tensor]] = {}
            for key, value in stored.items():
                if key.startswith(f"optimizer/{index}/"):
                    _, _, parameter, name = key.split("/")
                    state.setdefault(int(parameter), {})[name] = value
            optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})

    def save(self) -> None:
        """Write the checkpoint beside the old one, then take its place: a kill leaves one or the other, whole."""
        tensors = {f"model/{k}": v for k, v in self.model.state_dict().items()} | {
            f"ema/{k}": v for k, v in self.ema.items()
        }
        for index, optimizer in enumerate(self.optimizers):
            for parameter, state in optimizer.state_dict()["state"].items():
                for name, value in state.items():
                    tensors[f"optimizer/{index}/{parameter}/{name}"] = torch.as_tensor(value)
        part = self.file.with_suffix(".part")
        tensors = {name: value.detach().contiguous().clone() for name, value in tensors.items()}
        about = json.dumps({"step": self.step, "seconds": self.seconds})
        save_file(tensors, part, {"run": about, "sha256": digest_of(tensors, about)})
        os.replace(part, self.file)

    def update(self, loss: Tensor, lr_factor: float, *, clip: float = 1.0) -> None:
        """One optimiser step on `loss`, then the moving average (its decay warms up with the step)."""
        for optimizer, lrs in zip(self.optimizers, self.base_lrs, strict=True):
            for group, lr in zip(optimizer.param_groups, lrs, strict=True):
                group["lr"] = lr * lr_factor
            optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), clip)
        for optimizer in self.optimizers:
            optimizer.step()
        self.step += 1
        decay = min(self.ema_decay, self.step / (self.step + 10))
        names = [name for name, value in self.ema.items() if value.is_floating_point()]
        current = self.model.state_dict()
        torch._foreach_lerp_([self.ema[n] for n in names], [current[n].detach() for n in names], 1 - decay)

    def steps(self, until: int, title: str, *, save_every: int = 500) -> Iterator[int]:
        """The steps still to do, with a progress bar; checkpoints on the way and at the end."""
        import time

        with tqdm(total=until, initial=self.step, desc=title, unit="step", disable=None, mininterval=2) as bar:
            while self.step < until:
                before, began = self.step, time.perf_counter()
                yield before
                self.seconds += time.perf_counter() - began
                bar.update(self.step - before)
                if self.step % save_every == 0 or self.step == until:
                    self.save()

    def note(self, **values: float) -> None:
        """Append a line to the run's log."""
        with self.log.open("a") as file:
            file.write(json.dumps({"step": self.step, **values}) + "\n")

    @contextmanager
    def averaged(self) -> Iterator[nn.Module]:
        """The model with its moving average for the length of a block."""
        own = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
        self.model.load_state_dict(self.ema)
        try:
            yield self.model
        finally:
            self.model.load_state_dict(own)
