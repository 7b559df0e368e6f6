"""The model card: what a checkpoint says of itself, as the README.md of its repository.

Everything in it comes from the checkpoint's own header, from evaluations of exactly these weights,
and from the README.md beside them, if there is one.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from worldmodel.checkpoint import Checkpoint
from worldmodel.errors import UserError
from worldmodel.hub import CARD
from worldmodel.shipped import weights_sha256
from worldmodel.spec import DataSpec
from worldmodel.transformer import parameter_count

TAGS = ["robotics", "world-model", "flow-matching", "imitation-learning", "gymnasium"]

USE = """\
import gymnasium as gym
import numpy as np
import envs, policies  # importing envs registers the tasks
{more}
env = {env}
policy = policies.load("{repo}", env=env)
obs, info = env.reset(seed=7)
policy.reset(seeds=[7])
over = False
while not over:
    batch = {{name: np.asarray(value)[None] for name, value in obs.items()}}
    obs, reward, terminated, truncated, info = env.step(policy.act(batch)[0])
    over = terminated or truncated
"""

LIMITS = """\
- It acts in envs with exactly these observations and actions, and refuses others; {origin}
- It knows what its data show: other objects, lights, cameras and robots are outside of it.
- What it imagines drifts from what would happen, and is too kind to weak policies: try a policy in
  the simulator before you believe a success inside the model.
