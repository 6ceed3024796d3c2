"""The API reference in ``docs/api`` names what the package exports, and nothing that is gone."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import autotts_gym
from autotts_gym import _deprecated

PAGES = Path(__file__).parents[1] / "docs" / "api"
TEXT = "\n".join(page.read_text("utf-8") for page in sorted(PAGES.glob("*.md")))


def test_every_exported_name_is_in_the_reference() -> None:
    for name in autotts_gym.__all__:
        assert re.search(rf"`?autotts_gym\.{name}\b", TEXT), name


def test_every_name_in_the_reference_exists() -> None:
    for kind, name in re.findall(r"auto(\w+):: (autotts_gym\.[\w.]+)", TEXT):
        if kind == "module":
            assert name not in _deprecated.table().modules or (
                _deprecated.table().modules[name] == name
            ), name
            importlib.import_module(name)
        else:
            module, _, attribute = name.rpartition(".")
            assert hasattr(importlib.import_module(module), attribute), name
