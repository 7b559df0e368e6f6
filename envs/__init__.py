"""MuJoCo manipulation tasks as plain Gymnasium environments.

`import envs` registers the tasks and chooses the rendering backend; MuJoCo itself is imported when
the first environment is made.
"""

from __future__ import annotations

import gymnasium

from envs.backend import choose_backend

choose_backend()

gymnasium.register(
    id="worldmodel/PickCan-v0",
    entry_point="envs.pick_can:PickCan",
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
