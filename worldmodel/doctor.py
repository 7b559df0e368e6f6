"""What this machine can do, what is missing, and the command that mends it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from worldmodel.runs import hardware, usable_cores, versions
from worldmodel.shipped import shipped_checkpoints

Level = Literal["ok", "note", "missing"]  # as it should be; slower or optional; needed

EXTRAS = {  # extra -> (import name, what for)
    "log": ("tensorboard", "training curves in TensorBoard"),
    "rl": ("stable_baselines3", "agents inside the model"),
    "data": ("h5py", "HDF5 datasets"),
    "classic": ("pygame", "env=pendulum, and other envs that Gymnasium draws with it"),
    "ogbench": ("ogbench", "env=ogbench_cube"),
    "metaworld": ("metaworld", "env=metaworld_reach, in an environment of its own"),
    "robosuite": ("robosuite", "env=robosuite_lift, env=robosuite_can, in one of its own"),
    "menagerie": ("mujoco_menagerie", "the detailed Panda model"),
}


@dataclass(frozen=True)
class Finding:
    level: Level
    what: str
    found: str
    repair: str = ""


def examine(env_id: str, folder: Path) -> Iterator[Finding]:
    """Look at this machine, thing by thing; ``env_id`` is rendered, ``folder`` would hold data."""
    yield from _python()
    yield from _torch()
    yield _rendering(env_id)
    yield _video()
    yield _disk(folder)
    found = shipped_checkpoints()
    if found:
        yield Finding("ok", "shipped checkpoints", ", ".join(found))
    else:
        yield Finding("note", "shipped checkpoints", "none", "train one: worldmodel train --help")
    for extra, (module, purpose) in EXTRAS.items():
        if importlib.util.find_spec(module) is None:
            yield Finding("note", f"extra [{extra}]", f"not installed: {purpose}", _pip(extra))
        else:
            yield Finding("ok", f"extra [{extra}]", f"installed: {purpose}")


def _pip(extra: str) -> str:
    return f"{sys.executable} -m pip install 'worldmodel[{extra}]'"


def _python() -> Iterator[Finding]:
    found = versions()
    python = found.pop("python")
    yield Finding("ok", "Python", f"{python} at {sys.executable}")
    about = hardware()
    yield Finding(
        "ok", "machine", f"{about['processor']}, {about['cores']} cores, {about['memory_gib']} GiB"
    )
    for package, version in found.items():
        if version == "missing":
            repair = f"{sys.executable} -m pip install worldmodel"
            yield Finding("missing", package, "not installed", repair)
        elif package == "mujoco" and version == "4.0.0":
            repair = f"{sys.executable} -m pip install 'mujoco!=4.0.0'"
            yield Finding("missing", package, "4.0.0, whose solver has a known bug", repair)
        else:
            yield Finding("ok", package, version)


def _torch() -> Iterator[Finding]:
    import torch

    threads = torch.get_num_threads()
    if threads > usable_cores():
        yield Finding(
            "note",
            "threads",
            f"{threads} on {usable_cores()} cores",
            f"export OMP_NUM_THREADS={usable_cores()}",
        )
    else:
        yield Finding("ok", "threads", str(threads))
    flags = _processor_flags()
    bf16 = [name for name in ("amx_bf16", "avx512_bf16") if name in flags]
    rates = {name: matmul_rate(name, "cpu") / 1e9 for name in ("float32", "bfloat16")}
    measured = ", ".join(f"{name} {rate:.0f}" for name, rate in rates.items())
    yield Finding("ok", "matrix product 1024² [GFLOP/s]", measured)
    if bf16:
        yield Finding("ok", "bf16 on the CPU", ", ".join(bf16))
    else:
        yield Finding("note", "bf16 on the CPU", "no instructions for it: training runs in fp32")
    if torch.cuda.is_available():
        memory = torch.cuda.get_device_properties(0).total_memory / 2**30
        rate = matmul_rate("bfloat16", "cuda") / 1e12
        about = f"{torch.cuda.get_device_name()}, {memory:.0f} GiB, bf16 {rate:.0f} TFLOP/s"
        yield Finding("ok", "GPU", about)
    elif _nvidia():
        repair = "pip install --force-reinstall torch (see pytorch.org for the build that fits)"
        about = f"{_nvidia()}, but torch {torch.__version__} doesn't see it"
        yield Finding("missing", "GPU", about, repair)
    else:
        yield Finding("note", "GPU", f"none; torch {torch.__version__} computes on the CPU")


def matmul_rate(dtype: str, device: str, size: int = 1024, seconds: float = 0.3) -> float:
    """Best measured rate of a square matrix product [FLOP/s]."""
    import torch

    a = torch.randn(size, size, device=device, dtype=getattr(torch, dtype))

    def run() -> None:
        torch.mm(a, a)
        if device == "cuda":
            torch.cuda.synchronize()

    run()
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def _processor_flags() -> set[str]:
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return set()
    lines = info.read_text(encoding="utf-8").splitlines()
    return next((set(x.split(":", 1)[1].split()) for x in lines if x.startswith("flags")), set())


def _nvidia() -> str:
    """The name of an NVIDIA GPU that the driver knows, or ''."""
    if shutil.which("nvidia-smi") is None:
        return ""
    words = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        answer = subprocess.run(words, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout.strip().splitlines()[0] if answer.returncode == 0 else ""


RENDER = """
import sys, time
import envs, gymnasium
env = gymnasium.make(sys.argv[1])
obs, _ = env.reset(seed=0)
images = [v for v in obs.values() if v.ndim == 3]
assert images and all(int(v.max()) > int(v.min()) for v in images), "the frames are blank"
start = time.perf_counter()
for i in range(20):
    env.step(env.action_space.sample())
