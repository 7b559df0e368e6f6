"""Other people's envs: any Gymnasium env with pictures as one that a DataSpec describes.

What comes out has a Dict of images (uint8, h x w x 3, one size) and a vector ``proprio``, and
actions in [-1, 1]. An env that is so already is left as it is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.wrappers import AddRenderObservation, RescaleAction

from worldmodel.build import did_you_mean
from worldmodel.errors import UserError
from worldmodel.goal import GoalImage
from worldmodel.resize import resize
from worldmodel.spec import attribute, is_image, succeeded

SIDE = 64  # pixels, of pictures that are too large or don't divide into patches
PATCH, MOST = 16, 256  # pixels: what is divisible by the one, up to the other, keeps its size
NEUTRAL = "none [1]"  # name of the one entry, always 0, where an env tells nothing but pictures


@dataclass(frozen=True)
class AdaptConfig:
    pixels: bool = field(
        default=False, metadata={"help": "what env.render() shows becomes a camera, 'pixels'"}
    )
    cameras: tuple[str, ...] = field(
        default=(), metadata={"help": "which images of the observation, in this order ([]: all)"}
    )
    proprio: tuple[str, ...] | None = field(
        default=None,
        metadata={
            "help": "which vectors of the observation, one behind the other, are proprioception "
            "(none: 'proprio', or else all of them; []: pictures only)"
        },
    )
    goal: str = field(
        default="",
        metadata={
            "help": "a camera, as front: the last picture that it shows in the expert's success "
            "from the same start becomes one more camera, 'goal'"
        },
    )
    image_size: tuple[int, ...] = field(
        default=(),
        metadata={
            "help": "side, or [height, width], that pictures are resized to ([]: as they are, or "
            "64 where they differ, are not divisible by 16 or have more than 256 pixels a side)"
        },
    )
    control_frequency: float | None = field(
        default=None, metadata={"help": "actions per second [Hz] (none: what the env says)"}
    )
    success: str = field(
        default="",
        metadata={"help": "entry of info that tells success, or: terminated ('': success)"},
    )

    reward_scale: float = field(
        default=1.0,
        metadata={"help": "rewards are multiplied by this; returns should be about 1, at most 10"},
    )

    def __post_init__(self) -> None:
        if len(self.image_size) > 2 or any(n < 16 for n in self.image_size):
            raise ValueError(
                f"image_size: got {list(self.image_size)}, expected one number or [height, width] "
                "of at least 16 pixels"
            )
        if self.control_frequency is not None and not 0 < self.control_frequency < np.inf:
            raise ValueError(
                f"control_frequency: got {self.control_frequency}, expected a number of Hz above 0"
            )

    def succeeded(self, terminated: bool, info: Mapping[str, Any]) -> bool:
        """Whether a step that ended so succeeded; UserError where nothing tells it."""
        if not self.success:
            return succeeded(info)
        if self.success == "terminated":
            return bool(terminated)
        if self.success not in info:
            raise UserError(
                f"success: info has no '{self.success}'"
                f"{did_you_mean(self.success, map(str, info))}; it has "
                f"{', '.join(map(str, info)) or 'nothing'}, and there is the word terminated"
            )
        return bool(info[self.success])


def adapt(env: gymnasium.Env, config: AdaptConfig | None = None) -> gymnasium.Env:
    """``env`` as a DataSpec describes one; the same object where it is so already.

    Raises UserError, with what would help, for spaces that no model of continuous actions and
    pictures can be made for.
    """
    config = config or AdaptConfig()
    if config == AdaptConfig() and _fits(env):
        return env
    action = env.action_space
    if not isinstance(action, spaces.Box) or len(action.shape) != 1 or action.dtype.kind != "f":
        raise UserError(
            f"action space: got {action}, expected a Box of one dimension: the model's actions are "
            "continuous. There is no wrapper for that; take a continuous variant of the env"
        )
    if not action.is_bounded():
        raise UserError(
            f"action space: got bounds {action.low} to {action.high}, expected finite ones, which "
            "become -1 to 1; wrap the env in gymnasium.wrappers.TransformAction first"
        )
    if not (np.all(action.low == -1) and np.all(action.high == 1)):
        env = RescaleAction(env, np.float32(-1.0), np.float32(1.0))
    if config.pixels:
        if env.render_mode != "rgb_array":
            raise UserError(
                f"pixels: env.render() gives no picture with render_mode={env.render_mode!r}; make "
                "the env with render_mode='rgb_array'"
            )
        env = AddRenderObservation(env, render_only=False)
    if config.goal:
        env = GoalImage(env, config.goal, config.succeeded)
    return Adapted(env, config)


def _fits(env: gymnasium.Env) -> bool:
    """Whether an env is already as it should be, but perhaps for having no picture."""
    observation, action = env.observation_space, env.action_space
    if not isinstance(observation, spaces.Dict) or not isinstance(action, spaces.Box):
        return False
    if "proprio" not in observation.spaces or not action.is_bounded():
        return False
    pictures = {name: s for name, s in observation.items() if name != "proprio"}
    if not all(is_image(s) for s in pictures.values()):
        return False
    sizes = {_picture_shape(s) for s in pictures.values()}
    return (
        (not sizes or sizes == {_size(AdaptConfig(), pictures)})
        and observation["proprio"].shape is not None
        and len(observation["proprio"].shape) == 1
        and np.allclose(action.low, -1)
        and np.allclose(action.high, 1)
    )


class Adapted(gymnasium.ObservationWrapper, gymnasium.utils.RecordConstructorArgs):
    """Chosen images, resized, and chosen vectors as ``proprio``; success where it is told."""

    def __init__(self, env: gymnasium.Env, config: AdaptConfig) -> None:
        gymnasium.utils.RecordConstructorArgs.__init__(self, config=config)
        super().__init__(env)
        self.config = config
        leaves = dict(_leaves(env.observation_space))
        images = {name: s for name, s in leaves.items() if _picture_shape(s)}
        vectors = {name: s for name, s in leaves.items() if _is_vector(s)}
        self.cameras = _chosen("cameras", config.cameras or None, images, env)
        if not self.cameras:
            raise UserError(
                f"observation space: got {env.observation_space}, in which there is no image "
                "(uint8, h x w x 3); pixels=true makes a camera of what env.render() shows: on the "
                "command line env.adapt.pixels=true"
            )
        own = ("proprio",) if config.proprio is None and "proprio" in vectors else config.proprio
        self._vectors = _chosen("proprio", own, vectors, env)
        if config.proprio is None and own is None:
            unknown = sorted(set(leaves) - set(images) - set(vectors))
            if unknown:
                raise UserError(
                    f"observation space: '{unknown[0]}' is {leaves[unknown[0]]}, expected images "
                    "(uint8, h x w x 3) and vectors (Box of floats); name what is to be used: "
                    "proprio=[…], on the command line env.adapt.proprio=[…]"
                )
        self._size = _size(config, {name: images[name] for name in self.cameras})
        low = [np.ravel(vectors[name].low) for name in self._vectors] or [np.zeros(1)]
        high = [np.ravel(vectors[name].high) for name in self._vectors] or [np.zeros(1)]
        proprio = spaces.Box(
            np.concatenate(low).astype(np.float32), np.concatenate(high).astype(np.float32)
        )
        self.proprio_names = self._names(vectors)
        if self._vectors != ("proprio",):  # calibration counts the entries of proprioception
            self.mounts: dict[str, Any] = {}
        frequency = config.control_frequency or attribute(env, "control_frequency")
        frequency = frequency or env.metadata.get("render_fps")
        if not frequency:
            raise UserError(
                "the env says neither its control_frequency nor a render_fps in its metadata; give "
                "control_frequency=…, on the command line env.adapt.control_frequency=10"
            )
        self.control_frequency = float(frequency)
        #: what differs from the defaults, for whoever wants the same env again
        self.adapted = {
            f.name: list(v) if isinstance(v, tuple) else v
            for f in dataclasses.fields(config)
            if (v := getattr(config, f.name)) != f.default
        }
        boxes: dict[str, spaces.Space] = {
            name: spaces.Box(0, 255, (*self._size, 3), np.uint8) for name in self.cameras
        }
        self.observation_space = spaces.Dict({**boxes, "proprio": proprio})

    def _names(self, vectors: Mapping[str, spaces.Box]) -> tuple[str, ...]:
        """The env's own names for the entries of proprioception, or made ones."""
        named = attribute(self.env, "proprio_names")
        if self._vectors == ("proprio",) and named:
            return tuple(named)
        return tuple(
            f"{name}_{i}"
            for name in self._vectors
            for i in range(int(np.prod(vectors[name].shape)))
        ) or (NEUTRAL,)

    def observation(self, observation: Any) -> dict[str, np.ndarray]:
        """Every chosen image as uint8 (h, w, 3), and ``proprio`` float32 (P,)."""
        leaves = dict(_parts(observation))
        found = {name: resize(_upright(leaves[name]), self._size) for name in self.cameras}
        rows = [np.ravel(leaves[name]) for name in self._vectors] or [np.zeros(1)]
        return {**found, "proprio": np.concatenate(rows).astype(np.float32)}

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """As the env's, with ``info["success"]`` where ``config.success`` says where it stands."""
        obs, reward, terminated, truncated, info = super().step(action)
        if self.config.success:
            info = {**info, "success": self.config.succeeded(terminated, info)}
        return (
            obs,
            self.config.reward_scale * float(reward),
            bool(terminated),
            bool(truncated),
            info,
        )


