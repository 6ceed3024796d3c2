"""The controllers that requests may choose: loaded at start, and played once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import gymnasium as gym

from autotts_gym.controllers.agent import Agent
from autotts_gym.controllers.errors import AgentError, failure_message
from autotts_gym.controllers.loader import load, names, trained
from autotts_gym.gym_envs.autotts_env import AutoTTSEnv
from autotts_gym.mdp import actions

#: Questions of the rehearsal.
_QUESTIONS: Final = 4


class ControllerList(Mapping[str, Agent]):
    """The controllers of a gateway by name, in the operator's order.

    Args:
        controllers: names or paths. One that is given twice is served once.

    Raises:
        AgentError: a controller cannot be loaded, or two different ones have the same name.
    """

    def __init__(self, controllers: Sequence[str]) -> None:
        self._agents: dict[str, Agent] = {}
        known = {*names(), *trained()}
        for given in controllers:
            agent = load(given)
            # A bundled name is shown as it is given, such as ppo/chain; a path never is.
            name = given if given in known else agent.name
            first = self._agents.setdefault(name, agent)
            if first.digest != agent.digest:
                raise AgentError(
                    f"two different controllers are called {name!r}, {first.path} and "
                    f"{agent.path}: rename one of them"
                )

    def __getitem__(self, name: str) -> Agent:
        return self._agents[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._agents)

    def __len__(self) -> int:
        return len(self._agents)

    @property
    def default(self) -> str:
        """Name of the first controller."""
        return next(iter(self._agents))

    def rehearse(self, reference: str | None = None, *, whole_branches: bool = False) -> None:
        """Play every controller on recorded traces.

        This compiles what is compiled at the first episode, and finds controllers that fail.

        Args:
            reference: environment with the traces; by default, a bundled one.
            whole_branches: refuse controllers that probe a branch before its end.

        Raises:
            AgentError: a controller fails, or is refused.
        """
        looks_inside = self._play_all(reference)
        if whole_branches and looks_inside:
            others = [name for name in names() if name not in self._agents]
            fitting = [name for name in self._agents if name not in looks_inside]
            fitting += [name for name in others if not ControllerList([name])._play_all(reference)]
            raise AgentError(
                f"{', '.join(looks_inside)}: probes branches before their end, which the API "
                f"whole-chat cannot do; these read whole branches: {', '.join(fitting)}"
            )

    def _play_all(self, reference: str | None) -> list[str]:
        """Play every controller; returns the names of those that probe unfinished branches."""
        store = {} if reference is None else {"env": reference}
        env = AutoTTSEnv(**store, beta=0.5, invalid_action="raise")  # type: ignore[arg-type]
        watched = _ProbeWatch(env)
        looks_inside = []
        for name, agent in self._agents.items():
            watched.unfinished_probes = 0
            for seed in range(_QUESTIONS):
                try:
                    agent.play(watched, seed=seed)
                except Exception as error:  # whatever the controller raises
                    raise AgentError(
                        f"{name}: fails on recorded traces: {failure_message(error)}"
                    ) from error
            if watched.unfinished_probes:
                looks_inside.append(name)
        env.close()
        return looks_inside


class _ProbeWatch(gym.Wrapper[Any, Any, Any, Any]):
    """Counts the probes of branches that have not ended."""

    def __init__(self, env: AutoTTSEnv) -> None:
        super().__init__(env)
        self._max_branches = env.max_branches
        self.unfinished_probes = 0

    def step(self, action: Any) -> Any:
        result = self.env.step(action)
        name, i = actions.decode(int(action), self._max_branches)
        if name == "PROBE" and not result[0]["branch_finished"][i]:
            self.unfinished_probes += 1
        return result
