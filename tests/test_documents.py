"""What the documents show must run: the README's Python and its commands, and the notebooks."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def run(*command: str, cwd: Path, home: Path) -> str:
    """A command in an empty folder, with an environment folder of its own."""
    surroundings = {**os.environ, "XDG_DATA_HOME": str(home), "COLUMNS": "100"}
    done = subprocess.run(
        command, cwd=cwd, env=surroundings, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_readme_python_runs_in_order(tmp_path: Path) -> None:
    script = "\n".join(block for block in BLOCKS if "def solve" not in block)
    run(sys.executable, "-W", "error", "-c", script, cwd=tmp_path, home=tmp_path)
    assert (tmp_path / "my-traces" / "card.yaml").is_file()


def test_readme_controller_plays_compiled(tmp_path: Path) -> None:
    (controller,) = [block for block in BLOCKS if "def solve" in block]
    (tmp_path / "three_agree.py").write_text(controller, "utf-8")
    command = next(line for line in README.splitlines() if "./three_agree.py" in line)
    table = run(sys.executable, "-m", *as_module(command), cwd=tmp_path, home=tmp_path)
    assert re.search(r"three_agree .* compiled", table)
    assert (tmp_path / "results" / "frontier.png").is_file()


def test_readme_commands_run(tmp_path: Path) -> None:
    """Those that need no published traces."""
    for line in README.splitlines():
        if re.match(r"autotts (synth|envs|play) ", line) and "qwen3" not in line:
            run(
                sys.executable,
                "-m",
                *as_module(line.partition("#")[0]),
                cwd=tmp_path,
                home=tmp_path,
            )
    assert "easy" in run(sys.executable, "-m", "autotts_gym", "envs", cwd=tmp_path, home=tmp_path)


def as_module(command: str) -> list[str]:
    words = command.split()
    assert words[0] == "autotts"
    return ["autotts_gym", *words[1:]]


@pytest.mark.parametrize("notebook", sorted(p.name for p in (ROOT / "notebooks").glob("*.ipynb")))
def test_notebook_runs(notebook: str, tmp_path: Path) -> None:
    """In a process of its own: the notebook client's threads and sockets are not ours to judge."""
    shutil.copy(ROOT / "notebooks" / notebook, tmp_path)
    script = (
        "import nbformat, nbclient, sys\n"
        f"book = nbformat.read({notebook!r}, as_version=4)\n"
        "nbclient.NotebookClient(book, timeout=300, kernel_name='python3').execute()\n"
        "print(sum(len(c.get('outputs', [])) for c in book.cells))\n"
    )
    outputs = run(sys.executable, "-c", script, cwd=tmp_path, home=tmp_path)
    assert int(outputs.strip().splitlines()[-1]) > 0