# -- spaces ---------------------------------------------------------------------------------------


def _leaves(space: spaces.Space, name: str = "") -> Iterator[tuple[str, Any]]:
    """The parts of a (nested) Dict, named as outer_inner; a space by itself is 'pixels' or
    'state'."""
    if isinstance(space, spaces.Dict):
        for key, inner in space.items():
            yield from _leaves(inner, f"{name}_{key}" if name else str(key))
    else:
        yield name or ("pixels" if _picture_shape(space) else "state"), space


def _parts(observation: Any, name: str = "") -> Iterator[tuple[str, np.ndarray]]:
    """The same of an observation."""
    if isinstance(observation, Mapping):
        for key, inner in observation.items():
            yield from _parts(inner, f"{name}_{key}" if name else str(key))
    else:
        value = np.asarray(observation)
        yield name or ("pixels" if value.dtype == np.uint8 and value.ndim > 1 else "state"), value


def _picture_shape(space: spaces.Space) -> tuple[int, int] | None:
    """(h, w) of a space of pictures: uint8, with channels last, first, or a single one."""
    if not isinstance(space, spaces.Box) or space.dtype != np.uint8 or len(space.shape) < 2:
        return None
    shape = _upright_shape(space.shape)
    return shape[:2] if len(shape) == 3 and shape[2] in (1, 3) else None