print(len(images), round(20 / (time.perf_counter() - start)))
env.close()
"""


def _rendering(env_id: str) -> Finding:
    """Make, reset and step the env in a process of its own: a broken driver may end it."""
    what = "rendering"
    words = [sys.executable, "-c", RENDER, env_id]
    root = Path(__file__).parent.parent  # where `envs` is, installed or not
    try:
        answer = subprocess.run(
            words, cwd=root, capture_output=True, text=True, timeout=120, check=False
        )
    except subprocess.TimeoutExpired:
        return Finding("missing", what, f"{env_id} gave no frame within two minutes", _gl_repair())
    if answer.returncode:
        last = (answer.stderr.strip().splitlines() or [f"exit code {answer.returncode}"])[-1]
        return Finding("missing", what, last, _gl_repair())
    cameras, rate = answer.stdout.split()[-2:]
    backend = os.environ.get("MUJOCO_GL", "chosen by itself")
    return Finding(
        "ok", what, f"{env_id}, {cameras} cameras: {rate} steps/s (MUJOCO_GL: {backend})"
    )


def _gl_repair() -> str:
    wanted = "apt-get install libegl1 libgl1-mesa-dri"
    chosen = os.environ.get("MUJOCO_GL")
    return f"{wanted}, or unset MUJOCO_GL (now {chosen})" if chosen else wanted


def _video() -> Finding:
    import av

    found = [c for c in ("libx264", "h264_nvenc", "libsvtav1") if c in av.codecs_available]
    if "libx264" in found:
        return Finding("ok", "video encoders", f"{', '.join(found)} (PyAV {av.__version__})")
    about = f"{', '.join(found) or 'none'}: videos are written as MPEG-4"
    return Finding("note", "video encoders", about, "pip install --only-binary=:all: av")


def _disk(folder: Path) -> Finding:
    free = shutil.disk_usage(folder).free / 2**30
    where = f"{free:.1f} GiB free in {folder.resolve()}"
    if free < 2:
        return Finding("note", "disk", where, "free some: 1,000 demonstrations take about 1 GiB")
    return Finding("ok", "disk", where)


def report(findings: list[Finding]) -> str:
    """The findings as lines, each missing thing with its repair below it."""
    width = max(len(f.what) for f in findings)
    marks = {"ok": "ok     ", "note": "note   ", "missing": "MISSING"}
    lines = []
    for f in findings:
        lines.append(f"{marks[f.level]}  {f.what:<{width}}  {f.found}")
        if f.repair:
            lines.append(f"{'':<{width + 9}}  → {f.repair}")
    missing = sum(f.level == "missing" for f in findings)
    lines.append("")
    lines.append(f"{missing} missing" if missing else "Everything that is needed is here.")
    return "\n".join(lines)
