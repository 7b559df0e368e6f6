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

#: other people's tasks, and how many steps an episode has
ADAPTERS = {
    "Pendulum": ("envs.adapters.pendulum:Pendulum", 120),
    "MetaWorld": ("envs.adapters.metaworld:MetaWorld", 125),
    "OGBenchCube": ("envs.adapters.ogbench:OGBenchCube", 200),
    "Robosuite": ("envs.adapters.robosuite:Robosuite", 200),
}

_OURS = (*TASKS.values(), "envs.suite:ManipulationSuite")
for _name, (_entry, _steps) in {
    **{entry.partition(":")[2]: (entry, 100) for entry in _OURS}, **ADAPTERS
}.items():  # fmt: skip
    gymnasium.register(id=f"worldmodel/{_name}-v0", entry_point=_entry, max_episode_steps=_steps)
# the model as an environment: torch is imported when one is made
gymnasium.register(
    id="worldmodel/Imagined-v0",
    entry_point="worldmodel.imagined_env:ImaginedEnv",
    vector_entry_point="worldmodel.imagined_env:ImaginedVectorEnv",
    max_episode_steps=100,
)
