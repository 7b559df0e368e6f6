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
# the model as an environment: torch is imported when one is made
gymnasium.register(
    id="worldmodel/Imagined-v0",
    entry_point="worldmodel.imagined_env:ImaginedEnv",
    vector_entry_point="worldmodel.imagined_env:ImaginedVectorEnv",
    max_episode_steps=100,
)
