"""What strangers wrote does not control the terminal, and any terminal shows the output."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from autotts_gym.cli.console import (
    ProgressLines,
    SafeConsole,
    console,
    errors,
    print_dim,
    print_error,
    print_line,
    print_table,
    print_text,
    progress_bar,
    wide_console,
)
from autotts_gym.traces.store import Branch, Question, TraceStore

#: Clears the screen, writes the clipboard, sets the title, moves the cursor, reorders text.
HOSTILE = "x\x1b[2J\x1b]52;c;ZXZpbA==\x07\x9b1A\r\x08\u202e\u2066[red]"


def small() -> TraceStore:
    branches = [Branch(["7"], 700, "7"), Branch(["8", "8"], 1200, "8"), Branch([], 400, "7")]
    return TraceStore.from_branches([Question("?", "7", branches)] * 2, 500)


def safe(text: str) -> bool:
    return not any(character in text for character in "\x1b\x07\x9b\r\x08\u202e\u2066")


def test_every_way_of_printing_is_safe(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table(HOSTILE.replace("[", "("))
    table.add_row(escape(HOSTILE), Text(HOSTILE))
    print_line(escape(HOSTILE))
    print_text(HOSTILE)
    print_dim(HOSTILE)
    print_error(HOSTILE, HOSTILE)
    print_table(table)
    console.print(table)
    console.rule(Text(HOSTILE))
    errors.print(HOSTILE, markup=False)
    wide_console.print(table)
    printed = "".join(capsys.readouterr())
    assert safe(printed)
    assert "\\x1b[2J" in printed


def test_a_terminal_gets_only_styles(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = SafeConsole(force_terminal=True, color_system="standard", record=True)
    with terminal.capture() as capture:
        terminal.print(f"[red]{escape(HOSTILE)}[/]", highlight=False)
    assert "\x1b[31m" in capture.get()
    assert safe(capture.get().replace("\x1b[31m", "").replace("\x1b[0m", ""))
    with terminal.capture() as capture, Live(Text(HOSTILE), console=terminal, auto_refresh=False):
        pass
    assert "\x1b]52" not in capture.get()


def test_names_stay_in_their_cell(capsys: pytest.CaptureFixture[str]) -> None:
    print_error("agent\nforged: ok", "a\nb")
    assert capsys.readouterr().err == "agent\\x0aforged: ok: a\\x0ab\n"


def test_progress_lines_where_there_is_no_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = ProgressLines(progress_bar())
    lines._last_print -= 31
    lines.print(f"5%: {HOSTILE}")
    lines.print("6%")
    printed = capsys.readouterr().err
    assert printed.startswith("5%: x")
    assert "6%" not in printed
    assert safe(printed)


def run(folder: Path, *arguments: object, **environment: str) -> tuple[int, str]:
    """Run a command in its own process; status and output."""
    done = subprocess.run(
        [sys.executable, "-m", "autotts_gym", *map(str, arguments)],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        timeout=300,
        check=False,
    )
    return done.returncode, (done.stdout + done.stderr).decode("utf-8", "replace")


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_other_encodings(tmp_path: Path, encoding: str) -> None:
    small().save(tmp_path / "tiny")
    played = ("benchmark", "cmc", "--env", "tiny", "--max-branches", 3, "--workers", 0)
    for arguments in (("--help",), ("benchmark", "--help"), ("envs",), (*played, "--seeds", "0")):
        status, output = run(tmp_path, *arguments, PYTHONIOENCODING=encoding)
        assert status == 0, output
        assert "Traceback" not in output


@pytest.mark.slow
def test_a_narrow_terminal(tmp_path: Path) -> None:
    status, output = run(tmp_path, "envs", COLUMNS="40")
    assert status == 0
    assert "tinylm/medium/chain" in output
    assert "7,680" in output
    assert "…" not in output


def test_one_broken_environment_does_not_hide_the_others(tmp_path: Path) -> None:
    store = small().save(tmp_path / "envs/good")
    small().save(tmp_path / "envs/bad")
    card = tmp_path / "envs/bad/card.yaml"
    card.write_text(card.read_text().replace("questions: 2", "questions: abc"))
    small().save(tmp_path / "envs/pipe")
    (tmp_path / "envs/laughs").mkdir()
    (tmp_path / "envs/laughs/card.yaml").write_text("a: &a [x]\nb: *a\n")
    status, output = run(tmp_path, "envs", AUTOTTS_ENVS=str(tmp_path / "envs"))
    assert status == 0
    assert store.path is not None
    assert "bad: " in output
    assert "questions must be an integer" in output
    assert "laughs: " in output
    assert any(line.startswith("good ") for line in output.splitlines())


@pytest.mark.slow
def test_without_a_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "AUTOTTS_CACHE"):
        monkeypatch.delenv(name, raising=False)
    source = (
        "import pwd\n"
        "def nameless(uid): raise KeyError(uid)\n"
        "pwd.getpwuid = nameless\n"  # as for a user id without a name
        "import gymnasium as gym, autotts_gym\n"
        "from autotts_gym.utils.user_folders import cache_folder\n"
        "from autotts_gym.traces import registry\n"
        "assert cache_folder() is None\n"
        "gym.make('AutoTTS-v0').reset(seed=0)\n"
        "print(len(registry.listing()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", source], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 7
    assert not list(tmp_path.iterdir())  # such as a folder called ~
