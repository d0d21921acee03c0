"""Play a game of pictures in several processes; a killed environment is replaced.

python play.py [--envs 4] [--steps 300] [--kill]
"""

import argparse
import os
import signal
import time

import gymnasium
import numpy as np
from vector import SharedVectorEnv

import onecopy as oc


class Catch(gymnasium.Env):
    """A ball falls, and a bat at the bottom moves to the left or to the right to catch it."""

    observation_space = gymnasium.spaces.Box(0, 255, (84, 84), np.uint8)
    action_space = gymnasium.spaces.Discrete(3)

    def reset(self, *, seed=None, options=None):  # noqa: ARG002 - gymnasium's parameter
        super().reset(seed=seed)
        self.ball, self.row, self.bat = int(self.np_random.integers(0, 80)), 0, 40
        return self.picture(), {}

    def step(self, action):
        self.row += 4
        self.bat = min(max(self.bat + (int(action) - 1) * 4, 0), 80)
        ended = self.row >= 76
        caught = ended and abs(self.ball - self.bat) <= 4
        return self.picture(), float(caught), ended, False, {}

    def picture(self):
        picture = np.zeros((84, 84), np.uint8)
        picture[self.row : self.row + 4, self.ball : self.ball + 4] = 255
        picture[80:, self.bat : self.bat + 4] = 128
        return picture


def follow(pictures):
    """Move each bat to its ball: a policy that sees nothing but the pictures."""
    balls = (pictures == 255).any(axis=1).argmax(axis=1)
    bats = (pictures == 128).any(axis=1).argmax(axis=1)
    return np.sign(balls - bats) + 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--envs", type=int, default=4)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--kill", action="store_true", help="kill an environment meanwhile")
    options = parser.parse_args()
    with oc.Pool.create(size="64MiB") as pool:
        envs = SharedVectorEnv(Catch, options.envs, pool)
        pictures, _ = envs.reset(seed=7)
        began, episodes, caught, cut = time.perf_counter(), 0, 0, 0
        for step in range(options.steps):
            if options.kill and step == options.steps // 2:
                os.kill(envs.workers[0].pids[0], signal.SIGKILL)
            pictures, rewards, terminated, truncated, _ = envs.step(follow(pictures))
            episodes += int(terminated.sum())
            caught += int(rewards.sum())
            cut += int(truncated.sum())
        seconds = time.perf_counter() - began
        envs.close()
    print(
        f"{caught} of {episodes} balls caught, {cut} episodes cut off; "
        f"{options.envs * options.steps / seconds:,.0f} steps per second"
    )
