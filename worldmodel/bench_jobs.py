"""What the `bench` commands do once their words are dataclasses; see jobs.py."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from worldmodel.env_config import EnvConfig, make_env
from worldmodel.files import write_json
from worldmodel.jobs import (
    CheckpointOptions,
    DataOptions,
    RolloutOptions,
    done,
    open_dataset,
    write_table,
)
from worldmodel.log import progress
from worldmodel.policy_config import PolicyConfig, identity, make_policy
from worldmodel.shipped import find_checkpoint, find_probe

if TYPE_CHECKING:
    from worldmodel.arms import ArmsConfig
    from worldmodel.bench import (
        BenchDataConfig,
        BenchPolicyConfig,
        BenchRolloutConfig,
        BenchTrainConfig,
    )
    from worldmodel.bench_env import BenchEnvConfig
    from worldmodel.bench_growth import GrowthConfig
    from worldmodel.heldout import HeldoutConfig
    from worldmodel.model import ModelConfig
    from worldmodel.objective import ObjectiveConfig
    from worldmodel.rollout import RolloutConfig
    from worldmodel.spec import DataSpec


def run_bench_env(folder: Path, config: BenchEnvConfig, env: EnvConfig) -> None:
    from worldmodel.bench_env import bench_env

    with progress("bench env", total=config.steps, unit="steps") as bar:
        result = bench_env(partial(make_env, env), config, bar.advance)
    write_table("Speed of the env", {"env": env.id, **result}, folder)


def run_bench_data(folder: Path, options: DataOptions, config: BenchDataConfig) -> None:
    from worldmodel.bench import bench_data

    dataset = open_dataset(options.data)
    total = config.draws * config.batch
    with progress("bench data", total=total, unit="windows") as bar:
        result = bench_data(dataset, config, bar.advance)
    write_table("Speed of reading", {"data": str(options.data), **result}, folder)


def run_bench_train(
    folder: Path, config: BenchTrainConfig, env: EnvConfig, model: ModelConfig,
    objective: ObjectiveConfig,
) -> None:  # fmt: skip
    from worldmodel.bench import bench_train

    spec = untrained_spec(env)
    with progress("bench train", total=config.steps + 2, unit="updates") as bar:
        result = bench_train(spec, model, objective, config, bar.advance)
    write_table("Speed of training", result, folder)


def run_bench_growth(
    folder: Path, config: GrowthConfig, env: EnvConfig, model: ModelConfig,
    objective: ObjectiveConfig,
) -> None:  # fmt: skip
    from worldmodel.bench_growth import bench_growth
    from worldmodel.report import Report
    from worldmodel.runs import hardware

    spec = untrained_spec(env)
    with progress("bench growth", total=config.rows, unit="rows") as bar:
        result = bench_growth(spec, model, objective, config, bar.advance)
    write_json(folder / "result.json", {**result, "hardware": hardware()})
    columns, rows = result.pop("columns"), result.pop("rows")
    lines: dict[str, tuple[list[float], list[float]]] = {}
    for what, batch, window, ms, *_ in rows:
        x, y = lines.setdefault(f"{what}, W = {window}" if window else what, ([], []))
        x.append(float(batch))
        y.append(ms / batch)
    cells = [
        [f"{x:.2%}" if c == "utilisation" else f"{x:.4g}" if isinstance(x, float) else str(x)
         for c, x in zip(columns, row, strict=True)]
        for row in rows
    ]  # fmt: skip
    print("\n".join(f"| {' | '.join(row)} |" for row in [columns, ["---"] * len(columns), *cells]))
    report = Report("How costs grow", f"{model.name}, untrained")
    report.table(["what", "figure"], [[k, str(v)] for k, v in result.items()])
    report.chart(lines, x_label="batch", y_label="ms per row of the batch", log_y=True)
    report.table(list(columns), cells).write(folder / "report.html")
    done(folder)


def run_bench_policy(
    folder: Path, config: BenchPolicyConfig, env: EnvConfig, policy: PolicyConfig
) -> None:
    from worldmodel.bench import bench_policy

    made = make_env(env)
    try:
        actor = make_policy(policy, made)
        observation, _ = made.reset(seed=0)
        with progress("bench policy", total=config.plans + 5, unit="plans") as bar:
            result = bench_policy(actor, observation, config, bar.advance)
    finally:
        made.close()
    write_table("Latency of a plan", {**identity(env, policy), **result}, folder)


def run_bench_rollout(
    folder: Path, options: CheckpointOptions, config: BenchRolloutConfig, sampler: RolloutConfig
) -> None:
    from worldmodel import checkpoint
    from worldmodel.bench import bench_rollout
    from worldmodel.report import Report
    from worldmodel.rollout import placed

    model = placed(checkpoint.load(find_checkpoint(options.checkpoint)).model, sampler)
    total = config.steps + len(config.batches) * config.timed
    with progress("bench rollout", total=total, unit="steps") as bar:
        result, curve = bench_rollout(model, config, sampler, bar.advance)
    report = Report("Speed of imagining")
    steps = [100.0 * (i + 1) for i in range(len(curve))]
    report.chart({"step": (steps, curve)}, x_label="env step", y_label="ms per step")
    write_json(folder / "curve.json", {"env_step": steps, "ms_per_step": curve})
    write_table(report, {"checkpoint": options.checkpoint, **result}, folder)


def run_bench_heldout(
    folder: Path, options: RolloutOptions, data: DataOptions, config: HeldoutConfig
) -> None:
    import torch

    from worldmodel import checkpoint
    from worldmodel.heldout import heldout, rows_of
    from worldmodel.probe import load_probe
    from worldmodel.report import Report
    from worldmodel.runs import hardware
    from worldmodel.spec import check_compatible

    if config.threads:
        torch.set_num_threads(config.threads)
    model = checkpoint.load(find_checkpoint(options.checkpoint)).model
    dataset = open_dataset(data.data)
    check_compatible(dataset.spec, model.spec)
    probe = load_probe(find_probe(options.probe))[0] if options.probe else None
    _, held_out = dataset.split(config.holdout)
    with progress("bench heldout", total=len(config.flow_steps) + 2) as bar:
        figures = heldout(
            model, probe, lambda T: dataset.windows(T, model.config.chunk, held_out), config,
            bar.advance,
        )  # fmt: skip
    about = {"checkpoint": options.checkpoint, "data": str(data.data), "holdout": config.holdout}
    write_json(folder / "result.json", {**about, **figures, "hardware": hardware()})
    rows = rows_of({**about, **figures})
    width = max(len(name) for name, _ in rows)
    print("\n".join(f"{name:<{width}}  {value}" for name, value in rows))
    report = Report("Held-out episodes", f"{options.checkpoint} on {data.data}")
    report.table(["what", "figure"], rows).write(folder / "report.html")
    done(folder)


def run_bench_objective(folder: Path, config: ArmsConfig) -> None:
    from worldmodel.arms import check_data, run_stages, stages
    from worldmodel.arms_report import gather, table, write_report
    from worldmodel.build import plain
    from worldmodel.runs import claim, hardware

    check_data(config.data)
    same = {k: v for k, v in plain(config).items() if k not in ("arms", "seeds", "parallel")}
    claim(folder / "arms.json", same, "arms")
    trainings = list(stages(config, folder))
    print(f"{len(trainings)} trainings; each says in its log.txt, under {folder}, how far it is")
    with progress("bench objective", total=sum(map(len, trainings)), unit="stages") as bar:
        run_stages(trainings, config.parallel, bar.advance)
    result = gather(config, folder)
    write_json(folder / "result.json", {**plain(config), **result, "hardware": hardware()})
    header, rows = table(result)
    print("\n".join(" | ".join(row) for row in [header, *rows]))
    write_report(result, config, folder)
    done(folder)


def untrained_spec(env: EnvConfig) -> DataSpec:
    """The env's DataSpec with unit statistics: there is no dataset to take them from."""
    from worldmodel.spec import FeatureStats, spec_of_env

    made = make_env(env)
    spec = spec_of_env(made)
    made.close()

    def unit(n: int) -> FeatureStats:
        zero, one = (0.0,) * n, (1.0,) * n
        return FeatureStats(zero, one, (-1.0,) * n, one, (-1.0,) * n, one, 1)

    return dataclasses.replace(
        spec, proprio_stats=unit(spec.P), change_stats=unit(spec.P), action_stats=unit(spec.A)
    )
