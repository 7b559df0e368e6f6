"""DataSpec: what a dataset holds and a model eats; it is in every dataset and checkpoint."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import VectorEnv

from worldmodel.build import build
from worldmodel.errors import UserError


@dataclass(frozen=True)
class FeatureStats:
    """Statistics per dimension, over all steps of a dataset."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    min: tuple[float, ...]
    max: tuple[float, ...]
    q01: tuple[float, ...]
    q99: tuple[float, ...]
    count: int

    @classmethod
    def of(cls, values: np.ndarray) -> FeatureStats:
        """Statistics of ``values`` (n, dimensions)."""
        x = values.astype(np.float64)
        rows = x.mean(0), x.std(0), x.min(0), x.max(0), *np.quantile(x, [0.01, 0.99], axis=0)
        return cls(*(tuple(float(v) for v in row) for row in rows), count=len(x))


@dataclass(frozen=True)
class Mount:
    """Calibration: how a camera sits on the robot or in the room, in the frame of proprioception.

    A camera on the robot is fixed to a frame that proprioception tells: these of its entries are
    the frame's origin [m] and its x and y axes. One in the room names no entries. A pixel at
    (u, v), each -1 … 1 across the picture, right and down, looks from ``offset`` into the direction
    ``rays`` (u, v, 1), both in that frame. What is seen besides objects is the plane z = 0.
    """

    offset: tuple[float, float, float]  # m
    rays: tuple[float, float, float, float, float, float, float, float, float]  # 3 x 3, rows first
    area: tuple[float, float, float, float]  # m, lowest x, y and highest x, y it may see of z = 0
    position: tuple[int, ...] = ()
    x_axis: tuple[int, ...] = ()
    y_axis: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        sizes = {len(part) for part in (self.position, self.x_axis, self.y_axis)}
        if sizes not in ({0}, {3}):
            raise ValueError(
                f"mount: got position {self.position}, x_axis {self.x_axis}, y_axis {self.y_axis}, "
                "expected three entries of proprioception each, or none"
            )

    @property
    def moves(self) -> bool:
        return bool(self.position)


@dataclass(frozen=True)
class DataSpec:
    """Streams, their order, shapes, units and statistics."""

    env: str  # Gymnasium id, or "" for data from elsewhere
    env_options: dict[str, Any]  # what the env was made with
    cameras: tuple[str, ...]  # in token order
    image_size: tuple[int, int]  # (h, w) in pixels, the same for all cameras
    proprio_names: tuple[str, ...]  # P names with units
    action_names: tuple[str, ...]  # A names with units
    control_frequency: float  # Hz
    tasks: tuple[str, ...]
    proprio_stats: FeatureStats | None = None
    change_stats: FeatureStats | None = None  # of proprio_{n+1} - proprio_n
    action_stats: FeatureStats | None = None  # of the demonstrated actions (labels)
    proprio_low: tuple[float, ...] = ()  # bounds of the observation space; (): none known
    proprio_high: tuple[float, ...] = ()
    mounts: dict[str, Mount] = field(default_factory=dict)  # of calibrated cameras

    @property
    def P(self) -> int:
        return len(self.proprio_names)

    @property
    def A(self) -> int:
        return len(self.action_names)

    @property
    def sums(self) -> tuple[tuple[int, int], ...]:
        """Pairs of proprioception's numbers that add up to a third quantity: those that are named
        ``x_minus_y`` and ``y`` make x, as a commanded position."""
        place = {name: i for i, name in enumerate(self.proprio_names)}
        pairs = ((i, name.partition("_minus_")[2]) for name, i in place.items())
        return tuple((i, place[other]) for i, other in pairs if other in place)

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> DataSpec:
        """Inverse of :meth:`to_json`; UserError for an unknown or missing key or a wrong type."""
        return build(cls, values, "spec")


def attribute(env: gymnasium.Env, name: str, default: Any = None) -> Any:
    """What the outermost wrapper of ``env`` that has an attribute ``name``, or the env, has."""
    return env.get_wrapper_attr(name) if env.has_wrapper_attr(name) else default


def is_image(space: gymnasium.Space) -> bool:
    """Whether a space holds pictures as the model takes them: uint8 (h, w, 3)."""
    shape = space.shape or ()
    return space.dtype == np.uint8 and len(shape) == 3 and shape[-1] == 3


def frequency_of(env: gymnasium.Env) -> float:
    """Actions per second [Hz], as the env says; UserError where it doesn't."""
    found = attribute(env, "control_frequency") or env.metadata.get("render_fps")
    if not found:
        raise UserError(
            "the env says neither its control_frequency nor a render_fps in its metadata; "
            f"{ADAPT}, with control_frequency=…"
        )
    return float(found)


ADAPT = "worldmodel.adapt.adapt(env) wraps other people's envs"


