"""The workspace of a proposer: a folder with the task, all candidates, and the file to write.

The folder contains

- ``README.md``: the task, see :mod:`autotts_gym.discovery.prompts`;
- ``template.py``: a commented starting file;
- ``seeds/NAME.py``: the seed controllers;
- ``history/NAME/``: ``controller.py``, ``result.json`` and ``feedback.md`` of every candidate;
- ``results.md``: a table of all candidates;
- ``best.py``, ``last.py``: the best and the latest program;
- ``controller.py``: the file that the proposer writes; initially the best program, or the template;
- ``answers/``: responses of proposers, see
  :mod:`autotts_gym.discovery.proposers.response_cache`.

All files but the last two are read-only. They depend on the history alone: writing the workspace
again restores the same bytes, whatever was changed. Other files of a proposer are kept.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from autotts_gym.discovery import prompts
from autotts_gym.discovery.proposal import Candidate
from autotts_gym.discovery.source_rules import MAX_SOURCE_SIZE
from autotts_gym.utils.files import write_text

#: Candidate names that can be used as folder names.
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,99}")


class Workspace:
    """A folder in which a proposer works.

    Args:
        folder: the folder; created when it is written.
        diagnostics: include diagnoses and transcripts in the feedback.
        knob: whether β must control spending.
        evaluation: shell command that scores ``controller.py`` when run in the folder; none by
            default.
        latency: weights of latency in the score.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        diagnostics: bool = True,
        knob: bool = True,
        evaluation: str = "",
        latency: Sequence[float] = (0.0,),
    ) -> None:
        self.folder = Path(folder).absolute()
        self.diagnostics, self.knob, self.evaluation = diagnostics, knob, evaluation
        self.latency = latency

    @property
    def task(self) -> str:
        """The task, see :func:`.prompts.task`."""
        return prompts.task(knob=self.knob, diagnostics=self.diagnostics, latency=self.latency)

    @property
    def controller(self) -> Path:
        """The file that a proposer writes."""
        return self.folder / "controller.py"

    def write(self, history: Sequence[Candidate]) -> str:
        """Write all files for a history.

        Returns:
            The initial text of ``controller.py``.

        Raises:
            ValueError: the name of a candidate cannot be used as a folder name.
        """
        for candidate in history:
            if not _NAME.fullmatch(candidate.name):
                raise ValueError(f"candidate name {candidate.name!r} is not a valid folder name")
        self.folder.mkdir(parents=True, exist_ok=True)
        template = prompts.template(self.knob)
        best, latest = prompts.best_candidate(history), prompts.latest_candidate(history)
        start = template if best is None else best.proposal.source
        files = {
            "README.md": self._readme(),
            "template.py": template,
            "results.md": prompts.history_table(history),
            "best.py": "" if best is None else best.proposal.source,
            "last.py": "" if latest is None else latest.proposal.source,
        }
        for name, text in files.items():
            if text:
                _write_file(self.folder / name, text)
            else:
                (self.folder / name).unlink(missing_ok=True)
        seeds = [c.proposal for c in history if c.name.startswith("0-")]
        _write_folder(
            self.folder / "seeds", {f"{s.name.removeprefix('0-')}.py": s.source for s in seeds}
        )
        _write_folder(self.folder / "history", {c.name: self._entry(c) for c in history})
        _remove(self.controller, keep_file=False)
        _write_file(self.controller, start, mode=0o644)
        return start

    def _readme(self) -> str:
        call = "solve(episode, beta)" if self.knob else "solve(episode)"
        paragraphs = [
            f"Write your program, with a function `{call}`, to `controller.py` in this folder. The "
            "file initially contains the best program so far, or the template. An unchanged file "
            "does not count as a proposal.",
            "`template.py` is a commented starting file. `seeds/` contains the seed controllers. "
            "`results.md` lists all candidates. `best.py` and `last.py` are the best and the "
            "latest program. `history/NAME/` contains, for every candidate, its source "
            "(`controller.py`), its score and curve (`result.json`), and its feedback "
            "(`feedback.md`).",
        ]
        if self.evaluation:
            paragraphs.append(
                f"To score `controller.py` yourself, run `{self.evaluation}` in this folder."
            )
        folder = "\n\n".join(paragraphs)
        return f"{self.task}\n## This folder\n\n{folder}\n"

    def _entry(self, candidate: Candidate) -> dict[str, str]:
        entry = {
            "result.json": json.dumps(prompts.result(candidate), indent=1) + "\n",
            "feedback.md": prompts.feedback(candidate, diagnostics=self.diagnostics),
        }
        if candidate.proposal.source:
            entry["controller.py"] = candidate.proposal.source
        return entry

    def read_program(self, start: str) -> tuple[str, str]:
        """Read the program that a proposer has written to ``controller.py``.

        Args:
            start: the initial text of the file.

        Returns:
            The program and an empty text; or an empty text and the error.
        """
        try:
            status = self.controller.lstat()
            if not stat.S_ISREG(status.st_mode):
                return "", "controller.py is not a regular file"
            if status.st_size > MAX_SOURCE_SIZE:
                return (
                    "",
                    f"controller.py has {status.st_size} bytes; the maximum is {MAX_SOURCE_SIZE}",
                )
            text = self.controller.read_bytes().decode("utf-8")
        except FileNotFoundError:
            return "", "controller.py does not exist"
        except UnicodeDecodeError as error:
            return "", f"controller.py is not UTF-8: byte {error.start}: {error.reason}"
        except OSError as error:
            return "", f"controller.py cannot be read: {error.strerror or error}"
        if text == start:
            return "", "controller.py is unchanged"
        if not text.strip():
            return "", "controller.py is empty"
        return text, ""


#: Content of a folder by name: texts of files and contents of subfolders.
FolderContent = Mapping[str, "str | FolderContent"]


def _write_folder(folder: Path, content: FolderContent) -> None:
    """Make a read-only folder that has exactly the given content."""
    if folder.is_symlink() or not folder.is_dir():
        _remove(folder, keep_file=False)
        folder.mkdir()
    folder.chmod(0o755)
    for path in folder.iterdir():
        if path.name not in content:
            _remove(path, keep_file=False)
    for name, part in content.items():
        if isinstance(part, str):
            _write_file(folder / name, part)
        else:
            _write_folder(folder / name, part)
    folder.chmod(0o555)


def _write_file(path: Path, text: str, mode: int = 0o444) -> None:
    _remove(path, keep_file=True)
    if not path.exists() or path.read_bytes() != text.encode():
        write_text(path, text)
    path.chmod(mode)


def _remove(path: Path, *, keep_file: bool) -> None:
    """Remove a path of any type, except a regular file if ``keep_file``."""
    if path.is_symlink() or (
        path.exists() and not path.is_dir() and not (keep_file and path.is_file())
    ):
        path.unlink()
    elif path.is_dir():
        for inner in [path, *path.rglob("*")]:
            if inner.is_dir() and not inner.is_symlink():
                inner.chmod(0o755)
        shutil.rmtree(path)
