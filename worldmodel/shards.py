"""``shard=i/n``: the part of a long job that one of n processes or machines does."""

from __future__ import annotations

import os
import re
from typing import NamedTuple

from worldmodel.errors import UserError

SHARD_HELP = (
    "i/n: do every n-th part, from the i-th on (0/4 to 3/4); auto: as torchrun or SLURM say. The "
    "same command without it then puts all together ('': do everything)"
)


class Shard(NamedTuple):
    number: int = 0
    of: int = 1

    def has(self, number: int) -> bool:
        """Whether this part of the work is ours: each is in one shard."""
        return number % self.of == self.number

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


def parse_shard(text: str) -> Shard:
    """``i/n``, ``auto`` or nothing, which is everything; UserError for anything else."""
    if not text:
        return Shard()
    if text == "auto":
        return _told()
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if not match or not int(match[1]) < int(match[2]):
        raise UserError(f"shard: got '{text}', expected i/n with i below n, as in 0/4, or auto")
    return Shard(int(match[1]), int(match[2]))


def _told() -> Shard:
    """What torchrun, a SLURM job array or srun say in the environment, in this order."""
    told = os.environ
    if "WORLD_SIZE" in told:
        return Shard(int(told["RANK"]), int(told["WORLD_SIZE"]))
    if "SLURM_ARRAY_TASK_ID" in told:
        first = int(told["SLURM_ARRAY_TASK_MIN"])
        count = int(told["SLURM_ARRAY_TASK_COUNT"])
        if int(told["SLURM_ARRAY_TASK_MAX"]) - first + 1 != count:
            raise UserError(
                "shard=auto: expected an array of numbers without gaps, as in --array=0-7; for one "
                "of its shards alone write shard=3/8"
            )
        return Shard(int(told["SLURM_ARRAY_TASK_ID"]) - first, count)
    if "SLURM_PROCID" in told:
        return Shard(int(told["SLURM_PROCID"]), int(told["SLURM_NTASKS"]))
    raise UserError(
        "shard=auto: neither torchrun nor SLURM started this (no WORLD_SIZE, SLURM_ARRAY_TASK_ID "
        "or SLURM_PROCID); write shard=i/n"
    )
