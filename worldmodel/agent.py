"""A policy that gets better by what it imagines: no simulator in the loop.

Each round the policy plays episodes inside the model, from real observations. Those that the model
reads as successes are kept and, with the demonstrations it began with, refit (self-imitation
filtered by success, as in [Oh et al. 2018, arXiv 1806.05635] and [Gulcehre et al. 2023, arXiv
2308.08998]). Who practises may be led by what is imagined of its plans (the ``make_policy`` of
:func:`improve`; worldmodel.steer), so that what is imitated is better than what the policy does by
itself, which is tried out without (expert iteration [Anthony et al. 2017, arXiv 1705.08439]). Two
controls answer whether imagination did it: ``keep=shuffled`` is led by what was found for other
plans and keeps as many episodes without looking at how they went, ``keep=nothing`` only trains on,
for as long (``controls=true`` of `worldmodel agent` trains both beside it).
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from worldmodel import checkpoint
from worldmodel.dataset import STREAMS, Dataset
from worldmodel.errors import RunError, UserError
from worldmodel.evaluate import EvalConfig, evaluate
from worldmodel.files import write_json
from worldmodel.imagined_episodes import ImaginedEpisode
from worldmodel.log import Progress
from worldmodel.metrics import sign_test
from worldmodel.model import WorldModel
from worldmodel.objective import ObjectiveConfig
from worldmodel.optim import OptimConfig
from worldmodel.practise import Practice, practise, read_episodes, write_episodes
from worldmodel.probe import StateProbe
from worldmodel.rollout import RolloutConfig
from worldmodel.runs import hardware
from worldmodel.spec import DataSpec
from worldmodel.starts import Starts
from worldmodel.steady import STILL, moved
from worldmodel.train import TrainConfig, train
from worldmodel.trials import Actor, MakeEnv, MakePolicy
from worldmodel.video import side_by_side, write_mp4
from worldmodel.windows import EpisodeInfo, Windows

CONTROLS = ("shuffled", "nothing")  # of `keep`
#: only plans are trained: a frame's leaf would learn from the model's own pictures
OBJECTIVE = ObjectiveConfig(name="flow", next_ratio=0.0, plans=4, cut=1.0, weight_outcome=0.0)


@dataclass(frozen=True)
class AgentConfig:
    rounds: int = field(default=3, metadata={"help": "how often it imagines and refits"})
    episodes: int = field(
        default=256, metadata={"help": "starts of a round, from each of which it imagines"}
    )
    max_steps: int = field(default=60, metadata={"help": "longest imagined episode"})
    keep: Literal["success", "shuffled", "nothing"] = field(
        default="success",
        metadata={
            "help": "success: imitate imagined successes; the controls: shuffled (as many, at "
            "random) and nothing (only the demonstrations)"
        },
    )
    still: float = field(
        default=STILL,
        metadata={
            "help": "m by which a hand may move a thing before it holds it for a success to be "
            "believed, where probe= reads the pictures"
        },
    )
    updates: int = field(default=400, metadata={"help": "updates a round"})
    batch: int = field(default=64, metadata={"help": "observations per update"})
    lr: float = field(default=3e-4, metadata={"help": "peak learning rate of a round"})
    seed: int = field(default=50_000, metadata={"help": "of starts, plans, noise and updates"})
    test_episodes: int = field(
        default=300, metadata={"help": "episodes in the simulator, before and after"}
    )
    test_seed: int = field(default=60_000, metadata={"help": "test i starts with test_seed + i"})
    workers: int = field(
        default=0,
        metadata={
            "help": "processes that imagine episodes, and try out in the simulator, of a thread "
            "each; 0: one per core"
        },
    )

    def __post_init__(self) -> None:
        counts = ("rounds", "episodes", "max_steps", "updates", "batch", "test_episodes")
        wrong = {name: getattr(self, name) for name in counts if getattr(self, name) < 1}
        if wrong:
            raise ValueError(f"expected at least 1, got {wrong}")


def improve(
    start: Path, make_policy: Callable[[Path], Actor], make_world: Callable[[], WorldModel],
    starts: Starts, demonstrations: Dataset, config: AgentConfig, sampler: RolloutConfig,
    out: Path, probe: StateProbe | None = None,
) -> list[dict[str, Any]]:  # fmt: skip
    """Improve the policy of the checkpoint ``start``; what happened in each round.

    ``make_policy`` makes one of a checkpoint's folder, ``make_world`` the model that it imagines
    in; both must be picklable where several workers run. ``starts`` are rounds x episodes, in the
    order in which they are used. With ``probe`` successes count only where things lie still until
    they are held (worldmodel.steady). The result is ``checkpoint`` in the last ``out/round-<k>``.
    Finished rounds, and parts of one, found in ``out`` are not done again. RunError where a round
    has no success.
    """
    place, rounds, practised = start, [], []
    for k in range(config.rounds):
        folder = out / f"round-{k}"
        folder.mkdir(parents=True, exist_ok=True)
        practice = Practice(
            partial(make_policy, place), make_world, config.max_steps, sampler,
            config.seed + k * config.episodes, folder / "imagined",
        )  # fmt: skip
        policy = checkpoint.load(place).model
        kept, figures = _practise(practice, starts, config, folder, k, probe, policy.spec)
        practised += kept
        windows = _windows(demonstrations, practised, policy.config.chunk)
        if not (folder / "result.json").exists():
            result = train(
                windows, windows, policy.spec, policy.config, OBJECTIVE, OptimConfig(lr=config.lr),
                TrainConfig(
                    steps=config.updates, batch=config.batch, segment=1, rehearse=0.0,
                    robot_samples=0, seed=config.seed + k, validate_every=config.updates,
                    validate_windows=64,
                ),
                folder, resume=True, about={"agent": asdict(config)}, initial=policy,
            )  # fmt: skip
            figures |= {
                "loss_plan": result.metrics.get("loss_plan"),
                "minutes": figures.get("minutes", 0.0) + result.hours * 60,
            }
            write_json(folder / "result.json", figures)
            (folder / checkpoint.STATE).unlink()
        rounds.append(json.loads((folder / "result.json").read_text(encoding="utf-8")))
        place = folder / "checkpoint"
    return rounds


def _practise(
    practice: Practice, starts: Starts, config: AgentConfig, folder: Path, k: int,
    probe: StateProbe | None, spec: DataSpec,
) -> tuple[list[ImaginedEpisode], dict[str, Any]]:  # fmt: skip
    """Imagine a round's episodes; those to imitate, and figures. Both are kept in ``folder``."""
    file = folder / "kept.safetensors"
    if file.exists():
        return read_episodes(file)
    if config.keep == "nothing":
        return [], {"round": k, "imagined_steps": 0, "kept": 0}
    part = starts.only(np.arange(config.episodes) + k * config.episodes)
    began, heard = time.monotonic(), list[bool]()
    with Progress("imagine", len(part), unit="episodes") as bar:

        def hear(success: bool) -> None:
            heard.append(success)
            bar.advance(1, text=f"round {k}, success {sum(heard) / len(heard):.3f}")

        episodes = practise(practice, part, config.workers, hear)
    _film(episodes, folder, spec)
    won = [e for e in episodes if e.success]
    kept = [e for e in won if probe is None or moved(probe, e.images) <= config.still]
    figures = {
        "round": k, "imagined_success": len(won) / len(part), "kept": len(kept),
        "imagined_steps": sum(map(len, episodes)), "minutes": (time.monotonic() - began) / 60,
    }  # fmt: skip
    if not kept and config.keep == "success":
        raise RunError(
            f"round {k}: none of {len(episodes)} imagined episodes is read as a success, so there "
            "is nothing to imitate; begin with a better policy (more demonstrations), or raise "
            "max_steps or episodes"
        )
    if config.keep == "shuffled":
        drawn = np.random.default_rng([config.seed, k]).permutation(len(episodes))
        kept = [episodes[i] for i in drawn[: len(kept)]]
    write_episodes(file, kept, figures)
    shutil.rmtree(practice.folder)
    return kept, figures


