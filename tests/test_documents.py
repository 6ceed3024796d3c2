"""Run the examples in the documentation: Python blocks, commands, controllers and notebooks.

The blocks of a page run in order, in one process and in an empty folder. A Python block whose first
line is ``# name.py`` is a controller and is written to that file. A text block after a Python block
is the expected output of that block.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from typer.main import get_command

from autotts_gym.cli import app
from autotts_gym.controllers.loader import load
from autotts_gym.mdp.trace_dataset import EpisodeConfig
from autotts_gym.rollout.rollout import Rollout
from autotts_gym.traces import registry
from autotts_gym.traces.branch_width import default_width

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"

#: Commands that are not run: they need published traces (not part of this project), a cluster or a
#: server, or they take too long.
NOT_RUN = re.compile(
    r"qwen3|published[/ ]|--env published|--protocol|--ray|autotts (?:serve|collect|solve)"
    r"|(?:train autotts-ppo|discover) --env qwen"
    r"|found\.py --env tinylm --beta|boards|--calibrate"
)


class Fence(NamedTuple):
    kind: str
    text: str

    @property
    def file(self) -> str:
        """The file name of a controller block, or ""."""
        match = re.match(r"# (\w+\.py)\n", self.text) if self.kind == "python" else None
        return match[1] if match else ""

    @property
    def commands(self) -> list[str]:
        """The ``autotts`` commands of a block."""
        lines = self.text.splitlines() if self.kind == "sh" else []
        return [line for line in lines if line.startswith("autotts ")]

    @property
    def runs(self) -> list[str]:
        """The ``autotts`` commands of a block that the tests run."""
        return [command for command in self.commands if not NOT_RUN.search(command)]


def fences(page: Path) -> list[Fence]:
    blocks = re.findall(r"^```(\w+)\n(.*?)^```$", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    return [Fence(*pair) for pair in blocks]


PAGES = {
    page.relative_to(ROOT).as_posix(): fences(page)
    for page in [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
}
PAGES_WITH_CODE = [
    name for name, blocks in PAGES.items() if any(f.kind in ("python", "sh") for f in blocks)
]


def cases(texts: dict[str, str]) -> list[Any]:
    """Test parameters by name; texts that serve a model are marked ``vllm`` and run serially."""
    vllm = (pytest.mark.vllm, pytest.mark.xdist_group("vllm"))
    return [
        pytest.param(name, marks=vllm if "serve(" in text else ()) for name, text in texts.items()
    ]


NOTEBOOKS = {
    path.name: path.read_text("utf-8") for path in sorted((ROOT / "notebooks").glob("*.ipynb"))
}


def run(*command: str, cwd: Path, home: Path) -> str:
    """Run a command in a folder, with ``home`` as the user data folder; returns its stdout."""
    environment = {**os.environ, "XDG_DATA_HOME": str(home), "COLUMNS": "100"}
    environment.pop("AUTOTTS_ENVS", None)
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def script(blocks: list[Fence]) -> str:
    """A page as a program that prints a numbered line before each block."""
    parts = ["import subprocess, sys\n"]
    for number, fence in enumerate(blocks):
        parts.append(f"print('<<{number}>>', flush=True)\n")
        if fence.kind == "python" and not fence.file:
            parts.append(fence.text)
        for command in fence.runs:
            words = ["-m", "autotts_gym", *shlex.split(command, comments=True)[1:]]
            parts.append(f"subprocess.run([sys.executable, *{words!r}], check=True)\n")
    return "".join(parts)


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", cases({name: "".join(fence.text for fence in PAGES[name]) for name in PAGES_WITH_CODE})
)
def test_page_runs_and_prints_its_output(page: str, tmp_path: Path) -> None:
    blocks, here = PAGES[page], tmp_path / "here"
    here.mkdir()
    for fence in blocks:
        if fence.file:
            (here / fence.file).write_text(fence.text, "utf-8")
    output = run(sys.executable, "-W", "error", "-c", script(blocks), cwd=here, home=tmp_path)
    printed = dict(zip(*[iter(re.split(r"<<(\d+)>>\n", output)[1:])] * 2, strict=True))
    for number, (before, fence) in enumerate(pairwise(blocks)):
        if fence.kind != "text" or before.file:
            continue
        if before.kind == "python" and "print(" in before.text:
            assert printed[str(number)] == fence.text
        elif before.runs:
            lines = [line.split() for line in printed[str(number)].splitlines()]
            for expected in fence.text.splitlines():
                assert any(is_part(expected.split(), line) for line in lines), expected


def is_part(words: list[str], line: list[str]) -> bool:
    """Whether a line contains these words in this order."""
    rest = iter(line)
    return all(word in rest for word in words)


@pytest.mark.parametrize(
    ("page", "file"),
    [(page, fence.file) for page, blocks in PAGES.items() for fence in blocks if fence.file],
)
def test_controller_compiles(page: str, file: str, tmp_path: Path) -> None:
    (text,) = [fence.text for fence in PAGES[page] if fence.file == file]
    path = tmp_path / file
    path.write_text(text, "utf-8")
    (store,) = registry.open_stores(registry.DEFAULT).values()
    config = EpisodeConfig(max_branches=default_width([store]))
    rollout = Rollout(load(str(path)), store, config)
    assert (rollout.path, rollout.reason) == ("compiled", "")


@pytest.mark.parametrize("page", PAGES_WITH_CODE)
def test_commands_exist_with_their_options(page: str) -> None:
    group = get_command(app)
    for fence in PAGES[page]:
        for command in fence.commands:
            _, name, *arguments = shlex.split(command, comments=True)
            context = group.commands[name].make_context(name, arguments)  # type: ignore[attr-defined]
            assert context.command.name == name


def test_readme_has_examples() -> None:
    """A page without examples would pass every test above."""
    blocks = PAGES["README.md"]
    assert any(fence.file for fence in blocks)
    assert any(fence.commands for fence in blocks)
    assert {"docs/controllers.md", "docs/environment.md", "docs/traces.md"} <= set(PAGES_WITH_CODE)


@pytest.mark.parametrize("page", sorted(PAGES))
def test_links_to_files_exist(page: str) -> None:
    text = (ROOT / page).read_text("utf-8")
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        if "://" not in target:
            assert ((ROOT / page).parent / target).exists(), target


@pytest.mark.slow
@pytest.mark.parametrize("notebook", cases(NOTEBOOKS))
def test_notebook_runs(notebook: str, tmp_path: Path) -> None:
    """A separate process, because the notebook client leaks threads and sockets."""
    timeout = 900 if "serve(" in NOTEBOOKS[notebook] else 300  # seconds a cell
    shutil.copy(ROOT / "notebooks" / notebook, tmp_path)
    script = (
        "import nbformat, nbclient, sys\n"
        f"book = nbformat.read({notebook!r}, as_version=4)\n"
        f"nbclient.NotebookClient(book, timeout={timeout}, kernel_name='python3').execute()\n"
        "print(sum(len(c.get('outputs', [])) for c in book.cells))\n"
    )
    outputs = run(sys.executable, "-c", script, cwd=tmp_path, home=tmp_path)
    assert int(outputs.strip().splitlines()[-1]) > 0
