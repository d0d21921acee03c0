"""A vector environment of gymnasium, whose environments write into shared arrays."""

from __future__ import annotations

import multiprocessing
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
from gymnasium.vector.utils import batch_space

import onecopy as oc

if TYPE_CHECKING:
    from collections.abc import Callable

RESET, STEP = "reset", "step"


def play(make: Callable[[], gymnasium.Env], index: int, batch: dict, orders, done) -> None:
    """Run one environment: its row of each shared array is written here, and nowhere else."""
    env, ended, fresh = make(), True, True
    while True:
        with orders.get_message() as order:  # if this process is killed, its successor gets it
            what, number, seed = order.item
            if what == RESET or ended:
                observation, _ = env.reset(seed=seed)
                # The successor of a killed process: the episode of that one was cut off.
                reward, terminated, truncated = 0.0, False, fresh and what == STEP
                fresh = False
            else:
                action = batch["actions"][index]
                observation, reward, terminated, truncated, _ = env.step(action)
            ended = terminated or truncated
            batch["observations"][index] = observation
            batch["rewards"][index] = reward
            batch["terminated"][index], batch["truncated"][index] = terminated, truncated
            done.put((number, index))


class SharedVectorEnv(gymnasium.vector.VectorEnv):
    """Environments in processes of their own, with observations that any process may read.

    `step` returns the shared arrays themselves, as read-only views. The next `step` changes them:
    copy what you keep. If a process is killed, its environment begins a new episode, and reports
    the old one as truncated.

    Parameters
    ----------
    make : callable
        Makes an environment; a function of a module.
    count : int
        How many.
    pool : Pool
        Where the arrays are. They also have names there: ``pool["observations"]`` and so on.
    """

    def __init__(self, make: Callable[[], gymnasium.Env], count: int, pool: oc.Pool) -> None:
        env = make()
        self.num_envs = count
        self.metadata = {"autoreset_mode": gymnasium.vector.AutoresetMode.NEXT_STEP}
        self.single_observation_space = env.observation_space
        self.single_action_space = env.action_space
        self.observation_space = batch_space(env.observation_space, count)
        self.action_space = batch_space(env.action_space, count)
        spaces = {"observations": self.observation_space, "actions": self.action_space}
        kinds = {name: (space.shape, space.dtype) for name, space in spaces.items()}
        kinds |= {"rewards": ((count,), "f8")}
        kinds |= {"terminated": ((count,), "?"), "truncated": ((count,), "?")}
        self.batch = {name: pool.shared_array(*kind) for name, kind in kinds.items()}
        for name, array in self.batch.items():
            pool[name] = array
        self._orders = [pool.queue(redeliver=True) for _ in range(count)]
        self._done, self._number = pool.queue(), 0
        context = multiprocessing.get_context("spawn")
        self.workers = [
            oc.supervise(play, args=(make, i, self.batch, self._orders[i], self._done),
                         name=f"env{i}", mp_context=context)
            for i in range(count)
        ]  # fmt: skip

    def _all(self, what: str, seeds: list[int | None]) -> None:
        self._number += 1
        for orders, seed in zip(self._orders, seeds, strict=True):
            orders.put((what, self._number, seed))
        missing = set(range(self.num_envs))
        while missing:
            number, index = self._done.get()
            if number == self._number:  # a killed process may have answered twice
                missing.discard(index)

    def reset(
        self,
        *,
        seed: int | None = None,
        options: Any = None,  # noqa: ARG002 - gymnasium's parameter
    ) -> tuple[np.ndarray, dict]:
        seeds = [None if seed is None else seed + i for i in range(self.num_envs)]
        self._all(RESET, seeds)
        return self._view("observations"), {}

    def step(self, actions: np.ndarray) -> tuple[Any, ...]:
        self.batch["actions"][:] = actions
        self._all(STEP, [None] * self.num_envs)
        names = "observations", "rewards", "terminated", "truncated"
        return (*map(self._view, names), {})

    def _view(self, name: str) -> np.ndarray:
        view = np.asarray(self.batch[name]).view()
        view.flags.writeable = False
        return view

    def close_extras(self, **_: Any) -> None:
        for group in self.workers:
            group.stop()
