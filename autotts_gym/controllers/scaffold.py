"""Starting files for controllers: ``templates/``, with the controller's own name in them."""

from __future__ import annotations

import keyword
from enum import StrEnum
from pathlib import Path
from typing import Final

#: What the templates call the controller.
_NAME: Final = "my_controller"


class Template(StrEnum):
    """What kind of controller to start from; each is a file of ``templates/``."""

    with_beta = "with_beta"
    without_beta = "without_beta"
    published = "published"


def file(template: Template) -> Path:
    """The starting file itself, which is a controller."""
    return Path(__file__).with_name("templates") / f"{template.value}.py"


def source(template: Template, name: str) -> str:
    """The text of a starting file for a controller called ``name``."""
    return file(template).read_text("utf-8").replace(_NAME, name)


def write(target: str, template: Template = Template.with_beta) -> Path:
    """Write a starting file, never over another.

    Args:
        target: the controller's name, or the path of its file, with or without ``.py``.

    Returns:
        The file's path.

    Raises:
        ValueError: its name is no Python identifier, its folder does not exist, or something
            stands there already.
    """
    path = Path(target if target.endswith(".py") else f"{target}.py")
    name = path.name.removesuffix(".py")
    if not name.isidentifier() or keyword.iskeyword(name):
        raise ValueError(
            f"{name!r} is no name for a controller: use letters, digits and '_', with no "
            "digit first, and no keyword of Python"
        )
    if not path.parent.is_dir():
        raise ValueError(f"{path.parent}: there is no such folder")
    text = source(template, name)
    try:
        with path.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
    except FileExistsError:
        raise ValueError(f"{path}: exists already; nothing is written over it") from None
    return path
