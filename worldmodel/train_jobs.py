"""What `worldmodel train` does once its words are dataclasses; see jobs.py."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from worldmodel.check import one_outcome
from worldmodel.files import write_json
from worldmodel.jobs import done, open_dataset
from worldmodel.shipped import find_checkpoint

if TYPE_CHECKING:
    from worldmodel.distributed import Ranks
    from worldmodel.model import ModelConfig
    from worldmodel.objective import ObjectiveConfig
    from worldmodel.optim import OptimConfig
    from worldmodel.train import TrainConfig

STARTS = 64  # observations that a checkpoint keeps, for imagining without a dataset


@dataclass(frozen=True)
class TrainOptions:
    data: Path = field(metadata={"help": "dataset folder, as `worldmodel collect` writes it"})
    holdout: int = field(default=20, metadata={"help": "episodes kept for validation"})
    resume: bool = field(default=False, metadata={"help": "go on from the state in out=…"})
    init: str = field(
        default="",
        metadata={
            "help": "start from a checkpoint: its weights, size, normalisation ('': anew). The "
            "dataset may have more of proprioception: one of many tasks, say"
        },
    )
    settle: int = field(
        default=24,
        metadata={
            "help": "env steps of the rollouts by which it is decided at the end what the trunk "
            "may correct of the robot's own motion (model.correct); 0: it stays as it is"
        },
    )


def run_train(
    folder: Path, options: TrainOptions, config: TrainConfig, model: ModelConfig,
    objective: ObjectiveConfig, optim: OptimConfig,
) -> None:  # fmt: skip
    from worldmodel.distributed import together

    with together(config.device) as ranks:
        _train(folder, options, config, model, objective, optim, ranks)


def _train(
    folder: Path, options: TrainOptions, config: TrainConfig, model: ModelConfig,
    objective: ObjectiveConfig, optim: OptimConfig, ranks: Ranks,
) -> None:  # fmt: skip
    import numpy as np

    from worldmodel import checkpoint
    from worldmodel.settle import settled
    from worldmodel.spec import check_compatible
    from worldmodel.starts import save_starts, starts_of
    from worldmodel.train import train
    from worldmodel.train_report import write_report
    from worldmodel.widen import in_unit, widen, widens

    with ranks.first_goes_first():  # it decodes the videos, if nobody has
        dataset = open_dataset(options.data)
    spec, initial = dataset.spec, None
    if options.init:
        initial = checkpoint.load(find_checkpoint(options.init)).model
        if widens(initial.spec, dataset.spec):
            initial = widen(initial, dataset.spec)
        check_compatible(dataset.spec, initial.spec)
        initial = in_unit(initial, model.reward_unit)
        spec, model = initial.spec, initial.config
    training, held_out = dataset.split(options.holdout)
    windows = dataset.windows(config.segment, model.chunk, training)
    validation = dataset.windows(config.segment, model.chunk, held_out)
    about = {"data": str(options.data), "init": options.init, "episodes": len(training)}
    if ranks.first:
        for what, repair in one_outcome([e.success for e in dataset.episodes]):
            print(f"warning: {what}; {repair}", file=sys.stderr)
        about |= json.loads((folder / "run.json").read_text(encoding="utf-8"))
        every = np.linspace(0, len(dataset) - 1, min(STARTS, len(dataset))).astype(int)
        save_starts(folder / "checkpoint", starts_of(dataset, every.tolist()))
    result = train(
        windows, validation, spec, model, objective, optim, config, folder, options.resume,
        about, initial, ranks,
    )  # fmt: skip
    if not ranks.first:
        return
    summary = {"steps": result.steps, "hours": result.hours, **result.metrics}
    write_json(folder / "result.json", summary)
    loaded = checkpoint.load(folder / "checkpoint")
    trained = loaded.model
    if options.settle and objective.next_ratio:
        longest = max(dataset.episodes[i].length for i in training)
        stretches = dataset.windows(min(options.settle, longest), model.chunk, training)
        trained = settled(trained, stretches)
        checkpoint.save(folder / "checkpoint", trained, loaded.about)
        print(f"the trunk corrects: {', '.join(trained.config.correct or ()) or 'nothing'}")
    title = f"{model.name}, {objective.name}, on {options.data}"
    write_report(folder, trained, validation, title)
    print(f"{result.steps} updates in {result.hours:.2f} h; policy=… is {folder / 'checkpoint'}")
    done(folder)
