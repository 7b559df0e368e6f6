"""The command that trains an agent: its words are dataclasses by now (see worldmodel.jobs)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from worldmodel.env_config import EnvConfig, make_env
from worldmodel.errors import UserError
from worldmodel.files import write_json
from worldmodel.jobs import done, model_of, open_dataset, world_at
from worldmodel.log import progress
from worldmodel.policy_config import PolicyConfig, identity, make_policy
from worldmodel.runs import claim
from worldmodel.shipped import find_checkpoint, find_probe, weights_sha256

if TYPE_CHECKING:
    from worldmodel.agent import AgentConfig
    from worldmodel.rollout import RolloutConfig
    from worldmodel.trials import Actor


@dataclass(frozen=True)
class AgentOptions:
    data: Path = field(metadata={"help": "dataset folder: the demonstrations it began with"})
    checkpoint: str = field(
        default="pick_can_tiny", metadata={"help": "the model to imagine with: folder or name"}
    )
    starts: str = field(
        default="",
        metadata={
            "help": "dataset folder in whose first observations episodes begin ('': those in the "
            "checkpoint)"
        },
    )
    within: float = field(
        default=0.0,
        metadata={
            "help": "share of the starts that lie in the midst of an episode of starts=, wherever "
            "it had come to by then: a hand near a can, a can that fell"
        },
    )
    probe: str = field(
        default="",
        metadata={
            "help": "state probe, folder or name of a shipped one, as pick_can_probe for PickCan: "
            "while it practises its plans are led to the thing by what is imagined of them, and "
            "successes are believed only where things lie still until they are held ('': neither)"
        },
    )
    doubt: bool | None = field(
        default=None,
        metadata={
            "help": "false: practise as if the model never doubted what it imagines (none: false "
            "with probe=, true without)"
        },
    )
    controls: bool = field(
        default=False,
        metadata={
            "help": "train the controls too, keep=shuffled and keep=nothing, for the same table: "
            "did imagination do it?"
        },
    )

    every_round: bool = field(
        default=False,
        metadata={"help": "try out what each round leaves, not the last one's alone"},
    )

    def __post_init__(self) -> None:
        if not 0 <= self.within <= 1:
            raise ValueError(f"expected within in 0..1, got {self.within}")


def run_agent(
    folder: Path, options: AgentOptions, config: AgentConfig, sampler: RolloutConfig,
    env: EnvConfig, policy: PolicyConfig,
) -> None:  # fmt: skip
    from worldmodel import checkpoint
    from worldmodel.agent import CONTROLS, beside, improve, try_out
    from worldmodel.agent_report import write_report
    from worldmodel.probe import load_probe
    from worldmodel.spec import check_compatible
    from worldmodel.starts import draw_starts
    from worldmodel.steady import check_steady, doubts

    if options.controls and config.keep != "success":
        raise UserError(f"controls=true goes with keep=success, got keep={config.keep}")
    place = find_checkpoint(options.checkpoint)
    world, start = checkpoint.load(place).model.spec, model_of(policy)
    check_compatible(world, start.spec)
    probe, doubt = None, doubts(options.doubt, options.probe)
    if options.probe:
        probe, _ = load_probe(find_probe(options.probe))
        check_steady(probe, options.probe, world)
    dataset = open_dataset(options.data)
    check_compatible(dataset.spec, start.spec)
    starts = draw_starts(
        options.starts or place, world, config.rounds * config.episodes, options.within,
        config.seed,
    )  # fmt: skip
    about = identity(env, policy) | {
        "checkpoint": options.checkpoint, "weights": weights_sha256(place),
        "data": str(options.data), "starts": options.starts, "within": options.within,
        "probe": options.probe, "doubt": doubt,
        **dataclasses.asdict(config),
        "sampler": dataclasses.asdict(sampler),
    }  # fmt: skip
    del about["workers"], about["sampler"]["device"]
    claim(folder / "agent.json", about, "training")
    arms = {"improved": (config.keep, folder)}
    if options.controls:
        arms |= {keep: (keep, folder / keep) for keep in CONTROLS}
    practising = policy
    if options.probe:
        practising = dataclasses.replace(policy, world=options.checkpoint, probe=options.probe)

    def arm(keep: str, out: Path) -> list[dict[str, Any]]:
        who = practising
        if keep == "shuffled" and options.probe:
            who = dataclasses.replace(practising, shuffled=True)
        return improve(
            find_checkpoint(policy.path),
            partial(_policy_at, who, env), partial(world_at, place, sampler, doubt),
            starts, dataset, dataclasses.replace(config, keep=keep), sampler, out, probe,
        )  # fmt: skip

    rounds = {name: arm(keep, out) for name, (keep, out) in arms.items()}
    tried = {"start": policy}
    for name, (_, out) in arms.items():
        after = [
            dataclasses.replace(policy, path=str(out / f"round-{k}")) for k in range(config.rounds)
        ]
        if options.every_round:
            tried |= {f"{name}-{k}": who for k, who in enumerate(after[:-1], start=1)}
        tried[name] = after[-1]
    with progress("try out", len(tried) * config.test_episodes, unit="episodes") as bar:
        found = {
            name: try_out(
                partial(make_env, env), partial(make_policy, who), config, folder / "tried" / name,
                identity(env, who), bar.advance,
            )
            for name, who in tried.items()
        }  # fmt: skip
    for name in found:
        found[name]["beside"] = {
            other: beside(found[name]["success"], found[other]["success"])
            for other in found if other != name
        }  # fmt: skip
    result = {
        "env": env.id, "env_options": env.options, "policy": policy.path,
        "checkpoint": options.checkpoint, "keep": config.keep, "tried": found, "rounds": rounds,
        "imagined_steps": {k: sum(r["imagined_steps"] for r in v) for k, v in rounds.items()},
        "minutes": {k: sum(r["minutes"] for r in v) for k, v in rounds.items()},
    }  # fmt: skip
    write_json(folder / "result.json", result)
    write_report(result, folder)
    for name, row in found.items():
        low, high = row["wilson95"]
        print(f"{name}: success {row['success_rate']:.3f} [{low:.3f}, {high:.3f}]")
    print(f"policy=… is {tried['improved'].path}")
    done(folder)


def _policy_at(who: PolicyConfig, env: EnvConfig, place: Path) -> Actor:
    from worldmodel.trials import policy_alone

    there = dataclasses.replace(who, path=str(place))
    return policy_alone(partial(make_env, env), partial(make_policy, there))
