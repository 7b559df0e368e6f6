"""Everything that an update of the training changes, saved and restored as one file."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch

from worldmodel import checkpoint
from worldmodel.errors import UserError
from worldmodel.model import ModelConfig, WorldModel
from worldmodel.objective import representation_head
from worldmodel.optim import OptimConfig, adamw
from worldmodel.rehearsal import Dreams
from worldmodel.spec import DataSpec


class TrainState:
    """The student and its head, the EMA teacher, the optimizer, random states and dreams."""

    def __init__(self, spec: DataSpec, model: ModelConfig, optim: OptimConfig, seed: int) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.model = WorldModel(spec, model)
            self.head = representation_head(model.trunk.width)
        self.teacher = copy.deepcopy(self.model).eval().requires_grad_(False)
        self.optim_config = optim
        self.generator = torch.Generator().manual_seed(seed)
        self.rng = np.random.default_rng(seed)
        self.dreams: Dreams | None = None
        self.step = 0
        self.seconds = 0.0

    def to(self, device: torch.device) -> TrainState:
        for module in (self.model, self.head, self.teacher):
            module.to(device)
        self.optimizer = adamw([self.model, self.head], self.optim_config)
        return self

    def compile(self) -> None:
        """Compile in place, part by part: names of weights stay, graphs stay small."""
        for model in (self.model, self.teacher):
            for part in (*model.trunk.blocks, model.embed_obs, model.paint, model.body):
                part.compile()

    def save(self, file: Path, fingerprint: dict[str, Any]) -> None:
        tensors = (
            checkpoint.pack("model", self.model.state_dict())
            | checkpoint.pack("head", self.head.state_dict())
            | checkpoint.pack("teacher", self.teacher.state_dict())
            | checkpoint.pack("optimizer", checkpoint.optimizer_tensors(self.optimizer))
            | {"generator": self.generator.get_state()}
            | (checkpoint.pack("dreams", self.dreams._asdict()) if self.dreams else {})
        )
        header = {
            "format": checkpoint.FORMAT, "step": self.step, "seconds": self.seconds,
            "rng": self.rng.bit_generator.state, "fingerprint": fingerprint,
        }  # fmt: skip
        checkpoint.write_tensors(file, tensors, header)

    def load(self, file: Path, fingerprint: dict[str, Any]) -> None:
        tensors, header = checkpoint.read_tensors(file)
        theirs = header["fingerprint"]
        changed = [k for k in fingerprint if theirs.get(k) != fingerprint[k]]
        if changed:
            lines = [f"  {k}: was {theirs.get(k)}, is {fingerprint[k]}" for k in changed]
            raise UserError(
                f"resume=true, but {file} comes from another configuration:\n"
                + "\n".join(lines)
                + "\nuse the same settings, or another out=…"
            )
        for name in ("model", "head", "teacher"):
            getattr(self, name).load_state_dict(checkpoint.unpack(name, tensors))
        checkpoint.restore_optimizer(self.optimizer, checkpoint.unpack("optimizer", tensors))
        dreams = checkpoint.unpack("dreams", tensors)
        self.dreams = Dreams(**dreams) if dreams else None
        self.generator.set_state(tensors["generator"])
        self.rng.bit_generator.state = header["rng"]
        self.step, self.seconds = header["step"], header["seconds"]
