"""Training: policies learn, and a training that is killed ends as if it had not been."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3.common.vec_env import VecEnv

from autotts_gym.controllers.loader import load
from autotts_gym.controllers.policy_agent import PolicyAgent
from autotts_gym.controllers.policy_network import Shape
from autotts_gym.gym_envs.macro_env import MacroVectorEnv
from autotts_gym.learning import ppo_checkpoint
from autotts_gym.learning.algorithms import Algorithm, find_algorithm
from autotts_gym.learning.base_trainer import Trainer
from autotts_gym.learning.ppo import PPOTrainer
from autotts_gym.learning.ppo_checkpoint import FILE_NAME
from autotts_gym.learning.progress import Progress
from autotts_gym.learning.sb3 import Sb3VecEnv
from autotts_gym.learning.sb3_trainer import Sb3Trainer
from autotts_gym.learning.training_config import TrainingConfig
from autotts_gym.mdp import macro_actions as d
from autotts_gym.mdp.token_price import TokenPrices
from autotts_gym.mdp.trace_dataset import EpisodeConfig
from autotts_gym.rollout.rollout import Rollout
from autotts_gym.traces.store import TraceStore
from autotts_gym.traces.synthetic_traces import generate

N = 16
#: One price at which tokens matter: reading all branches to their ends costs half a correct answer.
PRICE = TokenPrices(0.5, 0.5)
SMALL = Shape(max_branches=N, encoder=16, hidden=32)


@pytest.fixture(scope="module")
def store() -> TraceStore:
    return generate(questions=24, branches=32, seed=7)


def make_config(**changed: Any) -> TrainingConfig:
    fields = {
        "shape": SMALL,
        "prices": PRICE,
        "num_envs": 16,
        "num_steps": 8,
        "checkpoint_interval": 2,
        "num_minibatches": 2,
        "update_epochs": 1,
    }
    return TrainingConfig(**{**fields, **changed})


def make_trainer(
    algorithm: Algorithm,
    store: TraceStore,
    questions: list[int] | None,
    config: TrainingConfig,
    folder: Path,
) -> Trainer:
    if algorithm is Algorithm.autotts_ppo:
        return PPOTrainer({"made": store}, questions, config, folder)
    return Sb3Trainer(algorithm, {"made": store}, questions, config, folder)


def mean_return(correct: np.ndarray, tokens: np.ndarray, store: TraceStore) -> float:
    """Mean return in units of a correct answer, after the price of tokens."""
    full = N * store.card.mean_tokens
    return float(correct.mean() - PRICE.high * (tokens / full).mean())


def return_of_agent(agent: str, store: TraceStore) -> float:
    questions = np.repeat(np.arange(24), 20)
    rng = np.random.default_rng(0)
    orders = np.array([rng.permutation(32)[:N] for _ in questions])
    episodes = Rollout(load(agent), store, EpisodeConfig(N)).play(questions, orders, 0.5)
    return mean_return(episodes.correct, episodes.tokens, store)


def return_of_random_policy(store: TraceStore) -> float:
    """Legal macro-actions, all with the same probability."""
    envs = MacroVectorEnv(64, store, max_branches=N)
    observation, _ = envs.reset(seed=0)
    rng = np.random.default_rng(0)
    ended: list[tuple[bool, int]] = []
    while len(ended) < 1000:
        chances = observation["action_mask"] * rng.random((64, d.NUM_MACRO_ACTIONS))
        observation, *_, info = envs.step(chances.argmax(axis=1))
        if "final_info" in info:
            final = info["final_info"]
            ended += zip(
                final["correct"][final["_correct"]], final["tokens"][final["_correct"]], strict=True
            )
    correct, tokens = np.array(ended).T
    return mean_return(correct, tokens, store)


class Killed(BaseException):
    """Raised in place of a killed process."""


def test_a_killed_training_ends_as_an_uninterrupted_one(tmp_path: Path, store: TraceStore) -> None:
    config = make_config(total_timesteps=3 * 16 * 8 * 2)
    whole = PPOTrainer({"made": store}, None, config, tmp_path / "whole")
    whole.run()

    killed = PPOTrainer({"made": store}, None, config, tmp_path / "killed")
    updates: list[Progress] = []

    def kill(progress: Progress) -> None:
        updates.append(progress)
        if len(updates) == 3:  # within the second segment
            raise Killed

    with pytest.raises(Killed):
        killed.run(kill)
    resumed = PPOTrainer({"made": store}, None, config, tmp_path / "killed")
    assert resumed.segments_done == 1
    resumed.run()
    for name, value in whole.policy.state_dict().items():
        assert torch.equal(resumed.policy.state_dict()[name], value), name
    assert resumed.history == whole.history
    other = make_config(seed=1, total_timesteps=768)
    with pytest.raises(ValueError, match="belongs to another training: its seed differ"):
        PPOTrainer({"made": store}, None, other, tmp_path / "killed")
    resumed.delete_checkpoint()
    assert not (tmp_path / "killed" / FILE_NAME).exists()


def test_weights_do_not_depend_on_the_number_of_threads(tmp_path: Path, store: TraceStore) -> None:
    config = make_config(total_timesteps=2 * 64 * 16, num_envs=64, num_steps=16)
    before = torch.get_num_threads()
    trained = []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            trainer = PPOTrainer({"made": store}, None, config, tmp_path / str(threads))
            trainer.run()
            assert torch.get_num_threads() == threads
            trained.append([parameter.detach() for parameter in trainer._parameters])
    finally:
        torch.set_num_threads(before)
    for one, several in zip(*trained, strict=True):
        assert torch.equal(one, several)


@pytest.mark.parametrize("algorithm", list(Algorithm))
def test_exported_policies_play(tmp_path: Path, store: TraceStore, algorithm: Algorithm) -> None:
    """Their logits are those of the algorithm's own network, for those of stable-baselines3."""
    config = make_config(total_timesteps=400)
    trainer = make_trainer(algorithm, store, [0, 1, 2], config, tmp_path / "run")
    trainer.run()
    trainer.export(tmp_path / "policy", {"command": "none"})
    agent = load(str(tmp_path / "policy"))
    questions, orders = np.arange(24), np.array([np.arange(N)] * 24)
    episode_config = EpisodeConfig(N, step_limit=2000)
    episodes = Rollout(agent, store, episode_config).play(questions, orders, 0.5)
    assert len(episodes.tokens) == 24
    card: dict[str, Any] = agent.card  # type: ignore[attr-defined]
    assert card["algorithm"] == algorithm.value
    assert card["questions"] == [0, 1, 2]
    assert card["data"] == {"made": store.card.fingerprint}
    assert card["decisions"] >= 400
    if not isinstance(trainer, Sb3Trainer):
        return
    envs = MacroVectorEnv(8, store, max_branches=N)
    observation, _ = envs.reset(seed=0)
    observation, *_ = envs.step(np.full(8, d.WIDEN_4))
    sb3_policy: Any = trainer.model.policy
    tensors, _ = sb3_policy.obs_to_tensor(observation)
    with torch.no_grad():
        if algorithm is Algorithm.sb3_dqn:
            expected = sb3_policy.q_net(tensors)
        else:
            expected = sb3_policy.get_distribution(tensors).distribution.logits
        mask = torch.ones(8, d.NUM_MACRO_ACTIONS, dtype=torch.bool)
        logits = trainer.trained_policy().act(tensors["branches"], tensors["globals"], mask)
    shift = expected - logits
    torch.testing.assert_close(shift, shift[:, :1].expand_as(shift), rtol=0, atol=1e-4)


