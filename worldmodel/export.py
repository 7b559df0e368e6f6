"""The policy as one ONNX file: an observation and noise in, a plan out, without torch.

What `policies.flow_policy` does for a plan is laid out flat: the latest observation as the whole
context, and K denoising steps whose flow times, and so modulations, are constants in the file.
"""

from __future__ import annotations

import contextlib
import json
import logging
import statistics
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch import Tensor, nn

from worldmodel.errors import RunError, UserError
from worldmodel.flow import flow_times, integrate
from worldmodel.inference import moments
from worldmodel.layers import Block, attend
from worldmodel.masks import Group
from worldmodel.model import WorldModel
from worldmodel.spec import DataSpec

TOLERANCE = 1e-4  # of an action, whose range is -1 to 1
OPSET = 20  # the first with Gelu
NOISE = "numpy.random.default_rng([seed, draw]).standard_normal((H, A)); draw counts plans from 0"
Observations = dict[str, np.ndarray]


@dataclass(frozen=True)
class ExportConfig:
    flow_steps: int | None = field(
        default=None, metadata={"help": "K, denoising steps a plan (none: as the policy takes)"}
    )
    observations: int = field(
        default=32, metadata={"help": "random and real ones, each, on which both are compared"}
    )
    plans: int = field(default=30, metadata={"help": "plans timed"})
    threads: int = field(default=1, metadata={"help": "threads while timing, of both"})

    def __post_init__(self) -> None:
        for name in ("observations", "plans", "threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"expected {name} >= 1, got {getattr(self, name)}")


class Planning(Protocol):
    """What is needed of the policy here; ``policies.flow_policy.FlowPolicy`` describes it."""

    model: WorldModel
    flow_steps: int

    def plan(
        self, obs: Observations, rows: np.ndarray, seeds: np.ndarray, draws: np.ndarray
    ) -> np.ndarray: ...

    def noise(self, seeds: np.ndarray, draws: np.ndarray) -> np.ndarray: ...


class Planner(nn.Module):
    """(camera images, proprio, noise) -> plan, as a graph without branches, masks or caches."""

    def __init__(self, model: WorldModel, flow_steps: int) -> None:
        super().__init__()
        self.model, self.flow_steps = model, flow_steps
        self.blocks = cast("list[Block]", list(model.trunk.blocks))
        self.obs_table = model.rope([Group("obs", 0, model.patches + 1)])
        self.plan_table = model.rope([Group("plan", 0, model.config.chunk)])
        times = flow_times(flow_steps)[:-1]
        with torch.no_grad():
            now, *later = moments(model, [0.0, *times], model.grid.device)
        self.now, self.at = now.mod, dict(zip(times, later, strict=True))

    def forward(self, images: Sequence[Tensor], proprio: Tensor, noise: Tensor) -> Tensor:
        """C times uint8 (B, h, w, 3), (B, P) and (B, H, A) -> actions (B, H, A) in -1 … 1."""
        model, trunk = self.model, self.model.trunk
        patches, normalised = model.observe(torch.stack(list(images), dim=1), proprio)
        obs = model.embed_observation(patches[:, None], normalised[:, None])[0][:, 0]
        past, x = [], obs
        for block in self.blocks:
            q, k, v = block.project(x, self.now, self.obs_table)
            past.append((k, v))
            x = block.finish(x, self.now, attend(q, k, v, None))

        def predict(x: Tensor, t: float) -> Tensor:
            mod, scale, shift = self.at[t]
            x = model.embed_plan(x, obs)
            for block, seen in zip(self.blocks, past, strict=True):
                q, *own = block.project(x, mod, self.plan_table)
                k, v = (torch.cat(pair, dim=2) for pair in zip(seen, own, strict=True))
                x = block.finish(x, mod, attend(q, k, v, None))
            return model.read_action(torch.addcmul(shift, trunk.final_norm(x), scale))

        plan = integrate(predict, noise, self.flow_steps)
        return model.action_scale.inverse(plan).clamp(-1.0, 1.0)


def needs_extra() -> None:
    """UserError where the extra [export] is not installed."""
    for module in ("onnx", "onnxscript", "onnxruntime"):
        if find_spec(module) is None:
            raise UserError(
                f"worldmodel export needs {module}: python -m pip install 'worldmodel[export]'"
            )


def write_onnx(model: WorldModel, flow_steps: int, path: Path) -> None:
    """Write the policy to ``path``; its metadata ``worldmodel`` say how it is used (JSON).

    Inputs: each camera by its name, uint8 (B, h, w, 3), ``proprio`` (B, P) and ``noise`` (B, H, A),
    standard normal. Output: ``plan`` (B, H, A), the actions of the next H steps in env units.
    """
    spec, H = model.spec, model.config.chunk
    planner = Planner(model, flow_steps).eval()
    images = [torch.zeros(2, *spec.image_size, 3, dtype=torch.uint8) for _ in spec.cameras]
    example = images, torch.zeros(2, spec.P), torch.zeros(2, H, spec.A)
    batch = {0: torch.export.Dim("batch")}
    with torch.no_grad(), _quiet():
        program = torch.onnx.export(
            planner, example, dynamo=True, verbose=False, opset_version=OPSET,
            input_names=[*spec.cameras, "proprio", "noise"], output_names=["plan"],
            dynamic_shapes=([batch] * len(images), batch, batch),
        )  # fmt: skip
    assert program is not None
    about = {"spec": spec.to_json(), "model": asdict(model.config), "flow_steps": flow_steps,
             "noise": NOISE}  # fmt: skip
    program.model.metadata_props["worldmodel"] = json.dumps(about)
    program.save(path)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter tells of packages it could use, and of its own deprecations."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def open_onnx(path: Path, threads: int = 1) -> Any:
    """The file as an onnxruntime.InferenceSession on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def random_observations(spec: DataSpec, n: int, seed: int = 0) -> Observations:
    """n observations of noise, proprioception spread as in the data."""
    rng = np.random.default_rng(seed)
    found = {k: rng.integers(0, 256, (n, *spec.image_size, 3), np.uint8) for k in spec.cameras}
    stats = spec.proprio_stats
    assert stats is not None, "a model's spec has statistics"
    found["proprio"] = rng.normal(stats.mean, stats.std, (n, spec.P)).astype(np.float32)
    return found


def largest_error(policy: Planning, session: Any, obs: Observations) -> float:
    """The largest difference of any action between the policy's plans and the file's.

    Observations are taken one by one and all at once, so that both batch sizes are tried.
    """
    n = len(obs["proprio"])
    seeds, draws = np.arange(n), np.arange(n) % 3
    expected = policy.plan(obs, np.arange(n), seeds, draws)
    inputs = feed(policy, obs, seeds, draws)
    together = session.run(["plan"], inputs)[0]
    alone = [session.run(["plan"], {k: v[i : i + 1] for k, v in inputs.items()})[0]
             for i in range(n)]  # fmt: skip
    found = np.stack([together, np.concatenate(alone)])
    return float(np.abs(found - expected).max())


def feed(policy: Planning, obs: Observations, seeds: np.ndarray, draws: np.ndarray) -> Observations:
    """The file's inputs for these observations and this noise."""
    names = [*policy.model.spec.cameras, "proprio"]
    return {k: obs[k] for k in names} | {"noise": policy.noise(seeds, draws).astype(np.float32)}


def check(policy: Planning, path: Path, random: Observations, real: Observations) -> dict[str, Any]:
    """Errors on both kinds of observations; RunError where one is above the tolerance, or NaN."""
    session = open_onnx(path)
    errors = {
        f"max_abs_error_{kind}": largest_error(policy, session, obs)
        for kind, obs in (("random", random), ("real", real))
    }
    if not all(error <= TOLERANCE for error in errors.values()):
        told = ", ".join(f"{kind} {error:.2g}" for kind, error in errors.items())
        raise RunError(
            f"the exported policy is not the policy: {told}, expected at most {TOLERANCE:g}; "
            "no file was written. The exporter of another torch or onnx version may do better"
        )
    return errors


def time_plans(policy: Planning, path: Path, obs: Observations, config: ExportConfig) -> dict:
    """Median ms of a plan for one env, in torch and in onnxruntime by turns."""
    before = torch.get_num_threads()
    torch.set_num_threads(config.threads)
    session, took = open_onnx(path, config.threads), {"torch": [], "onnxruntime": []}
    one, zero = {k: v[:1] for k, v in obs.items()}, np.zeros(1, np.int64)
    try:
        for i in range(config.plans + 3):
            seeds = np.array([i])
            for name in took:
                start = time.perf_counter()
                if name == "torch":
                    policy.plan(one, zero, seeds, zero)
                else:
                    session.run(["plan"], feed(policy, one, seeds, zero))
                if i >= 3:
                    took[name].append(1000 * (time.perf_counter() - start))
    finally:
        torch.set_num_threads(before)
    return {f"plan_ms_{name}": statistics.median(times) for name, times in took.items()}
