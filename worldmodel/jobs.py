"""What the commands do once their words are dataclasses: (folder, *dataclasses) -> None."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from worldmodel.env_config import EnvConfig, make_env
from worldmodel.errors import RunError, UserError
from worldmodel.files import write_json
from worldmodel.log import progress
from worldmodel.policy_config import PolicyConfig, identity, make_policy
from worldmodel.shipped import find_checkpoint, find_probe, weights_sha256

if TYPE_CHECKING:
    from worldmodel.branches import BranchConfig
    from worldmodel.collect import CollectConfig
    from worldmodel.dataset import Dataset
    from worldmodel.demo import DemoConfig
    from worldmodel.endless import EndlessConfig
    from worldmodel.evaluate import EvalConfig
    from worldmodel.imagine import ImagineConfig
    from worldmodel.model import WorldModel
    from worldmodel.probe import ProbeConfig
    from worldmodel.report import Report
    from worldmodel.rollout import RolloutConfig
    from worldmodel.trials import MakePolicy


def run_demo(folder: Path, config: DemoConfig, env: EnvConfig, policy: PolicyConfig) -> None:
    from worldmodel.demo import demo

    model = model_of(policy)
    with progress("demo", total=config.episodes + config.imagine) as bar:
        s = demo(
            partial(make_env, env), partial(make_policy, policy), model, config, folder,
            identity(env, policy), bar.advance,
        )  # fmt: skip
    low, high = s["wilson95"]
    print(f"success {s['successes']} of {s['episodes']}, 95 % interval [{low:.2f}, {high:.2f}]")
    done(folder)


def run_collect(folder: Path, config: CollectConfig, env: EnvConfig, policy: PolicyConfig) -> None:
    from worldmodel.collect import collect, share

    errs = None
    if policy.name == "scripted" and config.explore and config.mistaken:
        errs = partial(make_policy, dataclasses.replace(policy, mistaken=True))
    leads = PolicyConfig(name="checkpoint", path=config.student) if config.student else None
    with progress("collect", total=share(config), unit="episodes") as bar:
        summary = collect(
            partial(make_env, env), partial(make_policy, policy), config, folder, bar.advance, errs,
            partial(make_policy, leads) if leads else None,
        )  # fmt: skip
    if not summary:
        print(f"{share(config)} episodes in {folder}; with those of the other shards there, the "
              "same command without shard= makes the dataset")  # fmt: skip
        return
    write_json(folder / "result.json", {**identity(env, policy), **summary})
    print(f"dataset: {folder}")


def open_dataset(path: Path) -> Dataset:
    """The dataset in ``path``, with a bar while its videos are decoded, which is the first time."""
    from worldmodel.dataset import Dataset

    with contextlib.ExitStack() as stack:
        bars: list[progress] = []

        def show(done: int, total: int) -> None:
            if not bars:
                bars.append(stack.enter_context(progress("decode", total, unit="frames")))
            bars[0].advance(done - bars[0].done)

        return Dataset(path, show)


def run_eval(folder: Path, config: EvalConfig, env: EnvConfig, policy: PolicyConfig) -> None:
    from worldmodel.evaluate import evaluate
    from worldmodel.evaluate_report import write_report
    from worldmodel.shards import parse_shard

    shard = parse_shard(config.shard)
    total = len([i for i in range(config.episodes) if shard.has(i)])
    with progress("eval", total=total, unit="episodes") as bar:
        result = evaluate(
            partial(make_env, env), partial(make_policy, policy), config, folder,
            about=identity(env, policy), on_progress=bar.advance,
        )  # fmt: skip
    low, high = result.summary["wilson95"]
    n = result.summary["episodes"]
    for name, task in result.summary["tasks"].items():
        a, b = task["wilson95"]
        wins = f"{task['success_rate']:.2f} [{a:.2f}, {b:.2f}] of {task['episodes']}"
        failed = {k: v for k, v in task["outcomes"].items() if k != "success"}
        print(f"{name:16} {wins}", *(f"{v} {k}" for k, v in failed.items()), sep="  ")
    print(f"success {result.success_rate:.3f} [{low:.3f}, {high:.3f}] of {n} episodes")
    if shard.of > 1:
        print(f"this was shard {shard}; with the others in {folder}, the same command without "
              "shard= writes result.json and report.html")  # fmt: skip
        return
    write_report(result, folder)
    done(folder)


@dataclass(frozen=True)
class CheckpointOptions:
    checkpoint: str = field(
        default="pick_can_tiny",
        metadata={
            "help": "folder, name of a shipped checkpoint, or user/name[@revision] on the Hugging "
            "Face Hub"
        },
    )


@dataclass(frozen=True)
class RolloutOptions(CheckpointOptions):
    probe: str = field(
        default="pick_can_probe",
        metadata={
            "help": "state probe that judges the frames: folder, or name of a shipped one; not "
            "used where the env has no truth() for it to read, and with ''"
        },
    )


def run_rollout(
    folder: Path, options: RolloutOptions, config: ImagineConfig, branches: BranchConfig,
    long: EndlessConfig, sampler: RolloutConfig, env: EnvConfig, policy: PolicyConfig,
) -> None:  # fmt: skip
    from worldmodel import checkpoint
    from worldmodel.imagine import imagine, total_progress
    from worldmodel.probe import check_probe, load_probe
    from worldmodel.recording import truth_of
    from worldmodel.rollout import placed
    from worldmodel.spec import check_env

    place = find_checkpoint(options.checkpoint)
    model = placed(checkpoint.load(place).model, sampler)
    made = make_env(env)
    check_env(model.spec, made)
    made.reset(seed=config.seed)
    truth, probe = truth_of(made), None
    made.close()
    if options.probe and truth:
        probe, _ = load_probe(find_probe(options.probe))
        check_probe(probe, options.probe, model.spec, truth)
    else:
        print("no state probe: pictures and proprioception are compared, and no positions")
    name = options.probe if probe else ""
    about = {**identity(env, policy), "checkpoint": options.checkpoint, "probe": name}
    about["checkpoint_sha256"] = weights_sha256(place)
    own = PolicyConfig(name="checkpoint", path=str(place))
    plays = partial(make_policy, policy)
    who: dict[str, MakePolicy] = {"demonstrations": plays, "explorations": plays}
    if policy.name == "scripted" and config.mistakes:
        who["mistakes"] = partial(make_policy, dataclasses.replace(policy, mistaken=True))
    with progress("rollout", total=total_progress(len(who), config, branches, long)) as bar:
        s = imagine(
            partial(make_env, env), who, partial(make_policy, own), model, probe, config, branches,
            long, sampler, folder, about, bar.advance,
        )  # fmt: skip
    for kind in who:
        figures = s[kind]["imagined"]
        errors = ", ".join(
            f"{name.removesuffix('_mm')} {value[0]:.1f} mm"
            for name, value in figures.items()
            if name.endswith("_mm")
        )
        print(f"{kind}: {errors}{', ' * bool(errors)}PSNR {figures['psnr'][0]:.1f} dB")
    done(folder)


def run_probe(folder: Path, config: ProbeConfig, env: EnvConfig, policy: PolicyConfig) -> None:
    from worldmodel.probe import save_probe, train_probe
    from worldmodel.recording import record
    from worldmodel.spec import spec_of_env

    made = make_env(env)
    actor, spec, recordings = make_policy(policy, made), spec_of_env(made), []
    with progress("probe", total=config.episodes + config.updates) as bar:
        for i in range(config.episodes):
            recordings.append(record(made, actor, spec, config.seed + i, explore=i % 2 == 1))
            bar.advance(1, f"acted with seed {config.seed + i}")
        made.close()
        probe, error = train_probe(recordings, config, bar.advance)
    about = {"env": env.id, "env_options": env.options, "config": dataclasses.asdict(config),
             "error": error}  # fmt: skip
    save_probe(folder, probe, about)
    write_table("State probe: error on held-out real frames", error, folder)


@dataclass(frozen=True)
class DataOptions:
    data: Path = field(metadata={"help": "dataset folder"})


def run_data_check(config: DataOptions) -> None:
    from worldmodel.check import check

    videos = sum(1 for _ in (config.data / "videos").rglob("*.mp4"))
    with progress("check", total=videos, unit="videos") as bar:
        report = check(config.data, bar.advance)
    print(report.text())
    if not report.ok:
        raise RunError(f"{config.data} is not fit for training: see the errors above")


@dataclass(frozen=True)
class DoctorConfig:
    folder: Path = field(default=Path(), metadata={"help": "where data would be written"})


def run_doctor(config: DoctorConfig, env: EnvConfig) -> None:
    from worldmodel.doctor import examine, report

    findings = list(examine(env.id, config.folder))
    print(report(findings))
    missing = [f.what for f in findings if f.level == "missing"]
    if missing:
        raise RunError(f"missing: {', '.join(missing)}")


def model_of(policy: PolicyConfig) -> WorldModel:
    """The model behind a checkpoint policy."""
    from worldmodel import checkpoint

    if policy.name != "checkpoint":
        raise UserError(
            f"policy={policy.name} has no model to imagine with; give policy=<checkpoint>"
        )
    return checkpoint.load(find_checkpoint(policy.path)).model


def world_at(place: Path, sampler: RolloutConfig, doubt: bool) -> WorldModel:
    """The model of a checkpoint's folder, to imagine in."""
    from worldmodel import checkpoint
    from worldmodel.rollout import placed

    world = placed(checkpoint.load(place).model, sampler)
    if not doubt:
        world.trust()
    return world


def write_table(page: Report | str, values: Mapping[str, Any], folder: Path) -> None:
    """result.json, a page and the terminal get the same figures."""
    from worldmodel.report import Report
    from worldmodel.runs import hardware

    result = {**values, "hardware": hardware()}
    write_json(folder / "result.json", result)
    rows = [
        [key, f"{value:.4g}" if isinstance(value, float) else value]
        for key, value in [*values.items(), *result["hardware"].items()]
    ]
    width = max(len(str(key)) for key, _ in rows)
    print("\n".join(f"{key!s:<{width}}  {value}" for key, value in rows))
    page = Report(page) if isinstance(page, str) else page
    page.table(["what", "figure"], rows).write(folder / "report.html")


def done(folder: Path) -> None:
    print(f"report: {folder / 'report.html'}")
