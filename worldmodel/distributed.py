"""Several processes that train one model, as torchrun starts them.

All of them keep the same random generators and draw what one process would draw for the whole
batch; each then takes every world-th row. Masked means are divided by what all of them count. So
the losses are those of one process at the same batch, and a run may go on with more processes, or
with fewer.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from worldmodel.device import pick_device
from worldmodel.errors import UserError
from worldmodel.runs import process_number

TIMEOUT = timedelta(minutes=30)  # the others wait so long while the first decodes a dataset
Sharding = Literal["ddp", "fsdp"]


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together; alone where torchrun did not start it."""

    rank: int = 0
    world: int = 1
    device: torch.device | None = None  # None: for pick_device to say
    own_noise: bool = False  # whether each draws noise for its own rows alone

    @property
    def first(self) -> bool:
        """Whether it is this process that writes files and speaks."""
        return self.rank == 0

    def rows(self, start: int = 0) -> slice:
        """Which rows are ours, of those from ``start`` on in the whole batch."""
        return slice((self.rank - start) % self.world, None, self.world)

    def draws(self, rows: int) -> tuple[int, slice]:
        """For how many rows to draw noise when ``rows`` are ours, and which of them are."""
        if self.own_noise:
            return rows, slice(None)
        return rows * self.world, self.rows()

    def divides(self, what: str, count: int) -> None:
        """UserError where ``count`` can't be shared out evenly."""
        if count % self.world:
            below = count - count % self.world
            raise UserError(
                f"{what}: got {count} for {self.world} processes, expected a multiple of "
                f"{self.world}, such as {below or self.world} or {below + self.world}"
            )

    # -- together: every process calls these, in the same order -----------------------------------

    def total(self, x: Tensor) -> Tensor:
        """The sum of ``x`` over all processes."""
        if self.world == 1:
            return x
        x = x.detach().clone()
        dist.all_reduce(x)
        return x

    def count(self, mask: Tensor) -> Tensor:
        """What to divide a masked sum by, so that its average over all is the mean over all."""
        if self.world == 1:
            return mask.sum().clamp(min=1)
        return self.total(mask.sum().float()).clamp(min=1) / self.world

    def mean(self, values: Mapping[str, Tensor]) -> dict[str, float]:
        """Each value averaged over all processes."""
        stacked = torch.stack([value.detach().float() for value in values.values()])
        if self.world > 1:
            stacked = self.total(stacked) / self.world
        return dict(zip(values, stacked.tolist(), strict=True))

    def any(self, *flags: bool) -> list[bool]:
        """Of each flag, whether it is up anywhere."""
        if self.world == 1:
            return list(flags)
        raised = torch.tensor(flags, dtype=torch.float32, device=self.device)
        return [count > 0 for count in self.total(raised).tolist()]

    def gather(self, x: Tensor) -> Tensor:
        """All rows of the whole batch, where ``x`` (B / world, ...) are ours."""
        if self.world == 1:
            return x
        parts = [torch.empty_like(x) for _ in range(self.world)]
        dist.all_gather(parts, x.contiguous())
        return torch.stack(parts, dim=1).flatten(0, 1)

    @contextlib.contextmanager
    def first_goes_first(self) -> Iterator[None]:
        """The first process runs the block alone, the others after it: it finds nothing half
        done, and they find it done."""
        if self.world > 1 and not self.first:
            dist.barrier()
        yield
        if self.world > 1 and self.first:
            dist.barrier()

    @contextlib.contextmanager
    def stops(self) -> Iterator[Callable[[], bool]]:
        """Whether somebody wants this process to stop: Ctrl-C, torchrun or SLURM (SIGTERM).

        Alone, SIGTERM is a KeyboardInterrupt as Ctrl-C is. With others both wait for the end of an
        update, where all can stop at once.
        """
        asked: list[int] = []
        if threading.current_thread() is not threading.main_thread():
            yield lambda: False  # signals are another thread's
            return

        def ask(number: int, _: object) -> None:
            if self.world == 1:
                raise KeyboardInterrupt
            asked.append(number)

        kinds = [signal.SIGTERM] + [signal.SIGINT] * (self.world > 1)
        before = {number: signal.signal(number, ask) for number in kinds}
        try:
            yield lambda: bool(asked)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


ALONE = Ranks()


@contextlib.contextmanager
def together(device: str) -> Iterator[Ranks]:
    """The processes that torchrun started with this one: nccl between GPUs, else gloo.

    UserError where there are more processes on a machine than GPUs.
    """
    rank, world = process_number()
    if world == 1:
        yield ALONE
        return
    place = pick_device(device)
    if place.type == "cuda":
        local, gpus = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if local >= gpus:
            raise UserError(
                f"process {local} of this machine has no GPU, there are {gpus}: "
                f"torchrun --nproc_per_node={gpus}, or device=cpu"
            )
        place = torch.device("cuda", local)
        torch.cuda.set_device(place)
    backend = "nccl" if place.type == "cuda" else "gloo"
    dist.init_process_group(backend, timeout=TIMEOUT)
    try:
        yield Ranks(rank, world, place)
    finally:
        dist.destroy_process_group()


# -- the weights --------------------------------------------------------------------------------


def replicate(nets: nn.Module, ranks: Ranks) -> nn.Module:
    """``nets`` on every process, whose gradients are averaged while they are computed."""
    if ranks.world == 1:
        return nets
    # which weights have a gradient depends on the objective (an agent learns plans alone)
    return DistributedDataParallel(nets, broadcast_buffers=False, find_unused_parameters=True)


def shard(nets: nn.Module, blocks: list[nn.Module], ranks: Ranks) -> None:
    """Spread each weight of ``nets`` over all processes (FSDP2); it is whole only around a forward
    of its block, or for those outside of ``blocks`` of ``nets`` itself."""
    assert ranks.device is not None, "sharding is for several processes"
    mesh = init_device_mesh(ranks.device.type, (ranks.world,))
    for part in (*blocks, nets):
        # else weights of the teacher, which has no backward, would stay whole, and get old
        fully_shard(part, mesh=mesh, reshard_after_forward=True)


def whole(x: Tensor) -> Tensor:
    """``x``, put together on every process where it is spread over them."""
    return x.full_tensor() if isinstance(x, DTensor) else x


def gathered(tensors: Mapping[str, Tensor], ranks: Ranks) -> dict[str, Tensor]:
    """The same, whole and on the CPU of the first process; the others take part and get nothing."""
    found = {}
    for name, x in tensors.items():
        full = whole(x.detach())  # one at a time: no device needs room for all of them
        if ranks.first:
            found[name] = full.cpu()
    return found


def spread(x: Tensor, like: Tensor) -> Tensor:
    """Inverse of :func:`whole`: a whole ``x`` spread as ``like`` is."""
    if not isinstance(like, DTensor) or x.shape != like.shape:
        return x
    return distribute_tensor(x.to(like.device), like.device_mesh, like.placements)
