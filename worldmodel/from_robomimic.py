"""robomimic's HDF5, which robosuite, MimicGen and LIBERO write too.

    data                     attribute env_args: JSON with env_name, env_kwargs/control_freq;
                             LIBERO's problem_info: JSON with language_instruction
    data/demo_0/actions      (N, A)          a_n is taken at o_n
    data/demo_0/rewards      (N,)            of the state that a_n leads to
    data/demo_0/dones        (N,)
    data/demo_0/obs/<key>    (N, …)          pictures uint8 (N, h, w, 3), or numbers
    data/demo_0/next_obs/…   (N, …)          may be missing
    mask/<filter key>        names of demos

Where next_obs is there, o_N is its last entry and all N actions are kept. Otherwise nothing was
seen after the last action: it is left out, and what it earned counts for the one before.
[robomimic.github.io, Datasets; robomimic's and LIBERO's issue trackers for the orientation]
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from worldmodel.errors import UserError
from worldmodel.hdf5 import holds_pictures, natural, numbers, opened, picture_size, pictures_of
from worldmodel.takes import Source, Take, Wanted, choose, same_length

#: what robomimic's own policies read of the robot, and LIBERO's names for it
USUAL = ("eef_pos", "eef_quat", "gripper_qpos", "ee_pos", "ee_ori", "gripper_states")


def is_robomimic(file: Any) -> bool:
    return "data" in file and any("obs" in file["data"][k] for k in file["data"])


def read_robomimic(files: list[Path], wanted: Wanted) -> Source:
    """Every demo in these files, in the order of their numbers."""
    takes, proprio, actions, said = [], (), (), set()
    for path in files:
        with opened(path) as file:
            if not is_robomimic(file):
                raise UserError(f"{path}: expected data/demo_*/obs, got {', '.join(file)}")
            about = _json(file["data"], "env_args")
            said.add(about.get("env_kwargs", {}).get("control_freq"))
            task = _json(file["data"], "problem_info").get("language_instruction", "")
            task = str(task).strip(' "') or str(about.get("env_name", ""))
            for demo in _demos(file, wanted.filter, path):
                group = file["data"][demo]
                name = f"{path.name} {demo}"
                for needed in ("obs", "actions"):
                    if needed not in group:
                        raise UserError(f"{name}: there is no '{needed}'; it has {_list(group)}")
                images = [k for k in group["obs"] if holds_pictures(group["obs"][k])]
                cameras = choose("cameras", wanted.cameras, images, f"{name}/obs")
                if not cameras:
                    raise UserError(
                        f"{name}: no pictures in obs, only {_list(group['obs'])}; extract them "
                        "first (robomimic's dataset_states_to_obs.py with --camera_names)"
                    )
                keys = _proprio(group["obs"], wanted.proprio, images, name)
                take = _take(path, demo, name, task, group, cameras, keys)
                takes.append(take)
                if not proprio:
                    proprio = tuple(_names(group["obs"], keys))
                    actions = tuple(f"action {i} [1]" for i in range(group["actions"].shape[1]))
    frequencies = {float(f) for f in said if f}
    if len(frequencies) > 1:
        raise UserError(f"the files ran at {sorted(frequencies)} Hz; convert them apart")
    return Source(
        "robomimic", takes, proprio, actions, files, next(iter(frequencies), None)
    )  # fmt: skip


def _json(data: Any, key: str) -> dict[str, Any]:
    """The JSON object in an attribute; {} where there is none."""
    try:
        about = json.loads(data.attrs.get(key, "{}"))
    except (TypeError, ValueError):
        return {}
    return about if isinstance(about, dict) else {}


def _demos(file: Any, filter_key: str, path: Path) -> list[str]:
    demos = [name for name in file["data"] if hasattr(file["data"][name], "keys")]
    if filter_key:
        masks = list(file["mask"]) if "mask" in file else []
        choose("filter", [filter_key], masks, str(path))
        marked = {m.decode() if isinstance(m, bytes) else str(m) for m in file["mask"][filter_key]}
        if marked - set(demos):
            raise UserError(f"{path}: mask/{filter_key} names {sorted(marked - set(demos))[:3]} …, "
                            "which are not in data")  # fmt: skip
        demos = [name for name in demos if name in marked]
    return sorted(demos, key=natural)


def _proprio(obs: Any, wanted: tuple[str, ...], images: list[str], name: str) -> list[str]:
    """The keys asked for, or those of the robot that policies usually read, or all but the state
    of objects, which no robot knows."""
    there = [k for k in obs if k not in images and obs[k].ndim <= 2]
    usual = [k for k in there if k.removeprefix("robot0_").removeprefix("robot1_") in USUAL]
    if not wanted:
        return usual or [k for k in there if "object" not in k]
    return choose("proprio", wanted, there, f"{name}/obs")


def _take(
    path: Path, demo: str, name: str, task: str, group: Any, cameras: list[str], keys: list[str]
) -> Take:
    obs, after = group["obs"], group.get("next_obs")
    follows = after is not None and all(k in after for k in (*cameras, *keys))
    lengths = {k: len(obs[k]) for k in (*cameras, *keys)} | {"actions": len(group["actions"])}
    lengths |= {k: len(group[k]) for k in ("rewards", "dones") if k in group}
    count = same_length(lengths, name)
    T = count if follows else count - 1
    parts = [numbers(obs, k, name) for k in keys]
    proprio = np.concatenate([np.zeros((count, 0), np.float32), *parts], axis=1)
    if follows:
        last = [numbers(after, k, f"{name}/next_obs")[-1:] for k in keys]
        proprio = np.concatenate([proprio, np.concatenate([proprio[:1, :0], *last], 1)])
    reward, dones = (
        numbers(group, k, name)[:, 0] if k in group else np.zeros(count, np.float32)
        for k in ("rewards", "dones")
    )
    sparse = "rewards" in group and bool(np.isin(reward, (0.0, 1.0)).all())
    success = reward > 0
    if not follows:
        reward[-2] += reward[-1]
        success[-2] |= success[-1]
    sizes = {c: picture_size(obs[c], f"{name}/obs/{c}") for c in cameras}

    def pictures(camera: str) -> Iterator[np.ndarray]:
        with opened(path) as file:
            here = file["data"][demo]
            yield from pictures_of(here["obs"][camera], count, f"{name}/obs/{camera}")
            if follows:
                rest = here["next_obs"][camera][count - 1 :]
                yield from pictures_of(rest, 1, f"{name}/next_obs/{camera}")

    return Take(
        name, T, sizes, pictures, proprio, numbers(group, "actions", name)[:T], reward[:T],
        success[:T] if sparse else None, bool(dones[-1]), task,
    )  # fmt: skip


def _names(obs: Any, keys: list[str]) -> Iterator[str]:
    for key in keys:
        width = 1 if obs[key].ndim == 1 else obs[key].shape[1]
        yield from [key] if width == 1 else (f"{key} {i}" for i in range(width))


def _list(group: Any) -> str:
    return ", ".join(group) or "nothing"
