"""Everything that an update of the training changes, saved and restored as one file."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from worldmodel import checkpoint
from worldmodel.distributed import ALONE, Ranks, Sharding, gathered, replicate, shard, spread
from worldmodel.errors import UserError
from worldmodel.model import ModelConfig, WorldModel
from worldmodel.optim import OptimConfig, optimizers
from worldmodel.rehearsal import Dreams, Stage
from worldmodel.representation import head_of
from worldmodel.spec import DataSpec


class Nets(nn.Module):
    """All weights as one module, whose forward is whatever is computed with them: it is around a
    forward that DDP averages gradients and FSDP puts weights together."""

    def __init__(self, model: WorldModel, head: nn.Module, teacher: WorldModel) -> None:
        super().__init__()
        self.model, self.head, self.teacher = model, head, teacher

    def forward(self, compute: Callable[..., Any], *args: Any) -> Any:
        return compute(self, *args)


class TrainState:
    """The student and its head, the EMA teacher, the optimizers, random states and dreams."""

    def __init__(
        self, spec: DataSpec, model: ModelConfig, optim: OptimConfig, seed: int,
        objective: str = "self_flow",
    ) -> None:  # fmt: skip
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.model = WorldModel(spec, model)
            numbers = 3 * model.patch**2
            self.head = head_of(objective, model.trunk.width, numbers, spec.A)
        self.teacher = copy.deepcopy(self.model).eval().requires_grad_(False)
        self.nets = Nets(self.model, self.head, self.teacher)
        self.ranks = ALONE
        self.optim_config = optim
        self.generator = torch.Generator().manual_seed(seed)
        self.rng = np.random.default_rng(seed)
        self.dreams: Dreams | None = None
        self.stage: Stage | None = None
        self.step = 0
        self.seconds = 0.0

    def to(
        self, device: torch.device, ranks: Ranks = ALONE, sharding: Sharding = "ddp"
    ) -> TrainState:
        """Move everything there, before anything is trained or loaded. With several ``ranks`` each
        has all of it (ddp) or a part (fsdp); ``update`` is ``nets`` for what has a backward."""
        self.nets.to(device)
        self.ranks, self.sharded = ranks, ranks.world > 1 and sharding == "fsdp"
        if self.sharded:
            shard(self.nets, [*self.model.trunk.blocks, *self.teacher.trunk.blocks], ranks)
        self.optimizers = optimizers(
            [self.model, self.head], self.model.trunk.blocks, self.optim_config
        )
        self.update = self.nets if self.sharded else replicate(self.nets, ranks)
        return self

    def compile(self) -> None:
        """Compile in place, part by part: names of weights stay, graphs stay small."""
        for model in (self.model, self.teacher):
            for part in (*model.trunk.blocks, model.embed_obs, model.paint, model.body):
                part.compile()

    def save(self, file: Path, fingerprint: dict[str, Any]) -> None:
        """Write everything to one file, whole, whoever has a part of it."""
        tensors = (
            checkpoint.pack("model", self.model.state_dict())
            | checkpoint.pack("head", self.head.state_dict())
            | checkpoint.pack("teacher", self.teacher.state_dict())
            | {"generator": self.generator.get_state()}
            | (checkpoint.pack("dreams", self.dreams._asdict()) if self.dreams else {})
        )
        for name, optimizer in self.optimizers.items():
            tensors |= checkpoint.pack(name, checkpoint.optimizer_tensors(optimizer))
        header = {
            "format": checkpoint.FORMAT, "step": self.step, "seconds": self.seconds,
            "rng": self.rng.bit_generator.state, "fingerprint": fingerprint,
        }  # fmt: skip
        tensors = gathered(tensors, self.ranks)
        if self.ranks.first:
            checkpoint.write_tensors(file, tensors, header)

    def result(self) -> dict[str, Tensor]:
        """The teacher's weights, whole, for the first process."""
        return gathered(self.teacher.state_dict(), self.ranks)

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
            module: nn.Module = getattr(self, name)
            own, given = module.state_dict(), checkpoint.unpack(name, tensors)
            if self.sharded:
                given = {key: spread(value, own[key]) for key, value in given.items()}
            module.load_state_dict(given)
        for name, optimizer in self.optimizers.items():
            parameters = _parameters(optimizer)
            given = checkpoint.unpack(name, tensors)
            for key, value in given.items():
                given[key] = spread(value, parameters[int(key.partition(".")[0])])
            checkpoint.restore_optimizer(optimizer, given)
        dreams = checkpoint.unpack("dreams", tensors)
        for key in dreams.keys() & {"images", "proprio"}:
            dreams[key] = dreams[key].to(self.model.grid.device)
        self.dreams = Dreams(**dreams) if dreams else None
        self.generator.set_state(tensors["generator"])
        self.rng.bit_generator.state = header["rng"]
        self.step, self.seconds = header["step"], header["seconds"]


def _parameters(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    return [p for group in optimizer.param_groups for p in group["params"]]
