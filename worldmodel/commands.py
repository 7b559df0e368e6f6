"""The table of commands, in the order in which a newcomer meets them. Imports nothing heavy."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Command:
    summary: str
    details: str
    examples: tuple[str, ...]
    #: the dataclasses that its keys fill, in the order in which the job takes them: "module:Class"
    #: at the root of the config, "env=module:Class" under ``env``
    parts: tuple[str, ...]
    job: str  # "module:function" -> (folder, *parts), or (*parts) when it writes no folder
    resume: tuple[str, ...] = ()  # what to add when an interrupted run shall go on
    writes: bool = True  # whether it has a run folder
    default_out: Callable[[Mapping[str, Any]], Path | None] = lambda parts: None
    out_help: str = "runs/<command>/<date-time>"


def load(name: str) -> Any:
    """What "module:attribute" names."""
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)


def dataset_folder(parts: Mapping[str, Any]) -> Path:
    """data/pick_can for worldmodel/PickCan-v0: where `worldmodel train data=…` looks for it."""
    name = parts["env"].id.rpartition(":")[2].rpartition("/")[2].partition("-")[0]
    return Path("data") / re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def converted_folder(parts: Mapping[str, Any]) -> Path:
    """data/can for a source named can.hdf5."""
    return Path("data") / re.sub(r"\W+", "_", parts[""].source.resolve().stem)


def merged_folder(parts: Mapping[str, Any]) -> Path:
    """data/a_and_b for sources=[data/a,data/b]."""
    return Path("data") / "_and_".join(Path(source).name for source in parts[""].sources)


ENV, POLICY = "env=worldmodel.env_config:EnvConfig", "policy=worldmodel.policy_config:PolicyConfig"
MODEL = "model=worldmodel.model:ModelConfig"
OBJECTIVE = "objective=worldmodel.objective:ObjectiveConfig"

COMMANDS: dict[str, Command] = {
    "demo": Command(
        summary="the main job: act in MuJoCo, imagine, write a report with videos",
        details="Takes the shipped checkpoint, lets it act for some episodes, imagines ahead of "
        "one of them, and writes report.html.",
        examples=(
            "worldmodel demo",
            "worldmodel demo episodes=50 env.pose=lying",
            "worldmodel demo policy=runs/train/mine out=runs/demo/mine",
        ),
        parts=("worldmodel.demo:DemoConfig", ENV, POLICY),
        job="worldmodel.jobs:run_demo",
    ),
    "collect": Command(
        summary="demonstrations of a task, with the scripted expert",
        details="Runs the expert (or any policy) in parallel and writes a LeRobotDataset v3 "
        "folder. Kill it at any moment: what was finished is kept, the same command goes on.",
        examples=(
            "worldmodel collect env=pick_can episodes=500",
            "worldmodel collect episodes=200 env.pose=lying out=data/lying",
            "worldmodel collect policy=runs/train/mine keep=all out=data/mine",
            "worldmodel collect policy=runs/train/mine policy.inside=pick_can_tiny keep=all "
            "teach=false",
            "worldmodel collect episodes=2500 shard=0/4",
        ),
        parts=("worldmodel.collect:CollectConfig", ENV, POLICY),
        job="worldmodel.jobs:run_collect",
        default_out=dataset_folder,
        out_help="data/<env>",
    ),
    "train": Command(
        summary="train a world model on a dataset",
        details="Trains frames and action plans jointly. Writes the checkpoint (averaged weights), "
        "a resumable state, metrics.jsonl, metrics.csv and report.html. On several GPUs: "
        "`torchrun --nproc_per_node=8 -m worldmodel train … out=…` (docs/scaling.md).",
        examples=(
            "worldmodel train data=data/pick_can model=tiny",
            "worldmodel train data=data/pick_can steps=2000 optim.lr=3e-4 out=runs/train/mine",
            "worldmodel train data=data/pick_can out=runs/train/mine resume=true",
        ),
        parts=(
            "worldmodel.train_jobs:TrainOptions",
            "worldmodel.train:TrainConfig",
            MODEL,
            OBJECTIVE,
            "optim=worldmodel.optim:OptimConfig",
        ),
        job="worldmodel.train_jobs:run_train",
        resume=("resume=true",),
    ),
    "eval": Command(
        summary="how often a policy succeeds, with interval, videos and a report",
        details="Runs whole episodes in parallel, episode i from seed + i, so that the result does "
        "not depend on the number of processes. The same command with the same out= goes on where "
        "it stopped. Writes result.json, report.html, episodes.jsonl and videos.",
        examples=(
            "worldmodel eval policy=scripted episodes=50",
            "worldmodel eval policy=pick_can_tiny env=pick_can episodes=500",
            "worldmodel eval policy=runs/train/mine env.pose=lying seed=20000 out=runs/eval/lying",
            "worldmodel eval policy=runs/train/mine shard=0/4 out=runs/eval/mine",
        ),
        parts=("worldmodel.evaluate:EvalConfig", ENV, POLICY),
        job="worldmodel.jobs:run_eval",
    ),
    "rollout": Command(
        summary="imagined beside real: the same actions in the model and in the simulator",
        details="Demonstrations and explorations are acted out in the simulator; from the first "
        "observation of each the model imagines what the same actions lead to. A state probe reads "
        "both: errors in mm over the horizon, what actions change, and videos. Kill it at any "
        "moment: the same command with the same out= goes on (the long run alone begins anew).",
        examples=(
            "worldmodel rollout checkpoint=pick_can_tiny",
            "worldmodel rollout checkpoint=runs/train/mine episodes=20 flow_steps=4",
            "worldmodel rollout episodes=10 endless.steps=10000",
        ),
        parts=(
            "worldmodel.jobs:RolloutOptions",
            "worldmodel.imagine:ImagineConfig",
            "branch=worldmodel.branches:BranchConfig",
            "endless=worldmodel.endless:EndlessConfig",
            "worldmodel.rollout:RolloutConfig",
            ENV,
            POLICY,
        ),
        job="worldmodel.jobs:run_rollout",
    ),
    "judge": Command(
        summary="policies judged inside the model and in the simulator, from the same starts",
        details="Each policy plays its episodes in MuJoCo and in the model, whose outcome leaf "
        "says who succeeded; with probe=, a success counts only where things lie still until the "
        "hand holds them. Writes both success rates with intervals, how well their order "
        "agrees (Pearson, Spearman, mean maximum rank violation), and a scatter plot. Kill it at "
        "any moment: the same command with the same out= goes on.",
        examples=(
            "worldmodel judge",
            "worldmodel judge policies=[pick_can_tiny,pick_can_tiny+0.6,random] episodes=300",
            "worldmodel judge policies=[runs/train/mine] checkpoint=runs/train/mine",
            "worldmodel judge checkpoint=pick_can_world probe=pick_can_probe doubt=false",
        ),
        parts=(
            "worldmodel.judge_jobs:JudgeOptions",
            "worldmodel.judge:JudgeConfig",
            "worldmodel.rollout:RolloutConfig",
            ENV,
        ),
        job="worldmodel.judge_jobs:run_judge",
    ),
    "agent": Command(
        summary="a policy that gets better inside the model, and is then tried in the simulator",
        details="Each round the policy plays episodes inside the model; those that the model reads "
        "as successes are imitated, together with the demonstrations it began with. No simulator "
        "step in training. controls=true trains two controls beside it, for one table. Kill it at "
        "any moment: the same command with the same out= goes on.",
        examples=(
            "worldmodel agent policy=runs/train/few data=data/few starts=data/pick_can",
            "worldmodel agent policy=runs/train/few data=data/few controls=true out=runs/agent/few",
        ),
        parts=(
            "worldmodel.agent_jobs:AgentOptions",
            "worldmodel.agent:AgentConfig",
            "worldmodel.rollout:RolloutConfig",
            ENV,
            POLICY,
        ),
        job="worldmodel.agent_jobs:run_agent",
    ),
    "probe": Command(
        summary="train the state probe that judges imagined frames",
        details="A small network learns to read positions and flags from simulator frames, for "
        "any env with a method truth(). Needs a few minutes.",
        examples=("worldmodel probe", "worldmodel probe env=pick_can out=runs/probe/mine"),
        parts=("worldmodel.probe:ProbeConfig", ENV, POLICY),
        job="worldmodel.jobs:run_probe",
    ),
    "play": Command(
        summary="drive the robot inside the model, beside the simulator, in a browser",
        details="Opens a page with both worlds. Drive by keyboard, gamepad or touch, or let the "
        "policy or the expert drive; rewind, branch, save. Needs the extra [play].",
        examples=(
            "worldmodel play",
            "worldmodel play checkpoint=[pick_can_tiny,runs/train/mine] data=data/pick_can",
            "worldmodel play open=false port=0",
        ),
        parts=("worldmodel.play.job:PlayConfig", "worldmodel.rollout:RolloutConfig", ENV),
        job="worldmodel.play.job:run_play",
    ),
    "export": Command(
        summary="the policy as one ONNX file, checked against the original",
        details="Writes policy.onnx: camera images, proprioception and noise in, a plan out, with "
        "every denoising step in it and any batch size. On random and on real observations it must "
        "agree with the policy to 1e-4, else nothing is written. Needs the extra [export].",
        examples=(
            "worldmodel export checkpoint=runs/train/mine",
            "worldmodel export checkpoint=runs/train/mine flow_steps=2 out=runs/export/mine",
        ),
        parts=("worldmodel.export_jobs:ExportOptions", "worldmodel.export:ExportConfig"),
        job="worldmodel.export_jobs:run_export",
    ),
    "push": Command(
        summary="a checkpoint to the Hugging Face Hub, with its model card",
        details="Uploads config.json, model.safetensors and a card made of what the checkpoint "
        "says of itself, nothing else. Afterwards user/name stands for it wherever a checkpoint "
        "does, and user/name@revision for one of its versions. Log in first: hf auth login.",
        examples=(
            "worldmodel push checkpoint=runs/train/mine repo=user/name",
            "worldmodel push checkpoint=runs/train/mine repo=user/name results=runs/eval/mine",
            "worldmodel push checkpoint=runs/train/mine repo=user/name upload=false out=runs/card",
        ),
        parts=("worldmodel.jobs:CheckpointOptions", "worldmodel.pretrained:PushConfig"),
        job="worldmodel.push_jobs:run_push",
    ),
    "bench env": Command(
        summary="env steps per second, beside an imagined env's and robosuite's",
        details="Physics, control and every camera in one process, with random actions; "
        "robosuite's PickPlaceCan where it is installed.",
        examples=(
            "worldmodel bench env",
            "worldmodel bench env imagined=pick_can_tiny num_envs=[32,1024]",
            "worldmodel bench env env.image_size=128 steps=200",
        ),
        parts=("worldmodel.bench_env:BenchEnvConfig", ENV),
        job="worldmodel.bench_jobs:run_bench_env",
    ),
    "bench data": Command(
        summary="random windows per second from a dataset's cache, and the memory they take",
        details="One process draws windows as training does.",
        examples=("worldmodel bench data data=data/pick_can",),
        parts=("worldmodel.jobs:DataOptions", "worldmodel.bench:BenchDataConfig"),
        job="worldmodel.bench_jobs:run_bench_data",
    ),
    "bench train": Command(
        summary="training throughput, as a share of this machine's own matmul rate",
        details="Whole updates on random data of the env's shapes; the matmul rate is measured "
        "before and after, with the same number format and threads.",
        examples=(
            "worldmodel bench train model=tiny",
            "worldmodel bench train model=small batch=16 compile=true",
        ),
        parts=("worldmodel.bench:BenchTrainConfig", ENV, MODEL, OBJECTIVE),
        job="worldmodel.bench_jobs:run_bench_train",
    ),
    "bench growth": Command(
        summary="how the cost of training, planning and imagining grows with batch and window",
        details="An untrained model of the chosen size, for each batch and W: milliseconds, "
        "throughput, the share of the machine's matmul rate, and the most memory in use.",
        examples=(
            "worldmodel bench growth",
            "worldmodel bench growth model=small batches=[1,256] windows=[4] device=cuda",
        ),
        parts=("worldmodel.bench_growth:GrowthConfig", ENV, MODEL, OBJECTIVE),
        job="worldmodel.bench_jobs:run_bench_growth",
    ),
    "bench policy": Command(
        summary="latency of a plan",
        details="The time from an observation to a fresh plan's first action, for one env.",
        examples=(
            "worldmodel bench policy",
            "worldmodel bench policy policy=runs/train/mine policy.flow_steps=8 threads=2",
        ),
        parts=("worldmodel.bench:BenchPolicyConfig", ENV, POLICY),
        job="worldmodel.bench_jobs:run_bench_policy",
    ),
    "bench rollout": Command(
        summary="imagined frames per second, and their cost at a long horizon",
        details="Times whole imagined steps at some batch sizes, then one long run: time and "
        "memory of a step must not grow.",
        examples=(
            "worldmodel bench rollout",
            "worldmodel bench rollout checkpoint=runs/train/mine flow_steps=4 steps=1000",
        ),
        parts=(
            "worldmodel.jobs:CheckpointOptions",
            "worldmodel.bench:BenchRolloutConfig",
            "worldmodel.rollout:RolloutConfig",
        ),
        job="worldmodel.bench_jobs:run_bench_rollout",
    ),
    "bench heldout": Command(
        summary="what a checkpoint knows of held-out episodes, for each number of flow steps",
        details="Without acting: losses of plans and frames at fixed flow times; the error of "
        "sampled plans, and of frames imagined along recorded actions (as the state probe reads "
        "them, in mm, and in dB), for K = 1, 2, 4, 16 denoising steps; and how well a linear "
        "read-out of the trunk's features finds things.",
        examples=(
            "worldmodel bench heldout data=data/pick_can",
            "worldmodel bench heldout data=data/pick_can checkpoint=runs/train/mine flow_steps=[2]",
        ),
        parts=(
            "worldmodel.jobs:RolloutOptions",
            " =worldmodel.jobs:DataOptions",
            "worldmodel.heldout:HeldoutConfig",
        ),
        job="worldmodel.bench_jobs:run_bench_heldout",
    ),
    "bench objective": Command(
        summary="objectives side by side: trained, evaluated and measured alike, with curves",
        details="Trains every arm from every seed on the same data with the same budget, evaluates "
        "each along its training on the same episodes, and measures it on held-out ones. An arm is "
        "an objective, with whatever else it differs in: ablations, sizes and baselines are arms "
        "too. Kill it at any moment: the same command with the same out= goes on.",
        examples=(
            "worldmodel bench objective data=data/pick_can steps=2000 train=[compile=true]",
            "worldmodel bench objective data=data/pick_can arms=[self_flow,'\"self_flow+objective."
            "gamma=0.4\"'] seeds=1",
        ),
        parts=("worldmodel.arms:ArmsConfig",),
        job="worldmodel.bench_jobs:run_bench_objective",
    ),
    "bench play": Command(
        summary="frames per second and latency of `worldmodel play`, end to end",
        details="A client asks for steps over the WebSocket, one after another, as a page does.",
        examples=("worldmodel bench play", "worldmodel bench play steps=10000 flow_steps=1"),
        parts=(
            " =worldmodel.play.job:PlayConfig",
            "worldmodel.play.bench:BenchPlayConfig",
            "worldmodel.rollout:RolloutConfig",
            ENV,
        ),
        job="worldmodel.play.job:run_bench_play",
    ),
    "data check": Command(
        summary="what is wrong with a dataset, in plain words",
        details="Reads every table and every frame. Exit code 1 when something makes it unfit "
        "for training; notes are things worth a look.",
        examples=("worldmodel data check data=data/pick_can",),
        parts=("worldmodel.jobs:DataOptions",),
        job="worldmodel.jobs:run_data_check",
        writes=False,
    ),
    "data convert": Command(
        summary="robomimic, ALOHA and LeRobot data, or folders of pictures and CSV, as a dataset",
        details="Writes what `worldmodel collect` writes, from a robomimic HDF5 file (or a folder "
        "of them), from a folder of ALOHA's HDF5 files, an episode each, from a LeRobotDataset v3 "
        "of others, or from a folder with a folder per episode: source/episode_0/front/0001.png … "
        "(a folder of pictures per camera, or a film front.mp4) and source/episode_0/data.csv, a "
        "row per picture: columns action… are actions, reward, success and timestamp what they "
        "say, all others proprioception; task.txt says what is done. An episode without actions "
        "is a video that teaches what follows and no plans; a folder of films is a folder of such "
        "episodes. Where nothing was seen after the last action, it is left out. A dimension of "
        "the actions that leaves [-1, 1], or never gets beyond 0.1, is divided by its largest "
        "value, and its name says so: 'dx [0.05 m]'. HDF5 needs the extra [data]. Kill it at any "
        "moment: the same command goes on. Look at report.html: do pictures stand upright, in "
        "their colours?",
        examples=(
            "worldmodel data convert source=can/image.hdf5 image_size=96 task='pick the can'",
            "worldmodel data convert source=aloha/ frequency=50 image_size=96 success=end",
            "worldmodel data convert source=libero.hdf5 flip=all image_size=96",
            "worldmodel data convert source=my_videos/ frequency=10 out=data/mine",
        ),
        parts=("worldmodel.convert_plan:ConvertConfig",),
        job="worldmodel.data_jobs:run_data_convert",
        default_out=converted_folder,
        out_help="data/<source>",
    ),
    "data merge": Command(
        summary="several datasets of the same robot as one",
        details="The first one's episodes come first, their videos linked where the disk can. Each "
        "keeps what it says of itself: whether plans may be learned from it, how it ended. "
        "Training holds out the last episodes.",
        examples=("worldmodel data merge sources=[data/mine,data/pick_can] out=data/both",),
        parts=("worldmodel.merge:MergeConfig",),
        job="worldmodel.data_jobs:run_data_merge",
        default_out=merged_folder,
        out_help="data/<source>_and_<source>",
    ),
    "data view": Command(
        summary="a page about a dataset: videos, streams and their ranges, lengths, tasks, actions",
        details="Reads any LeRobotDataset v3, ours or another's, and writes a report.html that "
        "opens anywhere, and result.json.",
        examples=(
            "worldmodel data view data=data/pick_can",
            "worldmodel data view data=downloads/aloha_cups show=8 out=runs/cups",
        ),
        parts=("worldmodel.jobs:DataOptions", "worldmodel.view:ViewConfig"),
        job="worldmodel.data_jobs:run_data_view",
    ),
    "doctor": Command(
        summary="what this machine can do, what is missing, and the command that mends it",
        details="Looks at Python, torch, processor, GPU, rendering, video and disk. Exit code 1 "
        "when something that is needed is missing.",
        examples=("worldmodel doctor",),
        parts=("worldmodel.jobs:DoctorConfig", ENV),
        job="worldmodel.jobs:run_doctor",
        writes=False,
    ),
}
