"""Tests of the command proposer: proposals, failures, costs, and the end of processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from proposals import BETTER, HISTORY, SEED

from autotts_gym.discovery.proposal import Proposal, ProposerError
from autotts_gym.discovery.proposers.budget import Budget
from autotts_gym.discovery.proposers.command import CommandProposer
from autotts_gym.discovery.source_rules import MAX_SOURCE_SIZE
from autotts_gym.discovery.workspace import Workspace

WRITE = "sed 's/8/9/' best.py > controller.py"


def propose(command: str, folder: Path, **options: Any) -> Proposal:
    (proposal,) = CommandProposer(command, Workspace(folder), **options).propose(2, HISTORY)
    return proposal


def ends(pid: int) -> bool:
    """Whether a process ends within ten seconds."""
    for _ in range(500):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.02)
    return False


def test_proposal(tmp_path: Path) -> None:
    proposal = propose(f"{WRITE}; echo said; echo more >&2", tmp_path)
    assert proposal.name == "2-1"
    assert proposal.source == BETTER.replace("8", "9")
    assert (proposal.origin, proposal.error) == ("sed", "")
    assert proposal.cost["seconds"] > 0
    assert (tmp_path / "logs" / "2-1.log").read_text() == "said\nmore\n"


def test_program_with_arguments(tmp_path: Path) -> None:
    script = (
        "import os, pathlib\n"
        "values = [os.environ[f'AUTOTTS_{n}'] for n in ('PROPOSAL', 'ROUND', 'ATTEMPT')]\n"
        "pathlib.Path('controller.py').write_text('#' + ' '.join(values))"
    )
    proposer = CommandProposer(
        [sys.executable, "-c", script], Workspace(tmp_path), attempts=3, recorded={"4-2"}
    )
    proposals = list(proposer.propose(4, HISTORY))
    assert [p.source for p in proposals] == ["#4-1 4 1", "#4-3 4 3"]
    assert {p.origin for p in proposals} == {Path(sys.executable).name}


@pytest.mark.parametrize(
    ("command", "error"),
    [
        (f"{WRITE}; exit 3", "the command failed with status 3"),
        (f"{WRITE}; echo a; echo why; exit 3", "the command failed with status 3: why"),
        (f"{WRITE}; kill -9 $$", "the command was ended by signal 9"),
        ("no-such-program-at-all", "failed with status 127"),
        ("true", "unchanged"),
        ("rm controller.py", "controller.py does not exist"),
        ("printf '\\377' > controller.py", "not UTF-8"),
        (f"head -c {MAX_SOURCE_SIZE + 1} /dev/zero > controller.py", "the maximum is"),
        ("rm controller.py; ln -s best.py controller.py", "is not a regular file"),
        ("cat > controller.py", "is empty"),  # standard input is empty
    ],
)
def test_failures(tmp_path: Path, command: str, error: str) -> None:
    proposal = propose(command, tmp_path)
    assert proposal.source == ""
    assert error in proposal.error
    assert "seconds" in proposal.cost


def test_missing_program(tmp_path: Path) -> None:
    proposer = CommandProposer(["no-such-program-at-all"], Workspace(tmp_path))
    with pytest.raises(ProposerError, match="cannot be started: no-such-program-at-all"):
        list(proposer.propose(1, []))


@pytest.mark.slow
def test_time_limit_ends_all_processes(tmp_path: Path) -> None:
    command = f"{WRITE}; trap '' TERM; sleep 600 & echo $! > child; sleep 600; sleep 600"
    proposal = propose(command, tmp_path, time_limit=0.5)
    assert proposal.error == "the command was ended after 0.5 s"
    assert proposal.source == ""
    assert ends(int((tmp_path / "child").read_text()))


def test_background_processes_are_ended(tmp_path: Path) -> None:
    assert propose(f"{WRITE}; sleep 600 & echo $! > child", tmp_path).error == ""
    assert ends(int((tmp_path / "child").read_text()))


def test_cached_proposal_is_not_requested_again(tmp_path: Path) -> None:
    command = f"echo x >> count; {WRITE}"
    first = propose(command, tmp_path)
    assert propose(command, tmp_path) == first
    assert (tmp_path / "count").read_text() == "x\n"
    (tmp_path / "answers" / "2-1.json").write_text('{"proposal": {"na')
    assert propose(command, tmp_path).source == first.source
    assert (tmp_path / "count").read_text() == "x\nx\n"


REPORT_COST = """echo '{"usd": 0.25, "prompt_tokens": 7, "other": "x"}' > cost.json"""


def test_reported_cost(tmp_path: Path) -> None:
    proposal = propose(
        f"{WRITE}; {REPORT_COST}; echo $AUTOTTS_USD", tmp_path, budget=Budget(usd=1.0)
    )
    assert proposal.cost.pop("seconds") > 0
    assert proposal.cost == {"usd": 0.25, "prompt_tokens": 7}
    assert (tmp_path / "logs" / "2-1.log").read_text() == "1.0\n"
    assert not (tmp_path / "cost.json").exists()
    assert "usd" not in propose(WRITE, tmp_path / "other").cost


def test_cost_of_interrupted_commands_is_counted(tmp_path: Path) -> None:
    with pytest.raises(ProposerError, match="cannot propose anything: no key"):
        propose(f"{REPORT_COST}; echo no key; exit 78", tmp_path)
    with pytest.raises(ProposerError):
        propose(f"{REPORT_COST}; exit 78", tmp_path)
    assert propose(f"{WRITE}; {REPORT_COST}", tmp_path).cost["usd"] == 0.75


def test_budget(tmp_path: Path) -> None:
    command, workspace = f"{WRITE}; {REPORT_COST}", Workspace(tmp_path)
    proposer = CommandProposer(command, workspace, attempts=5, budget=Budget(usd=0.5))
    proposals = list(proposer.propose(2, HISTORY))
    assert [bool(p.source) for p in proposals] == [True, True, False]
    assert "0.5000 of 0.5 dollars" in proposals[-1].error
    assert [p.name for p in proposer.propose(3, HISTORY)] == ["3-1"]


RUN = """
import sys
from pathlib import Path
from typing import Any
from autotts_gym.discovery.proposers.command import CommandProposer
from autotts_gym.discovery.workspace import Workspace
list(CommandProposer(sys.argv[2], Workspace(Path(sys.argv[1]))).propose(2, []))
"""


def test_process_group_is_written_before_the_command_starts(tmp_path: Path) -> None:
    """The next run can end the command of a killed run, whenever that was killed."""
    for _ in range(5):
        proposal = propose(
            f'test $(cat .command.lock) = $$ && printf %s "{SEED}" > controller.py', tmp_path
        )
        assert proposal.error == ""
        (tmp_path / "answers" / f"{proposal.name}.json").unlink()


@pytest.mark.slow
def test_command_of_a_killed_run_is_ended(tmp_path: Path) -> None:
    """The next run ends the command of a killed run, but not the command of a running one."""
    command = "echo $$ > pid; sleep 600"
    run = subprocess.Popen([sys.executable, "-c", RUN, str(tmp_path), command])
    pid = tmp_path / "pid"
    while not (pid.exists() and pid.read_text().strip()):
        assert run.poll() is None
        time.sleep(0.02)
    with pytest.raises(ProposerError, match="another run uses"):
        propose(WRITE, tmp_path)
    run.send_signal(signal.SIGKILL)
    run.wait()
    os.kill(int(pid.read_text()), 0)  # orphaned, and still running
    proposal = propose(f"printf %s '{SEED}' > controller.py", tmp_path)
    assert (proposal.source.strip(), proposal.error) == (SEED.strip(), "")
    assert ends(int(pid.read_text()))


def test_arguments_out_of_range(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    with pytest.raises(ValueError, match="the command is empty"):
        CommandProposer(" ", workspace)
    with pytest.raises(ValueError, match="the command is empty"):
        CommandProposer([], workspace)
    with pytest.raises(ValueError, match="attempts must be"):
        CommandProposer("true", workspace, attempts=0)
    with pytest.raises(ValueError, match="time_limit must be"):
        CommandProposer("true", workspace, time_limit=0)