@pytest.mark.parametrize("algorithm", [Algorithm.autotts_ppo, Algorithm.sb3_maskable_ppo])
def test_latency_weights_are_drawn_and_read(
    tmp_path: Path, store: TraceStore, algorithm: Algorithm
) -> None:
    config = make_config(total_timesteps=256, latency_weight=(0.25, 0.75))
    trainer = make_trainer(algorithm, store, None, config, tmp_path / "run")
    weights: list[float] = []

    def keep_weights(progress: Progress) -> None:
        envs = trainer.env if isinstance(trainer, PPOTrainer) else trainer._env.envs  # type: ignore[attr-defined]
        weights.extend(envs.batch.ledger["latency_weight"].tolist())

    trainer.run(keep_weights)
    assert 0.25 <= min(weights) < 0.4
    assert 0.6 < max(weights) <= 0.75
    trainer.export(tmp_path / "policy", {"command": "none"})
    agent = load(str(tmp_path / "policy"))
    assert isinstance(agent, PolicyAgent)
    assert agent.policy.shape.latency
    assert agent.card["config"]["latency_weight"] == [0.25, 0.75]
    assert agent.card["layout"]["features"][-2:] == ["latency_weight", "latency"]


def test_rewards_of_a_training_have_both_costs(tmp_path: Path, store: TraceStore) -> None:
    """At w = 1, sequential tokens are the only cost."""
    config = make_config(latency_weight=(1.0, 1.0))
    env = PPOTrainer({"made": store}, None, config, tmp_path).env
    observation, _ = env.reset(seed=0)
    assert (observation["globals"][:, -2] == 1).all()
    _, _, _, _, info = env.step(np.full(16, d.WIDEN_4))
    assert (info["token_cost"] > info["latency_cost"] / 4).all()
    np.testing.assert_array_equal(info["cost"], info["latency_cost"])


