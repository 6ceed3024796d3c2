"""A folder for a proposer to work in: the task, what was tried, and the program to write.

The folder holds

- ``README.md``: the task, see :mod:`autotts_gym.discovery.prompts`;
- ``template.py``: a program to start from;
- ``seeds/NAME.py``: the programs that the search began with;
- ``history/NAME/``: every program that was tried: ``controller.py``, ``result.json`` and
  ``feedback.md``;
- ``results.md``: all of them in a table;
- ``best.py``, ``last.py``: the best and the latest of them;
- ``controller.py``: what the proposer writes; the best program, or the template, to begin with;
- ``answers/``: what proposers have answered, see :mod:`autotts_gym.discovery.proposers.response_cache`.

All but the last two can only be read. It follows from the history alone: laid out anew, it has the
same bytes, whatever happened to it. Files that a proposer leaves beside these stay.
"""

from __future__ import annotations

import json
import re
import shutil
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from autotts_gym.discovery import prompts
from autotts_gym.discovery.proposal import Tried
from autotts_gym.discovery.source_checks import LARGEST
from autotts_gym.utils.files import write_text

#: What a name must be to become a folder.
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,99}")


class Workspace:
    """The folder.

    Args:
        folder: where it is laid out.
        traces: whether diagnoses and traces are told.
        knob: whether programs must have the knob β and nothing else.
        evaluation: a command that scores ``controller.py``, run in the folder; none by default.
    """

    def __init__(
        self, folder: Path, *, traces: bool = True, knob: bool = True, evaluation: str = ""
    ) -> None:
        self.folder = folder.absolute()
        self.traces, self.knob, self.evaluation = traces, knob, evaluation

    @property
    def controller(self) -> Path:
        """The file that a proposer writes."""
        return self.folder / "controller.py"

    def lay_out(self, history: Sequence[Tried]) -> str:
        """Write everything as it is to be after a history; returns ``controller.py``'s text.

        Raises:
            ValueError: a name is none for a file.
        """
        for tried in history:
            if not _NAME.fullmatch(tried.proposal.name):
                raise ValueError(f"{tried.proposal.name!r} is no name for a program's folder")
        self.folder.mkdir(parents=True, exist_ok=True)
        template = prompts.template(self.knob)
        best, last = prompts.best(history), prompts.last(history)
        start = template if best is None else best.proposal.source
        files = {
            "README.md": self._readme(),
            "template.py": template,
            "results.md": prompts.standing(history),
            "best.py": "" if best is None else best.proposal.source,
            "last.py": "" if last is None else last.proposal.source,
        }
        for name, text in files.items():
            if text:
                _put(self.folder / name, text)
            else:
                (self.folder / name).unlink(missing_ok=True)
        seeds = [tried.proposal for tried in history if tried.proposal.name.startswith("0-")]
        _fill(self.folder / "seeds", {f"{s.name.removeprefix('0-')}.py": s.source for s in seeds})
        _fill(self.folder / "history", {t.proposal.name: self._entry(t) for t in history})
        _clear(self.controller, keep=False)
        _put(self.controller, start, mode=0o644)
        return start

    def _readme(self) -> str:
        knob = "solve(episode, beta)" if self.knob else "solve(episode)"
        lines = [
            f"Write `controller.py`, with `{knob}`, and leave it in this folder. It is the best "
            "program so far, or the template, to begin with; unchanged, it counts for nothing.",
            "`template.py` is a commented program, `seeds/` has what the search began with, "
            "`results.md` lists what was tried, `best.py` and `last.py` are the best and the "
            "latest of it, and `history/NAME/` has each: its text, its score and curve "
            "(`result.json`), and what there is to learn from it (`feedback.md`).",
        ]
        if self.evaluation:
            lines.append(f"To score `controller.py` yourself, run `{self.evaluation}` here.")
        here = "\n\n".join(lines)
        return f"{prompts.task(knob=self.knob, traces=self.traces)}\n## This folder\n\n{here}\n"

    def _entry(self, tried: Tried) -> dict[str, str]:
        made = {
            "result.json": json.dumps(prompts.result(tried), indent=1) + "\n",
            "feedback.md": prompts.feedback(tried, traces=self.traces),
        }
        return made | ({"controller.py": tried.proposal.source} if tried.proposal.source else {})

    def written(self, start: str) -> tuple[str, str]:
        """What a proposer has left in ``controller.py``, and what is wrong with that.

        Args:
            start: its text to begin with.

        Returns:
            The program, or an empty text and the trouble.
        """
        try:
            kind = self.controller.lstat()
            if not stat.S_ISREG(kind.st_mode):
                return "", "controller.py is no file"
            if kind.st_size > LARGEST:
                return "", f"controller.py has {kind.st_size} bytes; {LARGEST} are the most"
            text = self.controller.read_bytes().decode("utf-8")
        except FileNotFoundError:
            return "", "there is no controller.py"
        except UnicodeDecodeError as error:
            return "", f"controller.py is no UTF-8: byte {error.start} is {error.reason}"
        except OSError as error:
            return "", f"controller.py cannot be read: {error.strerror or error}"
        if text == start:
            return "", "controller.py was left as it was"
        if not text.strip():
            return "", "controller.py is empty"
        return text, ""


Content = Mapping[str, "str | Content"]


def _fill(folder: Path, content: Content) -> None:
    """Make a folder hold some files and folders, and nothing else, to be read alone."""
    if folder.is_symlink() or not folder.is_dir():
        _clear(folder, keep=False)
        folder.mkdir()
    folder.chmod(0o755)
    for path in folder.iterdir():
        if path.name not in content:
            _clear(path, keep=False)
    for name, part in content.items():
        if isinstance(part, str):
            _put(folder / name, part)
        else:
            _fill(folder / name, part)
    folder.chmod(0o555)


def _put(path: Path, text: str, mode: int = 0o444) -> None:
    _clear(path, keep=True)
    if not path.exists() or path.read_bytes() != text.encode():
        write_text(path, text)
    path.chmod(mode)


def _clear(path: Path, *, keep: bool) -> None:
    """Remove what stands at a path, except, with ``keep``, a file that is one."""
    if path.is_symlink() or (path.exists() and not path.is_dir() and not (keep and path.is_file())):
        path.unlink()
    elif path.is_dir():
        for inner in [path, *path.rglob("*")]:
            if inner.is_dir() and not inner.is_symlink():
                inner.chmod(0o755)
        shutil.rmtree(path)
