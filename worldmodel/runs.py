"""A run's folder: what was asked (config.yaml), with what (run.json), and what came out."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from worldmodel import __version__
from worldmodel.errors import UserError
from worldmodel.files import write_json, write_text

PACKAGES = ("torch", "numpy", "gymnasium", "mujoco", "hydra-core", "av", "pyarrow")


def new_folder(command: str, root: Path = Path("runs")) -> Path:
    """``runs/<command>/<date-time>``, made, with ``-2`` and so on when it is taken."""
    stamp = datetime.now().astimezone().strftime("%Y-%m-%d_%H-%M-%S")
    for attempt in range(1, 1000):
        folder = root / command / (stamp if attempt == 1 else f"{stamp}-{attempt}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        return folder
    raise FileExistsError(f"no free folder under {root / command}")


def git_commit(folder: Path = Path(__file__).parent) -> str | None:
    """The commit of the checkout that the code runs from, ``+changes`` when it is edited."""
    try:
        lines = [
            subprocess.run(
                ["git", "-C", str(folder), *command],
                capture_output=True, text=True, timeout=10, check=True,
            ).stdout.strip()
            for command in (("rev-parse", "HEAD"), ("status", "--porcelain", "-uno"))
        ]  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None  # an installed package, or no git
    return lines[0] + ("+changes" if lines[1] else "")


def versions() -> dict[str, str]:
    """Python's version and those of the packages that decide results."""
    found = {"python": platform.python_version(), "worldmodel": __version__}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "missing"
    return found


def hardware() -> dict[str, Any]:
    """Processor, cores, memory [GiB] and, when torch is in use, the GPU."""
    about: dict[str, Any] = {
        "processor": _processor(),
        "cores": usable_cores(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
    }
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        about["gpu"] = torch.cuda.get_device_name()
    return about


def usable_cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def provenance(command: Sequence[str]) -> dict[str, Any]:
    """What is needed to repeat a run, beside its config."""
    return {
        "command": list(command),
        "started": datetime.now().astimezone().isoformat(timespec="seconds"),
        "git_commit": git_commit(),
        "versions": versions(),
        "hardware": hardware(),
    }


def process_number() -> tuple[int, int]:
    """This process's number and how many torchrun started with it; (0, 1) without torchrun."""
    return int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))


def claim(file: Path, identity: Mapping[str, Any], what: str) -> bool:
    """Whether ``file`` says that its folder holds ``what`` of this identity; it does from now on.

    UserError, naming the differences, where it holds that of something else.
    """
    if not file.exists():
        write_json(file, identity)
        return False
    before, now = (json.loads(t) for t in (file.read_text(encoding="utf-8"), json.dumps(identity)))
    different = [k for k in {**before, **now} if before.get(k) != now.get(k)]
    if different:
        changes = "; ".join(f"{k}: {before.get(k)!r}, now {now.get(k)!r}" for k in different)
        raise UserError(
            f"{file.parent} holds the {what} of something else ({changes}). "
            "Choose another out=…, or delete that folder"
        )
    return True


def write_run(folder: Path, about: Mapping[str, Any], config_yaml: str) -> None:
    """Put ``config.yaml`` and ``run.json`` into ``folder``."""
    write_text(folder / "config.yaml", config_yaml)
    write_json(folder / "run.json", about)
