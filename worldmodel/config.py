"""From words on the command line to frozen dataclasses, and from those to envs and policies.

Hydra composes the yaml files in ``configs/`` and reads the overrides; ``worldmodel.build`` then
makes the frozen dataclasses and says what is wrong in the user's words. Yaml names the pieces, a
dataclass says what they are.
"""

from __future__ import annotations

import importlib
import inspect
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from worldmodel.adapt import AdaptConfig, adapt
from worldmodel.build import build, did_you_mean, plain
from worldmodel.errors import RunError, UserError
from worldmodel.shipped import find_checkpoint, find_probe, known_as, weights_sha256

if TYPE_CHECKING:
    import gymnasium

    from policies.base import Policy
    from policies.flow_policy import FlowPolicy
    from worldmodel.model import WorldModel
    from worldmodel.spec import DataSpec

CONFIGS = Path(__file__).resolve().parent.parent / "configs"


# -- composing ------------------------------------------------------------------------------------


def groups_of(command: str, extra_folder: Path | None = None) -> dict[str, list[str]]:
    """The config groups (folders of yaml files) that a command uses, and the choices in each."""
    used = (CONFIGS / f"{command}.yaml").read_text(encoding="utf-8")
    found: dict[str, set[str]] = {}
    for folder in (CONFIGS, *([extra_folder] if extra_folder else [])):
        for file in folder.glob("*/*.yaml"):
            if f"- {file.parent.name}:" in used:
                found.setdefault(file.parent.name, set()).add(file.stem)
    return {name: sorted(choices) for name, choices in sorted(found.items())}


def compose(
    command: str, overrides: Sequence[str], extra_folder: Path | None = None
) -> dict[str, Any]:
    """The plain values of ``configs/<command>.yaml`` with ``overrides``, as Hydra composes them."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    if extra_folder is not None and not extra_folder.is_dir():
        raise UserError(f"--config-dir: there is no folder '{extra_folder}'")
    known = groups_of(command, extra_folder)
    words = [word for text in overrides for word in _override(text, known, command)]
    if extra_folder is not None:
        words.append(f"hydra.searchpath=[file://{extra_folder.resolve()}]")
    try:
        with initialize_config_dir(str(CONFIGS), version_base="1.3"):
            config = hydra_compose(command, overrides=words)
        values = OmegaConf.to_container(config, resolve=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(str(error)) from error
    return typing.cast("dict[str, Any]", values)


def to_yaml(values: Mapping[str, Any]) -> str:
    """Plain values as yaml."""
    from omegaconf import OmegaConf

    return OmegaConf.to_yaml(OmegaConf.create(dict(values)))


def _override(text: str, known: Mapping[str, list[str]], command: str) -> list[str]:
    """One override as Hydra shall read it (a checkpoint becomes two).

    Every key is let through (``++``): which ones exist is for ``build`` to say, in clearer words.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    if text.startswith("~"):
        return [text]  # Hydra's way to leave something out
    key = text.split("=", 1)[0].lstrip("+")
    if "=" not in text or not key:
        raise UserError(f"could not read '{text}': expected key=value, for example seed=1")
    value = text.split("=", 1)[1]
    if key in known:
        if key == "policy" and value not in known[key]:
            words = [choice for choice in known[key] if choice != "checkpoint"]
            path = str(find_checkpoint(value, words)).replace("'", "\\'")
            return ["policy=checkpoint", f"++policy.path='{path}'"]
        if value not in known[key]:
            other = "\n  any other: env=gymnasium env.id=…" if key == "env" else ""
            raise UserError(
                f"{key}: unknown choice '{value}'{did_you_mean(value, known[key])}\n"
                f"  known: {', '.join(known[key])}{other}"
            )
        return [f"{key}={value}"]
    try:
        parsed = OverridesParser.create().parse_override(text.lstrip("+"))
    except HydraException as error:
        raise UserError(
            f"could not read '{text}': a value with special characters needs quotes within quotes, "
            f"""as in '{key}="{value}"'"""
        ) from error
    if parsed.is_sweep_override():
        raise UserError(
            f"'{text}' names several values; write a list as {key}=[…], or run the command once "
            "for each"
        )
    return [f"++{text.lstrip('+')}"]


# -- env and policy -------------------------------------------------------------------------------


@dataclass(frozen=True)
class EnvConfig:
    """Which Gymnasium env, and how it is made."""

    id: str = field(
        default="worldmodel/PickCan-v0",
        metadata={"help": "Gymnasium id; 'module:Name-v0' imports the module that registers it"},
    )
    render_mode: str | None = field(
        default=None, metadata={"help": "rgb_array: videos show env.render(), not the cameras"}
    )
    adapt: AdaptConfig = field(
        default_factory=AdaptConfig, metadata={"help": "how its spaces become the model's"}
    )
    options: dict[str, Any] = field(
        default_factory=dict,
        metadata={"rest": True, "help": "what the env takes, as env.pose=lying env.image_size=96"},
    )


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


def make_env(config: EnvConfig) -> gymnasium.Env:
    """The env that ``config`` names, with spaces as a DataSpec describes them.

    UserError for an unknown id or option, or spaces that can't be had; RunError where a package is
    missing.
    """
    try:
        import envs  # noqa: F401  (registers the tasks, chooses the rendering backend)
    except RuntimeError as error:
        raise RunError(str(error)) from error
    import gymnasium

    module, _, name = config.id.rpartition(":")
    if not name:
        raise UserError("env.id is needed: env.id=Name-v0, or env.id=module:Name-v0")
    try:
        if module:
            importlib.import_module(module)
        options = dict(config.options)
        if config.render_mode is not None:
            options["render_mode"] = config.render_mode
        elif config.adapt.pixels:
            options["render_mode"] = "rgb_array"
        _check_options(name, options)
        return adapt(gymnasium.make(name, **options), config.adapt)
    except gymnasium.error.DependencyNotInstalled as error:
        raise RunError(f"env '{config.id}': {error}") from error
    except (gymnasium.error.UnregisteredEnv, ModuleNotFoundError) as error:
        ours = [known for known in gymnasium.registry if known.startswith("worldmodel/")]
        raise UserError(
            f"env.id: there is no env '{config.id}'{did_you_mean(name, ours)}\n"
            f"  known: {', '.join(ours)} and whatever else Gymnasium knows ({error})"
        ) from error
    except (ValueError, TypeError) as error:
        raise UserError(f"env '{config.id}' refuses its options: {error}") from error
    except RuntimeError as error:  # no rendering backend: the env says what to install
        raise RunError(str(error)) from error


def env_of(spec: DataSpec) -> EnvConfig:
    """The env that data or a model of ``spec`` come from, made and adapted as it was then."""
    options = dict(spec.env_options)
    adapted = build(AdaptConfig, options.pop("adapt", {}), "adapt")
    return EnvConfig(id=spec.env, adapt=adapted, options=options)


def _check_options(env_id: str, options: Mapping[str, object]) -> None:
    """UserError with a did-you-mean for an option that the env's constructor does not take."""
    import gymnasium
    from gymnasium.envs.registration import load_env_creator

    entry = gymnasium.spec(env_id).entry_point
    if isinstance(entry, str):
        entry = load_env_creator(entry)
    if entry is None:
        return
    parameters = inspect.signature(entry).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    for name in options:
        if name not in parameters:
            known = [p for p in parameters if p not in ("self", "render_mode")]
            raise UserError(
                f"unknown key 'env.{name}'{did_you_mean(name, known)}\n"
                f"  {env_id} takes: {', '.join(known)}"
            )


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
