"""Who acts, and how they are made: what ``policy=…`` and ``policy.…=`` say."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from worldmodel.adapt import AdaptConfig
from worldmodel.build import plain
from worldmodel.env_config import EnvConfig
from worldmodel.errors import UserError
from worldmodel.shipped import find_checkpoint, find_probe, known_as, weights_sha256

if TYPE_CHECKING:
    import gymnasium

    from policies.base import Policy
    from policies.flow_policy import FlowPolicy
    from worldmodel.model import WorldModel


@dataclass(frozen=True)
class PolicyConfig:
    """Who acts."""

    name: Literal["random", "scripted", "checkpoint"] = field(
        default="scripted",
        metadata={"help": "or, short: policy=<checkpoint folder, name, or user/name on the Hub>"},
    )
    path: str = field(default="", metadata={"help": "checkpoint folder, with name=checkpoint"})
    replan: int | None = field(
        default=None, metadata={"help": "steps played of each plan (none: as in the checkpoint)"}
    )
    flow_steps: int | None = field(
        default=None, metadata={"help": "K, denoising steps a plan (none: as in the checkpoint)"}
    )
    candidates: int = field(
        default=1,
        metadata={"help": "plans imagined each time, of which the best is played"},
    )
    world: str = field(
        default="",
        metadata={
            "help": "folder or name of the model that imagines for it ('': the policy's own)"
        },
    )
    probe: str = field(
        default="",
        metadata={
            "help": "state probe, folder or name of a shipped one, as pick_can_probe: plans are "
            "led to the thing by what is imagined of them ('': they are not)"
        },
    )
    shuffled: bool = field(
        default=False,
        metadata={"help": "a control: what is found for one plan is taken for another's"},
    )
    budget_ms: float | None = field(
        default=None,
        metadata={"help": "time an action may take; sets how many candidates (none: any)"},
    )
    noise: float = field(
        default=0.0, metadata={"help": "standard deviation of noise added to every action"}
    )
    mistaken: bool = field(
        default=False,
        metadata={"help": "scripted: an expert that errs about where things are, and fails so"},
    )
    inside: str = field(
        default="",
        metadata={
            "help": "folder or name of a world model: the policy sees an episode's first "
            "observation, and then what this imagines ('': what there is)"
        },
    )
    device: str = field(default="cpu", metadata={"help": "where a checkpoint runs: cpu, cuda"})

    def __post_init__(self) -> None:
        if self.inside and self.name != "checkpoint":
            raise ValueError(f"inside=… goes with a checkpoint as policy, got name={self.name}")
        if self.world and self.candidates < 2 and not self.probe:
            raise ValueError(
                "world=… imagines candidates, or leads plans: give candidates=… of 2 or more, or "
                "probe=…"
            )
        if self.probe and (self.name != "checkpoint" or self.candidates > 1):
            raise ValueError(
                "probe=… leads the plans of a checkpoint, one at a time; got "
                f"name={self.name} and candidates={self.candidates}"
            )
        if self.shuffled and not self.probe:
            raise ValueError("shuffled=true is the control of probe=…: give both")
        if (self.name == "checkpoint") != bool(self.path):
            raise ValueError("name=checkpoint and path=… go together: write policy=<path>")
        if self.mistaken and self.name != "scripted":
            raise ValueError(f"mistaken=true goes with policy=scripted, got name={self.name}")


def make_policy(config: PolicyConfig, env: gymnasium.Env) -> Policy:
    """The policy that ``config`` names, for acting in ``env``; UserError when they don't fit."""
    import policies

    try:
        match config.name:
            case "random":
                policy = policies.RandomPolicy(env)
            case "scripted":
                policy = policies.ScriptedPolicy(env, config.mistaken)
            case "checkpoint":
                policy = policies.load(
                    config.path,
                    env,
                    replan=config.replan,
                    flow_steps=config.flow_steps,
                    device=config.device,
                )
                if config.candidates > 1:
                    from policies.planner import PlanningPolicy

                    world = _world(config.world, config, env) if config.world else None
                    policy = PlanningPolicy(
                        policy, config.candidates, config.budget_ms, world=world
                    )
                elif config.probe:
                    policy = _steered(policy, config, env)
        if config.noise:
            policy = policies.NoisyPolicy(policy, config.noise)
        return _inside(policy, config, env) if config.inside else policy
    except ValueError as error:
        raise UserError(f"policy '{config.path or config.name}': {error}") from error


def _steered(policy: FlowPolicy, config: PolicyConfig, env: gymnasium.Env) -> Policy:
    from policies.steered import SteeredPolicy
    from worldmodel.probe import load_probe
    from worldmodel.steer import Steering

    world = _world(config.world or config.path, config, env)
    world.trust()  # plans are compared with one another, not with a halt
    probe, _ = load_probe(find_probe(config.probe))
    return SteeredPolicy(policy, Steering(world, probe, config.probe, shuffled=config.shuffled))


def _inside(policy: Policy, config: PolicyConfig, env: gymnasium.Env) -> Policy:
    from policies.open_loop import OpenLoopPolicy

    return OpenLoopPolicy(policy, _world(config.inside, config, env))


def _world(name: str, config: PolicyConfig, env: gymnasium.Env) -> WorldModel:
    from worldmodel import checkpoint
    from worldmodel.rollout import RolloutConfig, placed
    from worldmodel.spec import check_env

    model = placed(
        checkpoint.load(find_checkpoint(name)).model, RolloutConfig(device=config.device)
    )
    check_env(model.spec, env)
    return model


def load_policy(checkpoint: Path, flow_steps: int | None) -> FlowPolicy:
    """The policy in a checkpoint folder, whatever its env; see ``policies.load``."""
    import policies

    return policies.load(checkpoint, flow_steps=flow_steps)


def identity(env: EnvConfig, policy: PolicyConfig) -> dict[str, Any]:
    """What names an evaluation: two with the same identity may be merged."""
    about = {
        "env": env.id,
        "env_options": {**env.options, "render_mode": env.render_mode},
        "policy": known_as(policy.path) or policy.name,
    }
    if env.adapt != AdaptConfig():
        about["env_adapt"] = plain(env.adapt)
    for name in ("inside", "world"):
        if place := getattr(policy, name):
            about[f"{name}_sha256"] = weights_sha256(find_checkpoint(place))
    for name in ("noise", "candidates", "budget_ms", "inside", "world", "probe", "shuffled"):
        if getattr(policy, name) != getattr(PolicyConfig(), name):
            about[name] = getattr(policy, name)
    if policy.name == "checkpoint":
        about |= {"replan": policy.replan, "flow_steps": policy.flow_steps}
        about["weights_sha256"] = weights_sha256(find_checkpoint(policy.path))
    return about
