"""A small workspace with every kind of stage, for the campaigns of kills and faults.

Notebooks, DVC, scratch, publishing, checkpoints and the launcher of two processes are the real ones; only the work is
short: the notebook of the tests, a training of a few seconds, a few edits by a random FLUX.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from lib.core.paths import DATA, ROOT
from tests.stages.conftest import PIPELINE, Project, begin_pipeline

CASES, BATCH, TOKENS = 8, 1, 160  # the world's captions have more letters than the tests' prompts
TRAINING = '''\
"""A training of a few seconds with all that a training has."""

from dataclasses import dataclass

import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

from lib.core.paths import MODELS, RUNS
from lib.learning.gates import write_metrics
from lib.learning.training import Run, step_generator, warm_stable_decay


@dataclass(frozen=True)
class Settings:
    steps: int = 1
    lr: float = 1e-3


SETTINGS, CONTINUABLE, inputs = Settings, ("steps",), dict


def stage(scratch, settings):
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = nn.Sequential(nn.Linear(64, 512), nn.ReLU(), nn.Linear(512, 64))
    run = Run(scratch, model, [torch.optim.AdamW(model.parameters(), lr=settings.lr)])
    for step in run.steps(settings.steps, "toy", save_every=7):
        x = torch.randn(4096, 64, generator=step_generator(0, step))
        loss = F.mse_loss(model(x), x.roll(1, 1))
        run.update(loss, warm_stable_decay(step, settings.steps, warm=5))
        run.note(loss=loss.item())
    (scratch / "toy").mkdir(exist_ok=True)
    save_file(run.ema, scratch / "toy" / "weights.safetensors")
    metrics = write_metrics(scratch / "metrics.json", {name: value.sum().item() for name, value in run.ema.items()})
    return {scratch / "toy": MODELS / "toy", metrics: RUNS / "toy" / "metrics.json"}
'''
STAGES = f"""\
  training:
    cmd: python -m lib.stages.train toy
    deps: [lib/learning/toy.py]
    params: [toy]
    outs: [models/toy]
    metrics:
      - runs/toy/metrics.json: {{cache: false}}
    meta: {{minutes: 1}}
  edits:
    cmd: >-
      accelerate launch --multi_gpu --num_processes 2 --num_machines 1 --mixed_precision no --dynamo_backend no
      --main_process_port 0 -m lib.stages.edit --editor sdedit --benchmark world --backbone models/flux
      --count {CASES} --batch-size {BATCH} --settings steps=${{edits.steps}} start=.9 --out runs/edits/${{edits.steps}}
    deps: [models/flux]
    params: [edits]
    outs:
      - runs/edits/${{edits.steps}}: {{persist: true}}
    meta: {{minutes: 1}}
"""
PARAMS = "toy:\n  steps: 200\n  lr: 1e-3\nedits:\n  steps: 8\n"
DUE = {  # part of the pipeline -> the change of params.yaml after which it must run
    "notebook": ("rate: 1e-1", "rate: 2e-1"),
    "training": ("lr: 1e-3", "lr: 2e-3"),
    "edits": ("steps: 8", "steps: 9"),
}
UNCOMPARED = ("timing.json", ".gitignore")  # seconds, which differ and are nobody's dependency; DVC's notes to git


def build(root: Path, *, ship: bool = False) -> Project:
    """The workspace in `root`, every stage run; with `ship`, its store filled and all committed."""
    project = begin_pipeline(root)
    for file in sorted((ROOT / "lib").rglob("*.py")):
        place = root / file.relative_to(ROOT)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, place)
    (root / "lib" / "learning" / "toy.py").write_text(TRAINING)
    train = root / "lib" / "stages" / "train.py"
    train.write_text(train.read_text().replace("TRAININGS = (", 'TRAININGS = ("toy", '))
    shutil.copytree(DATA / "sprites", root / "data" / "sprites")
    flux = "import sys; from pathlib import Path; from tests import tiny; "
    flux += f"tiny.TEXT_TOKENS = {TOKENS}; tiny.build_flux(Path(sys.argv[1]))"
    command = [sys.executable, "-c", flux, str(root / "models" / "flux")]
    subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    (root / "dvc.yaml").write_text(PIPELINE + STAGES)
    (root / "params.yaml").write_text((root / "params.yaml").read_text() + PARAMS)
    (root / "Makefile").write_text(f"repro:\n\t@LONG=1 {sys.executable} -m lib.stages repro\n")
    project.must("lib.stages", "repro", LONG="1")
    if ship:
        project.must("lib.stages", "ship")
        project.git("add", "--force", "models/flux")
        project.git("add", "--all")
        project.git("commit", "--quiet", "--message", "results")
    return project


def copy(done: Project, place: Path, due: str | None = None) -> Project:
    """A copy of a finished workspace, in which one part of the pipeline is due if one is named."""
    project = Project(shutil.copytree(done.root, place, symlinks=True))
    if due is not None:
        params = project.root / "params.yaml"
        old, new = DUE[due]
        assert params.read_text().count(old) == 1, due
        params.write_text(params.read_text().replace(old, new))
    return project


def start(project: Project) -> subprocess.Popen[bytes]:
    """`make repro`, in a process group of its own."""
    quiet = subprocess.DEVNULL
    return subprocess.Popen(
        ["make", "repro"], cwd=project.root, env=project.environment, stdout=quiet, stderr=quiet, start_new_session=True
    )


def products(root: Path) -> dict[str, str]:
    """SHA-256 of everything that the stages made, and of dvc.lock. A stray file beside them would be seen too."""
    made = [root / "runs", *(folder for folder in (root / "models").iterdir() if folder.name != "flux")]
    files = [path for folder in made for path in folder.rglob("*") if path.is_file()]
    files += [path for path in (root / "product.txt", root / "dvc.lock") if path.is_file()]
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
        if path.name not in UNCOMPARED
    }


def left_over(project: Project) -> list[str]:
    """The command lines of processes that still work in the workspace."""
    import psutil

    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and Path(process.cwd()).is_relative_to(project.root):
                found.append(" ".join(process.cmdline()))
        except (psutil.Error, OSError):
            continue
    return found