def _upright_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    if len(shape) == 2:
        return (*shape, 1)
    if len(shape) == 3 and shape[0] in (1, 3) and shape[2] not in (1, 3):
        return (*shape[1:], shape[0])
    return shape


def _upright(image: np.ndarray) -> np.ndarray:
    """uint8 (h, w, 3) of a picture with its channels first or last, or with a single one."""
    shape = _upright_shape(image.shape)
    if image.ndim == 3 and shape != image.shape:
        image = image.transpose(1, 2, 0)
    return np.broadcast_to(image.reshape(shape), (*shape[:2], 3))


def _is_vector(space: spaces.Space) -> bool:
    """Whether a space holds numbers for proprioception: floats in one dimension or none."""
    return isinstance(space, spaces.Box) and space.dtype.kind == "f" and len(space.shape) in (0, 1)


def _chosen(
    what: str, wanted: tuple[str, ...] | None, known: Mapping[str, Any], env: gymnasium.Env
) -> tuple[str, ...]:
    """The wanted names, each of which must be known; all known ones where none are wanted."""
    if wanted is None:
        own = tuple(attribute(env, "cameras") or ()) if what == "cameras" else ()
        return own if own and set(own) == set(known) else tuple(known)
    for name in wanted:
        if name not in known:
            raise UserError(
                f"{what}: the observation has no such part '{name}'{did_you_mean(name, known)}; it "
                f"has {', '.join(known) or 'none'}"
            )
    return wanted


def _size(config: AdaptConfig, images: Mapping[str, spaces.Space]) -> tuple[int, int]:
    """(h, w) in pixels that all pictures shall have."""
    if config.image_size:
        return config.image_size[0], config.image_size[-1]
    sizes = {_picture_shape(space) for space in images.values()}
    h, w = next(iter(sizes)) or (SIDE, SIDE)
    fits = len(sizes) == 1 and h % PATCH == w % PATCH == 0 and max(h, w) <= MOST
    return (h, w) if fits else (SIDE, SIDE)
