"""The plan of docs/scaling.md: memory, bytes and hours of a model on several GPUs.

    python docs/scaling.py                      # base on 8 and 64 GPUs
    python docs/scaling.py --model small --gpus 2 --per-gpu 32 --utilisation 0.2

Counted: parameters, tokens, FLOPs, bytes that each method sends. Counted by running it: what the
backward of a segment keeps (in fp32: bf16 autocast keeps
less, so memory is an upper bound). Measured here: drawing noise. Assumed: --peak, --link, --wire,
--utilisation, --bandwidth.
"""

from __future__ import annotations

import argparse
import dataclasses
import time

import torch
import torch.nn.functional as F
from torch import Tensor

from worldmodel import layers
from worldmodel.bench_jobs import untrained_spec
from worldmodel.build import build
from worldmodel.config import compose
from worldmodel.env_config import EnvConfig
from worldmodel.flops import (
    body_flops,
    imagination_flops,
    segment_tokens,
    training_flops,
)
from worldmodel.leaves import OUTCOMES
from worldmodel.model import ModelConfig, WorldModel
from worldmodel.objective import (
    ObjectiveConfig,
    Segment,
    next_count,
    self_flow_loss,
)
from worldmodel.rehearsal import FLOW_STEPS, REFRESH
from worldmodel.representation import feature_layers, representation_head
from worldmodel.spec import DataSpec
from worldmodel.train import TrainConfig
from worldmodel.transformer import parameter_count

GB, MB = 1e9, 1e6
#: updates x segments of both stages of `make train`, which trained the shipped tiny model
RECIPE = 17_000 * 16


def random_segments(spec: DataSpec, batch: int, steps: int, chunk: int) -> Segment:
    images = torch.randint(0, 256, (batch, steps + 1, len(spec.cameras), *spec.image_size, 3))
    images = images.to(torch.uint8)
    there = torch.ones(batch, steps, dtype=torch.bool)
    return Segment(
        images, images[:, 0], torch.randn(batch, spec.P), torch.randn(batch, steps + 1, spec.P),
        there, torch.rand(batch, steps, spec.A), there, torch.rand(batch, steps, chunk, spec.A),
        torch.ones(batch, steps, chunk, dtype=torch.bool),
        torch.zeros(batch, steps, len(OUTCOMES)),
    )  # fmt: skip


def kept_bytes(spec: DataSpec, config: ModelConfig, steps: int) -> int:
    """Bytes that the backward of a segment keeps in fp32, without weights."""
    model, head = WorldModel(spec, config), representation_head(config.trunk.width)
    weights = {p.shape for p in [*model.parameters(), *head.parameters()] if p.ndim > 1}
    weights |= {shape[::-1] for shape in weights if len(shape) == 2}
    kept: dict[int, int] = {}

    def keep(x: Tensor) -> Tensor:
        if x.shape not in weights:
            kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
            alive.append(x)
        return x

    alive: list[Tensor] = []  # else a place in memory would be counted once for two tensors
    segment, generator = random_segments(spec, 1, steps, config.chunk), torch.Generator()
    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x)
    with hooks:
        self_flow_loss(model, head, model, segment, ObjectiveConfig("self_flow"), generator)
    return sum(kept.values())


def activation_bytes(spec: DataSpec, config: ModelConfig, steps: int) -> float:
    """The same at the full depth, of which it is a linear function: shallow models tell. Attention
    is a GPU's kernel here, which keeps no scores."""
    layers.attend = lambda q, k, v, mask: F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    one, two = (
        kept_bytes(spec, dataclasses.replace(config, trunk=trunk), steps)
        for trunk in (dataclasses.replace(config.trunk, depth=depth) for depth in (1, 2))
    )
    return one + (config.trunk.depth - 1) * (two - one)


