"""Options of live environments, and what they compile."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import scripted_server
from scripted_server import ScriptedServer

COUNT = """
import json, sys
from numba.core.dispatcher import Dispatcher

def compiled():
    return {
        f"{module.__name__}.{name}": len(value.signatures)
        for module in list(sys.modules.values())
        if module.__name__.startswith("autotts_gym.")
        for name, value in vars(module).items()
        if isinstance(value, Dispatcher)
    }

from autotts_gym.deployment.solver import solve
from autotts_gym.gym_envs.live_config import compile_episodes

compile_episodes()
before = compiled()
options = json.loads(sys.argv[1])
for question in ("plain 1", "plain 2"):  # the model fails at the second
    solution = solve(question, interval=8, max_tokens=40, patience=0.4, **options)
    assert bool(solution.error) == (question == "plain 2"), solution
assert before["autotts_gym.mdp.batch_kernels.replay_actions"] == 1
print(json.dumps({name: n for name, n in compiled().items() if n != before.get(name, 0)}))
"""


def test_episodes_compile_nothing(tmp_path: Path) -> None:
    """On a new machine, it takes so long that deadlines pass."""
    with ScriptedServer() as server:
        server.plan = lambda asked: "500" if asked.question == "plain 2" else None
        options = {
            "agent": "self_consistency",
            "base_url": server.url,
            "protocol": str(scripted_server.protocol_file(tmp_path)),
            "max_branches": 3,
        }
        command = [sys.executable, "-c", COUNT, json.dumps(options)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {}