def _film(episodes: Sequence[ImaginedEpisode], folder: Path, spec: DataSpec) -> None:
    """The first success and the first failure."""
    for success, name in ((True, "success"), (False, "failure")):
        episode = next((e for e in episodes if e.success is success), None)
        if episode is not None:
            film = side_by_side(list(episode.images.swapaxes(0, 1)))
            write_mp4(folder / f"{name}.mp4", film, fps=spec.control_frequency)


def _windows(dataset: Dataset, practised: Sequence[ImaginedEpisode], chunk: int) -> Windows:
    """Windows of one step, about half of them from the demonstrations of ``dataset``."""
    shown = [e for e in dataset.episodes if e.demonstration]
    if not shown:
        raise UserError(f"{dataset.path} has no demonstrations, with which a policy begins")
    if not practised:
        return dataset.windows(1, chunk, [e.index for e in shown])
    streams: dict[str, list[np.ndarray]] = {name: [dataset.stream(name)] for name in STREAMS}
    start, infos = len(dataset.stream("proprio")), []
    for i, e in enumerate(practised):
        action = np.concatenate([e.action, e.action[-1:]])  # an entry per frame
        outcome = np.zeros((len(e) + 1, 4), np.float32)
        rows = {"images": e.images, "proprio": e.proprio, "action": action, "label": action}
        for name, values in {**rows, "outcome": outcome}.items():
            streams[name].append(values)
        infos.append(EpisodeInfo(i, len(e), start, e.success, 0, "imagined", True))
        start += len(e) + 1
    arrays = {name: np.concatenate(parts) for name, parts in streams.items()}
    share = sum(map(len, practised)) / sum(e.length for e in shown)
    return Windows(arrays, [*shown * max(1, round(share)), *infos], 1, chunk)


def try_out(
    make_env: MakeEnv, make_policy: MakePolicy, config: AgentConfig, out: Path,
    about: dict[str, Any], on_progress: Callable[[int, str], None],
) -> dict[str, Any]:  # fmt: skip
    """Success in the simulator, on seeds of its own; `success` tells it episode by episode."""
    trial = EvalConfig(config.test_episodes, config.test_seed, config.workers)
    found = evaluate(make_env, make_policy, trial, out, about=about, on_progress=on_progress)
    names = ("success_rate", "wilson95", "episodes", "outcomes", "mean_steps_to_success")
    figures = {name: found.summary[name] for name in names}
    return figures | {"success": [e.success for e in found.episodes], "hardware": hardware()}


def beside(ours: Sequence[bool], theirs: Sequence[bool]) -> dict[str, float]:
    """Two policies on the same episodes: those that only one of them won, and the sign test."""
    a, b = np.array(ours), np.array(theirs)
    won, lost = int((a & ~b).sum()), int((b & ~a).sum())
    return {"won": won, "lost": lost, "p": sign_test(won, lost)}