def noise_seconds(numbers: int) -> float:
    """Time to draw so many random numbers in one thread, as every process does."""
    torch.set_num_threads(1)
    generator, best = torch.Generator().manual_seed(0), float("inf")
    for _ in range(5):
        start = time.perf_counter()
        torch.randn(numbers, generator=generator)
        best = min(best, time.perf_counter() - start)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="base")
    parser.add_argument("--gpus", type=int, nargs="+", default=[8, 64])
    parser.add_argument("--per-gpu", type=int, default=16, help="segments per GPU and update")
    parser.add_argument("--per-machine", type=int, default=8, help="GPUs in a machine")
    parser.add_argument("--peak", type=float, default=989e12, help="FLOP/s, dense bf16, of a GPU")
    parser.add_argument("--link", type=float, default=450e9, help="byte/s each way in a machine")
    parser.add_argument("--wire", type=float, default=50e9, help="byte/s each way between them")
    parser.add_argument("--utilisation", type=float, default=0.3, help="share of --peak")
    parser.add_argument("--bandwidth", type=float, default=0.7, help="share of --link and --wire")
    a = parser.parse_args()

    spec = untrained_spec(EnvConfig())
    config = build(ModelConfig, compose("train", [f"model={a.model}"])["model"])
    objective, training = ObjectiveConfig("self_flow"), TrainConfig()
    T, J = training.segment, next_count(training.segment, objective)
    model, head = WorldModel(spec, config), representation_head(config.trunk.width)
    P, trained = parameter_count(model), parameter_count(model) + parameter_count(head)
    blocks = parameter_count(model.trunk.blocks)
    each, once = activation_bytes(spec, config, T), 2 * trained
    pixels = len(spec.cameras) * 3 * spec.image_size[0] * spec.image_size[1]
    noise = (T + J) * pixels  # of the context and of what follows; plans and the rest are few
    drawing = noise_seconds(noise)
    plain = training_flops(model, T, objective)
    robot = 3 * training.robot_samples * body_flops(model)
    dreaming = (
        training.rehearse_steps
        * imagination_flops(model, 1, config.window) / REFRESH
        * sum(FLOW_STEPS) / len(FLOW_STEPS)
    )  # fmt: skip

    def row(what: str, *values: str) -> None:
        print(f"| {what} |", " | ".join(values), "|")

    print(f"\n### {config.name}, counted\n")
    row("what", "figure")
    row("---", "---")
    row("parameters; of these in the trunk's blocks", f"{P / 1e6:.1f} M; {blocks / P:.0%}")
    row("tokens of a segment", f"{segment_tokens(model, T, objective)}")
    row("FLOPs to train on a segment", f"{plain / 1e12:.2f} T")
    row("more for rehearsal, per segment (at most)", f"{dreaming / 1e12:.2f} T")
    row("robot's own picture and motion, per update", f"{robot / 1e12:.2f} T")
    row("weights and gradients, fp32", f"{8 * trained / GB:.2f} GB")
    row("AdamW", f"{8 * trained / GB:.2f} GB")
    row("EMA teacher", f"{4 * P / GB:.2f} GB")
    row(
        "kept for the backward, fp32, per segment; weights in bf16",
        f"{each / MB:.0f}; {once / MB:.0f} MB",
    )
    row("state.safetensors; checkpoint", f"{(12 * trained + 4 * P) / GB:.2f}; {4 * P / GB:.2f} GB")
    row("noise per segment; to draw it here", f"{noise / 1e3:.0f} k; {1000 * drawing:.2f} ms")

    print(f"\n### {config.name}, planned: {a.per_gpu} segments per GPU\n")
    row("what", *(f"{W} GPUs" for W in a.gpus))
    row("---", *("---" for _ in a.gpus))
    rows: dict[str, list[str]] = {}

    def say(what: str, value: str) -> None:
        rows.setdefault(what, []).append(value)

    for W in a.gpus:
        batch = a.per_gpu * W
        fast = a.bandwidth * (a.link if a.per_machine >= W else a.wire)
        share = (W - 1) / W
        fixed = 16 * trained + 4 * P
        pool = batch * (training.rehearse_steps + 1) * pixels
        memory = fixed + once + a.per_gpu * each + pool
        shards = fixed / W + once + a.per_gpu * each + pool + 4 * (trained + P - 2 * blocks)
        teacher = feature_layers(config.trunk.depth)[1] / config.trunk.depth
        outside = trained + P - 2 * blocks  # whole during a forward, and again in the backward
        ddp = 2 * share * 4 * trained
        fsdp = share * 4 * ((2 + teacher) * blocks + 2 * outside + trained)
        flops = a.per_gpu * (plain + training.rehearse * 2 * dreaming) + robot / W
        compute = flops / (a.utilisation * a.peak)
        seconds = compute + ddp / fast
        say("segments per update", f"{batch}")
        say("memory per GPU, ddp", f"{memory / GB:.1f} GB")
        say("memory per GPU, fsdp", f"{shards / GB:.1f} GB")
        say("of it the imagined pictures", f"{pool / GB:.2f} GB")
        say("FLOPs per update, all GPUs", f"{W * flops / 1e12:.0f} T")
        say("computing per update", f"{1000 * compute:.0f} ms")
        say("sent by a GPU per update, ddp; time", f"{ddp / GB:.2f} GB; {1000 * ddp / fast:.1f} ms")
        say("the same, fsdp", f"{fsdp / GB:.2f} GB; {1000 * fsdp / fast:.1f} ms")
        say("drawing the noise of all rows", f"{1000 * batch * drawing:.0f} ms")
        say("with own_noise=true", f"{1000 * a.per_gpu * drawing:.0f} ms")
        for name, segments in (("a million segments", 1e6), ("as many as `make train`", RECIPE)):
            updates = segments / batch
            own, same = (
                updates * (seconds + rows_drawn * drawing) / 3600
                for rows_drawn in (a.per_gpu, batch)
            )
            say(f"hours for {name}; with own_noise", f"{same:.2f}; {own:.2f}")
    for what, values in rows.items():
        row(what, *values)


if __name__ == "__main__":
    main()
