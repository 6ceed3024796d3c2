"""Commands that propose: whatever they do, there is a proposal, and nothing is left running."""

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

WRITES = "sed 's/8/9/' best.py > controller.py"


def asked(command: str, folder: Path, **options: Any) -> Proposal:
    (proposal,) = CommandProposer(command, Workspace(folder), **options).propose(2, HISTORY)
    return proposal


def ends(pid: int) -> bool:
    """Whether a process ends, soon."""
    for _ in range(500):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.02)
    return False


def test_what_is_written_is_proposed(tmp_path: Path) -> None:
    proposal = asked(f"{WRITES}; echo said; echo more >&2", tmp_path)
    assert proposal.name == "2-1"
    assert proposal.source == BETTER.replace("8", "9")
    assert (proposal.origin, proposal.error) == ("sed", "")
    assert proposal.cost["seconds"] > 0
    assert (tmp_path / "logs" / "2-1.log").read_text() == "said\nmore\n"


def test_a_program_and_its_arguments(tmp_path: Path) -> None:
    script = (
        "import os, pathlib\n"
        "told = [os.environ[f'AUTOTTS_{n}'] for n in ('PROPOSAL', 'ROUND', 'ATTEMPT')]\n"
        "pathlib.Path('controller.py').write_text('#' + ' '.join(told))"
    )
    proposer = CommandProposer(
        [sys.executable, "-c", script], Workspace(tmp_path), attempts=3, known={"4-2"}
    )
    found = list(proposer.propose(4, HISTORY))
    assert [p.source for p in found] == ["#4-1 4 1", "#4-3 4 3"]
    assert {p.origin for p in found} == {Path(sys.executable).name}


@pytest.mark.parametrize(
    ("command", "trouble"),
    [
        (f"{WRITES}; exit 3", "the command failed with status 3"),
        (f"{WRITES}; echo a; echo why; exit 3", "the command failed with status 3: why"),
        (f"{WRITES}; kill -9 $$", "the command was ended by signal 9"),
        ("no-such-program-at-all", "failed with status 127"),
        ("true", "unchanged"),
        ("rm controller.py", "controller.py does not exist"),
        ("printf '\\377' > controller.py", "not UTF-8"),
        (f"head -c {MAX_SOURCE_SIZE + 1} /dev/zero > controller.py", "the maximum is"),
        ("rm controller.py; ln -s best.py controller.py", "is not a regular file"),
        ("cat > controller.py", "is empty"),  # there is nothing to read
    ],
)
def test_what_goes_wrong(tmp_path: Path, command: str, trouble: str) -> None:
    proposal = asked(command, tmp_path)
    assert proposal.source == ""
    assert trouble in proposal.error
    assert "seconds" in proposal.cost


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    proposer = CommandProposer(["no-such-program-at-all"], Workspace(tmp_path))
    with pytest.raises(ProposerError, match="cannot be started: no-such-program-at-all"):
        list(proposer.propose(1, []))


def test_what_takes_too_long_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    command = f"{WRITES}; trap '' TERM; sleep 600 & echo $! > child; sleep 600; sleep 600"
    proposal = asked(command, tmp_path, time_limit=0.5)
    assert proposal.error == "the command was ended after 0.5 s"
    assert proposal.source == ""
    assert ends(int((tmp_path / "child").read_text()))


def test_what_is_left_in_the_background_is_ended(tmp_path: Path) -> None:
    assert asked(f"{WRITES}; sleep 600 & echo $! > child", tmp_path).error == ""
    assert ends(int((tmp_path / "child").read_text()))


def test_an_answer_that_is_not_on_record_is_not_asked_for_again(tmp_path: Path) -> None:
    command = f"echo x >> count; {WRITES}"
    first = asked(command, tmp_path)
    assert asked(command, tmp_path) == first
    assert (tmp_path / "count").read_text() == "x\n"
    (tmp_path / "answers" / "2-1.json").write_text('{"proposal": {"na')
    assert asked(command, tmp_path).source == first.source
    assert (tmp_path / "count").read_text() == "x\nx\n"


SPENDS = """echo '{"usd": 0.25, "prompt_tokens": 7, "other": "x"}' > cost.json"""


def test_what_it_says_that_it_cost(tmp_path: Path) -> None:
    proposal = asked(f"{WRITES}; {SPENDS}; echo $AUTOTTS_USD", tmp_path, budget=Budget(usd=1.0))
    assert proposal.cost.pop("seconds") > 0
    assert proposal.cost == {"usd": 0.25, "prompt_tokens": 7}
    assert (tmp_path / "logs" / "2-1.log").read_text() == "1.0\n"
    assert not (tmp_path / "cost.json").exists()
    assert "usd" not in asked(WRITES, tmp_path / "other").cost


def test_what_one_that_was_cut_off_cost_is_paid(tmp_path: Path) -> None:
    with pytest.raises(ProposerError, match="cannot propose anything: no key"):
        asked(f"{SPENDS}; echo no key; exit 78", tmp_path)
    with pytest.raises(ProposerError):
        asked(f"{SPENDS}; exit 78", tmp_path)
    assert asked(f"{WRITES}; {SPENDS}", tmp_path).cost["usd"] == 0.75


def test_the_budget_ends_it(tmp_path: Path) -> None:
    command, workspace = f"{WRITES}; {SPENDS}", Workspace(tmp_path)
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


def test_a_command_is_known_before_it_does_anything(tmp_path: Path) -> None:
    """Whenever the run is killed, the next one knows what to end."""
    for _ in range(5):
        proposal = asked(
            f'test $(cat .command.lock) = $$ && printf %s "{SEED}" > controller.py', tmp_path
        )
        assert proposal.error == ""
        (tmp_path / "answers" / f"{proposal.name}.json").unlink()


def test_a_run_that_was_killed_leaves_nothing_behind_for_the_next(tmp_path: Path) -> None:
    """The command of a killed run is ended by the next one; that of a running one is not."""
    command = "echo $$ > pid; sleep 600"
    run = subprocess.Popen([sys.executable, "-c", RUN, str(tmp_path), command])
    pid = tmp_path / "pid"
    while not (pid.exists() and pid.read_text().strip()):
        assert run.poll() is None
        time.sleep(0.02)
    with pytest.raises(ProposerError, match="another run works in"):
        asked(WRITES, tmp_path)
    run.send_signal(signal.SIGKILL)
    run.wait()
    os.kill(int(pid.read_text()), 0)  # orphaned, and at work
    proposal = asked(f"printf %s '{SEED}' > controller.py", tmp_path)
    assert (proposal.source.strip(), proposal.error) == (SEED.strip(), "")
    assert ends(int(pid.read_text()))


def test_arguments_out_of_range(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    with pytest.raises(ValueError, match="give a command"):
        CommandProposer(" ", workspace)
    with pytest.raises(ValueError, match="give a command"):
        CommandProposer([], workspace)
    with pytest.raises(ValueError, match="attempts must be"):
        CommandProposer("true", workspace, attempts=0)
    with pytest.raises(ValueError, match="time_limit must be"):
        CommandProposer("true", workspace, time_limit=0)
