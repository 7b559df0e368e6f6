"""MuJoCo manipulation tasks as plain Gymnasium environments.

`import envs` registers the tasks and chooses the rendering backend; MuJoCo itself is imported when
the first environment is made.
"""

from __future__ import annotations

import gymnasium

from envs.backend import choose_backend

choose_backend()

#: task -> the class that is it
TASKS = {
    "pick_can": "envs.pick_can:PickCan",
    "move_near": "envs.move_near:MoveNear",
    "open_drawer": "envs.drawers:OpenDrawer",
    "close_drawer": "envs.drawers:CloseDrawer",
    "place_in_drawer": "envs.place_in_drawer:PlaceInDrawer",
    "place_can": "envs.place_can:PlaceCan",
    "stack_can": "envs.stack_can:StackCan",
    "push_can": "envs.push_can:PushCan",
}

for _task in TASKS.values():
    gymnasium.register(
        id=f"worldmodel/{_task.partition(':')[2]}-v0", entry_point=_task, max_episode_steps=100
    )
gymnasium.register(
    id="worldmodel/ManipulationSuite-v0",
    entry_point="envs.suite:ManipulationSuite",
    max_episode_steps=100,
)
# other people's tasks: envs/adapters
gymnasium.register(
    id="worldmodel/Pendulum-v0",
    entry_point="envs.adapters.pendulum:Pendulum",
    max_episode_steps=120,
)
gymnasium.register(
    id="worldmodel/MetaWorld-v0",
    entry_point="envs.adapters.metaworld:MetaWorld",
    max_episode_steps=125,
)
gymnasium.register(
    id="worldmodel/OGBenchCube-v0",
    entry_point="envs.adapters.ogbench:OGBenchCube",
    max_episode_steps=200,
)
gymnasium.register(
    id="worldmodel/Robosuite-v0",
    entry_point="envs.adapters.robosuite:Robosuite",
    max_episode_steps=200,
)
# the model as an environment: torch is imported when one is made
gymnasium.register(
    id="worldmodel/Imagined-v0",
    entry_point="worldmodel.imagined_env:ImaginedEnv",
    vector_entry_point="worldmodel.imagined_env:ImaginedVectorEnv",
    max_episode_steps=100,
)
