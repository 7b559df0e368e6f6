"""Which env, and how it is made: what ``env=…`` and ``env.…=`` say."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from worldmodel.adapt import AdaptConfig, adapt
from worldmodel.build import build, did_you_mean
from worldmodel.errors import RunError, UserError

if TYPE_CHECKING:
    import gymnasium

    from worldmodel.spec import DataSpec


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
