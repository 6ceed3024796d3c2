"""Sample Factory: APPO on macro-actions. It has no masks: illegal actions cost 0.01 each."""

import tempfile
import time
from importlib.metadata import version

import gymnasium as gym
from sample_factory.cfg.arguments import parse_full_cfg, parse_sf_args
from sample_factory.envs.env_utils import register_env
from sample_factory.train import run_rl

import autotts_gym  # noqa: F401 - registers the environments

STEPS = 4096


def make(name, cfg, env_config, render_mode=None):
    return gym.make("AutoTTS-Decisions-v0", env="tinylm/medium/chain", observation="flat")


if __name__ == "__main__":
    register_env("autotts", make)
    arguments = [
        "--env=autotts",
        "--experiment=autotts",
        f"--train_dir={tempfile.mkdtemp()}",
        f"--train_for_env_steps={STEPS}",
        "--device=cpu",
        "--serial_mode=True",
        "--async_rl=False",
        "--num_workers=1",
        "--num_envs_per_worker=8",
        "--worker_num_splits=1",
        "--batch_size=256",
        "--use_rnn=False",
        "--normalize_input=False",
    ]
    parser, _ = parse_sf_args(arguments)
    started = time.perf_counter()
    status = run_rl(parse_full_cfg(parser, arguments))
    assert status == 0, status
    rate = STEPS / (time.perf_counter() - started)
    print(f"sample-factory {version('sample-factory')}: {rate:,.0f} steps/s with updates")