- This repository holds no observations: to imagine, give a dataset, as in `starts=…`.
"""


def card(
    checkpoint: Checkpoint, folder: Path, repo: str, license: str, datasets: Sequence[str],
    results: Sequence[Path],
) -> str:  # fmt: skip
    """The card of the ``checkpoint`` in ``folder``, for the repository ``repo``.

    ``results`` are folders of `worldmodel eval` runs, ``datasets`` ids on the Hub. A README.md in
    ``folder`` that has a header of its own is the card as it is. UserError for a result of others.
    """
    notes = (folder / CARD).read_text(encoding="utf-8") if (folder / CARD).exists() else ""
    if notes.startswith("---\n"):
        return notes
    spec, about = checkpoint.model.spec, checkpoint.about
    measured = [evaluation(path, folder) for path in results]
    name = repo.partition("/")[2]
    adapts = "adapt" in spec.env_options
    more = "from worldmodel.adapt import AdaptConfig, adapt\n" if adapts else ""
    parts = [
        f"# {name}",
        f"A world model{f' of `{spec.env}`' if spec.env else ''}: one transformer that "
        f"plans a robot's next actions and imagines the next frames of its cameras.",
        "## Use",
        "With the package `worldmodel` installed:",
        f"```python\n{USE.format(env=env_words(spec), repo=repo, more=more)}```",
        "In every command, too: "
        f"`worldmodel eval policy={repo}`, `worldmodel rollout checkpoint={repo}`.",
        "## Model", _table(_model_rows(checkpoint)),
        "## Training data", _table(_training_rows(about)),
        "## Measured", _measured(measured),
        "## Limits",
        LIMITS.format(origin=f"those of `{spec.env}`." if spec.env else "see above."),
    ]  # fmt: skip
    if notes:
        parts += ["## From those who trained it", _without_title(notes)]
    return f"---\n{_header(name, spec, license, datasets, measured)}\n---\n\n" + "\n\n".join(
        part.strip("\n") for part in parts
    ) + "\n"  # fmt: skip


def evaluation(path: Path, folder: Path) -> dict[str, Any]:
    """result.json of an evaluation of exactly the weights in ``folder``, or UserError."""
    file = path / "result.json" if path.is_dir() else path
    try:
        result = json.loads(file.read_text(encoding="utf-8"))
        missing = {"success_rate", "episodes", "wilson95", "env", "weights_sha256"} - set(result)
    except (OSError, ValueError, TypeError) as error:
        raise UserError(
            f"results: {file} can't be read ({error}); name `worldmodel eval` runs"
        ) from error
    if missing:
        raise UserError(
            f"results: {file} has no {', '.join(sorted(missing))}; expected the folder of a run of "
            "`worldmodel eval policy=<checkpoint>`"
        )
    if result["weights_sha256"] != weights_sha256(folder):
        raise UserError(
            f"results: {file} is of other weights ({result['policy']}) than those in {folder}; "
            f"run: worldmodel eval policy={folder}"
        )
    return result


def _header(
    name: str, spec: DataSpec, license: str, datasets: Sequence[str],
    measured: Sequence[Mapping[str, Any]],
) -> str:  # fmt: skip
    """The front matter, as the Hub reads it."""
    from huggingface_hub import EvalResult, ModelCardData

    figures = [
        EvalResult(
            task_type="robotics", task_name="Robotics", dataset_type=r["env"],
            dataset_name=_env_text(r["env"], r.get("env_options", {})),
            metric_type="success_rate", metric_value=r["success_rate"],
            metric_name=f"success rate, {r['episodes']} episodes from seed {r.get('seed')}",
        )
        for r in measured
    ]  # fmt: skip
    return ModelCardData(
        license=license, library_name="worldmodel", pipeline_tag="robotics",
        tags=[*TAGS, *spec.tasks], datasets=list(datasets) or None,
        model_name=name if figures else None, eval_results=figures or None,
    ).to_yaml()  # fmt: skip


def _model_rows(checkpoint: Checkpoint) -> dict[str, str]:
    model = checkpoint.model
    spec, config, (h, w) = model.spec, model.config, model.spec.image_size
    trunk = config.trunk
    return {
        "size": f"`{config.name}`, {parameter_count(model) / 1e6:.1f} M parameters",
        "trunk": f"{trunk.depth} blocks, width {trunk.width}, {trunk.heads} heads, "
        f"patches of {config.patch} px",
        "plan": f"H = {config.chunk} actions; window W = {config.window} steps",
        "sees": f"{len(spec.cameras)} cameras ({', '.join(spec.cameras)}), uint8 {h} x {w} x 3, "
        f"and {spec.P} numbers of proprioception: {', '.join(spec.proprio_names)}",
        "acts": f"{spec.A} numbers from -1 to 1 at {spec.control_frequency:g} Hz: "
        + ", ".join(spec.action_names),
        "tasks": ", ".join(spec.tasks),
    }


def _training_rows(about: Mapping[str, Any]) -> dict[str, str]:
    """What the header says of the training; rows that it has nothing for are left out."""
    done = about.get("training", {})
    train, versions = done.get("train", {}), about.get("versions", {})
    hardware, objective = about.get("hardware", {}), done.get("objective", {})
    rows = {
        "data": f"`{about['data']}`" if about.get("data") else "",
        "episodes": about.get("episodes", ""),
        "begun with": f"the weights of `{about['init']}`" if about.get("init") else "",
        "objective": objective.get("name", ""),
        "updates": f"{done['step']:,} of batch {train.get('batch', '?')}" if "step" in done else "",
        "time": f"{done['hours']:.2f} hours" if "hours" in done else "",
        "hardware": ", ".join(f"{key} {value}" for key, value in hardware.items()),
        "command": f"`{shlex.join(about['command'])}`" if about.get("command") else "",
        "commit": about.get("git_commit") or "",
        "versions": ", ".join(f"{key} {value}" for key, value in versions.items()),
    }
    return {key: str(value) for key, value in rows.items() if value not in ("", None)}


def _measured(results: Sequence[Mapping[str, Any]]) -> str:
    if not results:
        return "No evaluation was uploaded with it. `worldmodel eval` makes one."
    lines = ["| env | episodes | success | Wilson 95 % |", "|---|---|---|---|"]
    for r in results:
        low, high = r["wilson95"]
        env = _env_text(r["env"], r.get("env_options", {}))
        seed = f", from seed {r['seed']}" if "seed" in r else ""
        lines.append(
            f"| {env} | {r['episodes']}{seed} | {r['success_rate']:.3f} | [{low:.3f}, {high:.3f}] |"
        )
    return "\n".join(lines)


def _table(rows: Mapping[str, str]) -> str:
    if not rows:
        return "The checkpoint says nothing of it."
    return "\n".join(["| | |", "|---|---|", *(f"| {k} | {v} |" for k, v in rows.items())])


def _env_text(env: str, options: Mapping[str, Any]) -> str:
    told = ", ".join(f"{k}={v}" for k, v in options.items() if v is not None)
    return f"{env} ({told})" if told else env


def env_words(spec: DataSpec) -> str:
    """What makes the env in Python."""
    if not spec.env:
        return 'gym.make("…")'
    options = dict(spec.env_options)
    adapted = options.pop("adapt", {})
    if adapted.get("pixels"):
        options["render_mode"] = "rgb_array"
    words = ", ".join([f'"{spec.env}"', *(f"{k}={v!r}" for k, v in options.items())])
    made = f"gym.make({words})"
    if not adapted:
        return made
    how = ", ".join(f"{k}={tuple(v) if isinstance(v, list) else v!r}" for k, v in adapted.items())
    return f"adapt({made}, AdaptConfig({how}))"


def _without_title(notes: str) -> str:
    """Markdown less its first heading, the others a level lower."""
    lines = notes.strip().splitlines()
    lines = lines[1:] if lines[0].startswith("# ") else lines
    return "\n".join(f"#{line}" if line.startswith("#") else line for line in lines)
