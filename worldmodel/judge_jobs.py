"""What `worldmodel judge` does once its words are dataclasses; see jobs.py."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from worldmodel.env_config import EnvConfig, make_env
from worldmodel.errors import UserError
from worldmodel.jobs import CheckpointOptions, done, world_at
from worldmodel.log import progress
from worldmodel.policy_config import PolicyConfig, identity, make_policy
from worldmodel.shipped import find_checkpoint, find_probe, weights_sha256

if TYPE_CHECKING:
    from worldmodel.judge import JudgeConfig
    from worldmodel.rollout import RolloutConfig


@dataclass(frozen=True)
class JudgeOptions(CheckpointOptions):
    probe: str = field(
        default="",
        metadata={
            "help": "state probe, folder or name of a shipped one, by which successes inside are "
            "believed only where things lie still until the hand holds them: pick_can_probe for "
            "PickCan ('': whatever the outcome leaf says)"
        },
    )
    doubt: bool | None = field(
        default=None,
        metadata={
            "help": "false: judge as if the model never doubted what it imagines (none: false with "
            "probe=, true without)"
        },
    )


def run_judge(
    folder: Path, options: JudgeOptions, config: JudgeConfig, sampler: RolloutConfig,
    env: EnvConfig,
) -> None:  # fmt: skip
    from worldmodel import checkpoint
    from worldmodel.judge import judge
    from worldmodel.judge_report import write_report
    from worldmodel.probe import load_probe
    from worldmodel.steady import check_steady, doubts

    place = find_checkpoint(options.checkpoint)
    spec, probe = checkpoint.load(place).model.spec, None
    doubt = doubts(options.doubt, options.probe)
    if options.probe:
        probe, _ = load_probe(find_probe(options.probe))
        check_steady(probe, options.probe, spec)
    judged = {word: policy_of(word) for word in config.policies}
    about = {
        "env": env.id, "env_options": env.options, "checkpoint": options.checkpoint,
        "checkpoint_sha256": weights_sha256(place), "probe": options.probe, "doubt": doubt,
    }  # fmt: skip
    total = 2 * config.episodes * len(judged)
    with progress("judge", total=total, unit="episodes") as bar:
        result = judge(
            partial(make_env, env), {w: partial(make_policy, p) for w, p in judged.items()},
            {w: identity(env, p) for w, p in judged.items()},
            partial(world_at, place, sampler, doubt), spec, probe, config, sampler, about, folder,
            bar.advance,
        )  # fmt: skip
    write_report(result, folder)
    for row in result["table"]:
        print(f"{row['policy']}: {row['real']:.3f} in the simulator, {row['imagined']:.3f} inside")
    done(folder)


def policy_of(word: str) -> PolicyConfig:
    """The policy that ``checkpoint`` or ``checkpoint+noise`` means."""
    name, _, noise = word.partition("+")
    try:
        level = float(noise or 0.0)
    except ValueError as error:
        raise UserError(
            f"policies: '{word}': got the noise '{noise}', expected a number, as in {name}+0.4"
        ) from error
    if name == "random":
        return PolicyConfig(name="random", noise=level)
    if name == "scripted":
        raise UserError(
            "policies: the scripted expert reads the simulator's state, which an imagined world "
            "has not; name checkpoints"
        )
    return PolicyConfig(name="checkpoint", path=str(find_checkpoint(name)), noise=level)