def test_checkpoints_from_before_latency_weights_resume(tmp_path: Path, store: TraceStore) -> None:
    config = make_config(total_timesteps=2 * 16 * 8 * 2)
    first = PPOTrainer({"made": store}, None, config, tmp_path)
    ppo_checkpoint.save(first)
    state = torch.load(tmp_path / FILE_NAME, weights_only=True)
    del state["made"]["latency_weight"]
    assert "latency" not in state["made"]["shape"]
    torch.save(state, tmp_path / FILE_NAME)
    resumed = PPOTrainer({"made": store}, None, config, tmp_path)
    for name, value in first.policy.state_dict().items():
        assert torch.equal(resumed.policy.state_dict()[name], value)
    other = make_config(total_timesteps=512, latency_weight=(0.0, 1.0))
    with pytest.raises(ValueError, match="belongs to another training: its shape differ"):
        PPOTrainer({"made": store}, None, other, tmp_path)


@pytest.mark.parametrize("limits", [(-0.1, 1.0), (0.0, 1.5), (0.6, 0.5), (float("nan"), 1.0)])
def test_invalid_latency_weights(limits: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="latency_weight must be a range 0 <= low <= high <= 1"):
        make_config(latency_weight=limits)


def test_deprecated_names_of_algorithms(tmp_path: Path, store: TraceStore) -> None:
    with pytest.warns(DeprecationWarning, match="'ppo' is now called 'sb3-ppo'"):
        trainer = Sb3Trainer("ppo", {"made": store}, None, make_config(), tmp_path)
    assert trainer.algorithm is Algorithm.sb3_ppo
    with pytest.warns(DeprecationWarning, match="'cleanrl-ppo' is now called 'autotts-ppo'"):
        assert find_algorithm("cleanrl-ppo") == Algorithm.autotts_ppo
    with pytest.raises(ValueError, match="unknown algorithm 'trpo'; choose one of autotts-ppo, "):
        find_algorithm("trpo")


