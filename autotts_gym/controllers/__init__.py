"""Controllers: the episode that they play, their helper functions, and loading them."""

from __future__ import annotations

import importlib
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, Final

#: Earlier names of modules in this package, which existing controllers import.
RENAMED_MODULES: Final = {
    "handle": "episode",
    "published": "published_programs",
    "reading": "helpers",
    "voting": "helpers",
}


class _RenamedModuleFinder:
    """Imports modules of this package by their earlier names."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        package, _, module = name.rpartition(".")
        if package != __name__ or module not in RENAMED_MODULES:
            return None
        return ModuleSpec(name, self)  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        name = RENAMED_MODULES[module.__name__.rpartition(".")[2]]
        sys.modules[module.__name__] = importlib.import_module(f"{__name__}.{name}")


sys.meta_path.append(_RenamedModuleFinder())
