"""Starting files for new controllers: ``templates/``, with the new controller's name in them."""

from __future__ import annotations

import keyword
import os
from enum import StrEnum
from pathlib import Path
from typing import Final

#: Name of the controller in the templates.
_NAME: Final = "my_controller"


class Template(StrEnum):
    """Kinds of starting files; each is a file of ``templates/``."""

    with_beta = "with_beta"
    without_beta = "without_beta"
    published = "published"


def file(template: Template) -> Path:
    """Path of a template, which is itself a controller."""
    return Path(__file__).with_name("templates") / f"{template.value}.py"


def source(template: Template, name: str) -> str:
    """Text of the starting file for a controller called ``name``."""
    return file(template).read_text("utf-8").replace(_NAME, name)


def write(target: str | os.PathLike[str], template: Template = Template.with_beta) -> Path:
    """Write a starting file; existing files are not overwritten.

    Args:
        target: the controller's name, or the path of its file, with or without ``.py``.
        template: kind of starting file.

    Returns:
        The file's path.

    Raises:
        ValueError: the name is not a Python identifier, the folder does not exist, or the file
            does.
    """
    target = os.fspath(target)
    path = Path(target if target.endswith(".py") else f"{target}.py")
    name = path.name.removesuffix(".py")
    if not name.isidentifier() or keyword.iskeyword(name):
        raise ValueError(
            f"invalid controller name {name!r}: use letters, digits and '_', without a leading "
            "digit, and no Python keyword"
        )
    if not path.parent.is_dir():
        raise ValueError(f"{path.parent}: there is no such folder")
    text = source(template, name)
    try:
        with path.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
    except FileExistsError:
        raise ValueError(f"{path}: exists already, and is not overwritten") from None
    return path