def test_a_checkpoint_from_before_a_key_of_the_observation(
    tmp_path: Path, store: TraceStore
) -> None:
    config = make_config(total_timesteps=256)
    arguments = Algorithm.sb3_maskable_ppo, {"made": store}, None, config, tmp_path
    former = Sb3Trainer(*arguments)
    space = former.model.observation_space
    assert isinstance(space, gym.spaces.Dict)
    former.model.observation_space = gym.spaces.Dict(
        {key: box for key, box in space.items() if key != "branch_generation_confidence"}
    )
    former.save_checkpoint()
    resumed = Sb3Trainer(*arguments)
    for name, value in former.trained_policy().state_dict().items():
        assert torch.equal(resumed.trained_policy().state_dict()[name], value), name
    resumed.run()
    assert resumed.num_timesteps == 256


def test_adapter_for_stable_baselines3(store: TraceStore) -> None:
    """It steps like the vector environment that it wraps."""
    envs = MacroVectorEnv(6, store, max_branches=N, beta=(0.2, 0.9))
    adapter: VecEnv = Sb3VecEnv(MacroVectorEnv(6, store, max_branches=N, beta=(0.2, 0.9)))
    adapter.seed(3)
    adapted = adapter.reset()
    observation, _ = envs.reset(seed=[3 + e for e in range(6)])
    rng = np.random.default_rng(0)
    returns = np.zeros(6)
    ends = 0
    for _ in range(200):
        for key, value in observation.items():
            assert np.array_equal(value, adapted[key])
            assert adapted[key].flags.writeable  # PyTorch warns of others
        masks = np.stack(adapter.env_method("action_masks"))
        assert np.array_equal(masks, observation["action_mask"] != 0)
        actions = (masks * rng.random(masks.shape)).argmax(axis=1)
        observation, rewards, terminated, truncated, info = envs.step(actions)
        adapted, adapted_rewards, dones, infos = adapter.step(actions)
        assert np.array_equal(rewards.astype(np.float32), adapted_rewards)
        assert np.array_equal(terminated | truncated, dones)
        returns += rewards
        for e in range(6):
            assert ("terminal_observation" in infos[e]) is bool(dones[e])
            if dones[e]:
                ends += 1
                assert infos[e]["episode"]["r"] == pytest.approx(returns[e])
                final = info["final_obs"][e]
                for key, value in infos[e]["terminal_observation"].items():
                    assert np.array_equal(value, final[key])
        returns[dones] = 0
    assert ends > 20
    assert adapter.has_attr("action_masks")
    assert not adapter.has_attr("nothing")
    with pytest.raises(ValueError, match="use SameStep"):
        Sb3VecEnv(MacroVectorEnv(2, store, max_branches=N, autoreset_mode="NextStep"))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("algorithm", [Algorithm.sb3_maskable_ppo, Algorithm.autotts_ppo])
def test_learns(tmp_path: Path, store: TraceStore, algorithm: Algorithm, seed: int) -> None:
    """Within a minute, the return exceeds a random policy's and self-consistency's by 0.1."""
    config = make_config(
        total_timesteps=100_000,
        seed=seed,
        num_envs=128,
        num_steps=32,
        num_minibatches=4,
        update_epochs=3,
    )
    trainer = make_trainer(algorithm, store, None, config, tmp_path / "run")
    trainer.run()
    trainer.export(tmp_path / "policy")
    learned = return_of_agent(str(tmp_path / "policy"), store)
    assert learned > return_of_random_policy(store) + 0.1
    assert learned > return_of_agent("self_consistency", store) + 0.1


@pytest.mark.parametrize(
    ("total", "segments", "updates", "timesteps"),
    [(30_000, 1, 1, 32_768), (400_000, 2, 7, 458_752), (4_000_000, 13, 10, 4_259_840)],
)
def test_trainings_are_little_longer_than_asked(
    total: int, segments: int, updates: int, timesteps: int
) -> None:
    config = TrainingConfig(total_timesteps=total)
    assert (config.num_segments, config.segment_updates) == (segments, updates)
    assert config.num_updates * config.batch_size == timesteps