def spec_of_env(env: gymnasium.Env) -> DataSpec:
    """The DataSpec of a Gymnasium env whose observation is a Dict of images and ``proprio``.

    Names, frequency and task come from the attributes of the env, or of wrappers around it, where
    they have them. Raises UserError for spaces that a model of continuous actions and images cannot
    be trained on; :func:`worldmodel.adapt.adapt` makes such spaces of others.
    """
    observation, action = env.observation_space, env.action_space
    if not isinstance(observation, spaces.Dict):
        raise UserError(
            f"observation space: got {observation}, expected a Dict of images (uint8, h x w x 3) "
            f"and 'proprio'; {ADAPT}"
        )
    boxes = {name: space for name, space in observation.items() if isinstance(space, spaces.Box)}
    images = {n: s for n, s in boxes.items() if is_image(s)}
    cameras = tuple(attribute(env, "cameras", images))
    if not images or set(cameras) != set(images):
        raise UserError(
            f"observation space: got images {sorted(images)}, expected "
            f"{list(cameras) or 'at least one'}"
            "; give the env its cameras, or let env.adapt.pixels=true make one of env.render()"
        )
    sizes = {images[name].shape[:2] for name in cameras}
    if len(sizes) > 1:
        raise UserError(f"image sizes: got {sorted(sizes)}, expected one for all cameras; {ADAPT}")
    if "proprio" not in boxes or len(boxes["proprio"].shape) != 1:
        raise UserError(f"observation space: expected a vector 'proprio', got none; {ADAPT}")
    if not isinstance(action, spaces.Box) or len(action.shape) != 1 or not action.is_bounded():
        raise UserError(
            f"action space: got {action}, expected a bounded Box of one dimension: the model's "
            "actions are continuous"
        )
    if not (np.allclose(action.low, -1) and np.allclose(action.high, 1)):
        raise UserError(
            f"action space: got bounds {action.low} to {action.high}, expected -1 to 1; {ADAPT}"
        )
    P, A, (h, w) = boxes["proprio"].shape[0], action.shape[0], next(iter(sizes))
    options = dict(env.spec.kwargs) if env.spec is not None else {}
    options.pop("render_mode", None)
    if attribute(env, "adapted"):
        options["adapt"] = attribute(env, "adapted")
    return DataSpec(
        env=env.spec.id if env.spec is not None else "",
        env_options={k: list(v) if isinstance(v, tuple) else v for k, v in options.items()},
        cameras=cameras,
        image_size=(h, w),
        proprio_names=tuple(attribute(env, "proprio_names", [f"proprio_{i}" for i in range(P)])),
        action_names=tuple(attribute(env, "action_names", [f"action_{i}" for i in range(A)])),
        control_frequency=frequency_of(env),
        tasks=tuple(attribute(env, "task_names", ())) or (task_of(env),),
        proprio_low=tuple(boxes["proprio"].low.tolist()),
        proprio_high=tuple(boxes["proprio"].high.tolist()),
        mounts={k: Mount(**v) for k, v in attribute(env, "mounts", {}).items()},
    )


def succeeded(info: Mapping[str, Any]) -> bool:
    """Whether an env's ``info`` tells success, by either of its usual names."""
    return bool(info.get("success", info.get("is_success", False)))


def task_of(env: gymnasium.Env) -> str:
    """The name of the task that an env asks for in the running episode."""
    name = attribute(env, "task_name") or (env.spec.id if env.spec else "task")
    return str(name)


def spaces_of(spec: DataSpec) -> tuple[dict[str, spaces.Box], spaces.Box, spaces.Box]:
    """Boxes of the env that ``spec`` describes: of each camera, proprioception and actions."""
    size = (*spec.image_size, 3)
    cameras: dict[str, spaces.Box]
    cameras = {name: spaces.Box(0, 255, size, np.uint8) for name in spec.cameras}
    low = np.array(spec.proprio_low or [-np.inf] * spec.P, np.float32)
    high = np.array(spec.proprio_high or [np.inf] * spec.P, np.float32)
    action = spaces.Box(-1.0, 1.0, (spec.A,), np.float32)
    return cameras, spaces.Box(low, high, dtype=np.float32), action


def check_env(spec: DataSpec, env: gymnasium.Env | VectorEnv) -> None:
    """UserError, naming both sides, when an env, or a vector of them, does not fit ``spec``.

    Its spaces, and of a single env what it says of itself, where ``spec`` is of an env too: the
    frequency, and what the numbers of proprioception and actions are.
    """
    if isinstance(env, VectorEnv):
        wrong = _wrong_spaces(spec, env.single_observation_space, env.single_action_space)
    else:
        wrong = _wrong_spaces(spec, env.observation_space, env.action_space)
        for name in ("control_frequency", "proprio_names", "action_names") if spec.env else ():
            theirs, ours = attribute(env, name), getattr(spec, name)
            theirs = tuple(theirs) if isinstance(theirs, list) else theirs
            if theirs is not None and theirs != ours and not wrong:
                wrong.append(f"{name}: the policy learned with {ours}, the env has {theirs}")
    if wrong:
        raise UserError(
            "the env does not fit the policy:\n  " + "\n  ".join(wrong)
            + f"\nmake the env as the policy's: {spec.env} with {spec.env_options or 'defaults'}"
        )  # fmt: skip


def _wrong_spaces(
    spec: DataSpec, observation_space: gymnasium.Space, action_space: gymnasium.Space
) -> list[str]:
    """A line for each part that differs."""
    wanted = {name: (*spec.image_size, 3) for name in spec.cameras} | {"proprio": (spec.P,)}
    found = (
        {name: space.shape for name, space in observation_space.items()}
        if isinstance(observation_space, spaces.Dict)
        else {"": observation_space.shape}
    )
    wrong = [
        f"observation '{name}': the policy expects {shape}, the env has {found.get(name, 'none')}"
        for name, shape in wanted.items()
        if found.get(name) != shape
    ]
    if not isinstance(action_space, spaces.Box) or action_space.shape != (spec.A,):
        wrong.append(f"action: the policy gives {(spec.A,)}, the env takes {action_space}")
    return wrong


def check_compatible(dataset: DataSpec, model: DataSpec) -> None:
    """UserError, naming both sides, when data of one spec don't suit a model of the other."""
    for name in (
        "cameras", "image_size", "proprio_names", "action_names", "control_frequency", "mounts",
    ):  # fmt: skip
        theirs, ours = getattr(dataset, name), getattr(model, name)
        if theirs != ours:
            raise UserError(
                f"{name}: the dataset has {theirs}, the checkpoint {ours}; "
                "collect data as the checkpoint's, or train a new one"
            )
