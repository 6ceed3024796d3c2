"""Deprecated names of version 0.1: modules, names, members and keyword arguments.

``_renames.txt`` lists them. A line without indentation names an old module and the module that
replaces it; the indented lines below it name what moved elsewhere or was renamed::

    old.module  new.module
        OldClass  other.module.NewClass
        Class.old_member  new.module.Class.new_member
        function(old_keyword)  new.module.function(new_keyword)

Names are relative to ``autotts_gym``. What a module holds under its old name is not listed.
Every use of an old name gives a ``DeprecationWarning`` that names the new one.
"""

from __future__ import annotations

import functools
import importlib
import sys
import warnings
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any, Final

_PACKAGE: Final = "autotts_gym"
_FILE: Final = Path(__file__).with_name("_renames.txt")


@dataclass
class Renames:
    """The table of ``_renames.txt``, with absolute names.

    Attributes:
        modules: new module by old module.
        names: new dotted name by old module and old name.
        members: by new module, ``(class, old member, new member)``.
        keywords: by new module, ``(function, old keyword, new keyword)``; a function is
            ``name``, ``Class`` or ``Class.method``.
    """

    modules: dict[str, str] = field(default_factory=dict)
    names: dict[str, dict[str, str]] = field(default_factory=lambda: defaultdict(dict))
    members: dict[str, list[tuple[str, str, str]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    keywords: dict[str, list[tuple[str, str, str]]] = field(
        default_factory=lambda: defaultdict(list)
    )

    @classmethod
    def read(cls, text: str) -> Renames:
        """Parse the table."""
        table, module = cls(), ""
        for line in text.splitlines():
            if not line or line.startswith("#"):
                continue
            old, new = line.split()
            new = f"{_PACKAGE}.{new}"
            if not line.startswith(" "):
                module = f"{_PACKAGE}.{old}"
                table.modules[module] = new
            elif old.endswith(")"):
                function, keyword = new[:-1].split("(")
                new_module, name = _split(function)
                old_keyword = old[:-1].split("(")[1]
                table.keywords[new_module].append((name, old_keyword, keyword))
            elif "." in old:
                owner, _, member = new.rpartition(".")
                new_module, name = _split(owner)
                table.members[new_module].append((name, old.rpartition(".")[2], member))
            else:
                table.names[module][old] = new
        return table


def _split(dotted: str) -> tuple[str, str]:
    """The module and the rest of ``package.module.Class.method``: modules are lower-case files."""
    parts = dotted.split(".")
    for end in range(len(parts) - 1, 0, -1):
        base = Path(__file__).parent.joinpath(*parts[1:end])
        if base.with_suffix(".py").is_file() or (base / "__init__.py").is_file():
            return ".".join(parts[:end]), ".".join(parts[end:])
    raise ValueError(f"{dotted}: there is no such module")


@functools.cache
def table() -> Renames:
    """The table, read once."""
    return Renames.read(_FILE.read_text("utf-8"))


def _warn(old: str, new: str, stacklevel: int = 3) -> None:
    warnings.warn(
        f"{old} is deprecated and will be removed in autotts_gym 0.3; use {new}",
        DeprecationWarning,
        stacklevel=stacklevel,
    )


def _resolve(dotted: str) -> Any:
    module, name = _split(dotted)
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    return found


class _MovedModule:
    """Loader of a module that moved: its attributes are those of the new module."""

    def __init__(self, old: str, new: str) -> None:
        self._old, self._new = old, new

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        old, new = self._old, self._new
        target = importlib.import_module(new)
        names = table().names.get(old, {})
        _warn(old, new, stacklevel=3)
        module.__doc__ = f"Deprecated name of :mod:`{new}`."

        def public() -> list[str]:
            return sorted({*names, *(name for name in vars(target) if not name.startswith("_"))})

        def get(name: str) -> Any:
            if name == "__all__":
                return public()
            if name in names:
                _warn(f"{old}.{name}", names[name])
                return _resolve(names[name])
            if name.startswith("_") or not hasattr(target, name):
                raise AttributeError(f"module {old!r} has no attribute {name!r}")
            _warn(f"{old}.{name}", f"{new}.{name}")
            return getattr(target, name)

        module.__dict__.update(__getattr__=get, __dir__=public)


class _OldMember:
    """A class attribute that reads the member that replaced it."""

    def __init__(self, old: str, new: str) -> None:
        self._old, self._new = old, new

    def __get__(self, instance: Any, owner: type) -> Any:
        _warn(f"{owner.__name__}.{self._old}", f"{owner.__name__}.{self._new}")
        return getattr(owner if instance is None else instance, self._new)


def _with_old_keywords(function: Callable[..., Any], keywords: dict[str, str]) -> Any:
    """A function that also takes keyword arguments by their old names."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        for old in keywords.keys() & kwargs.keys():
            new = keywords[old]
            _warn(f"{function.__qualname__}({old}=...)", f"{new}=")
            if new in kwargs:
                raise TypeError(f"{function.__qualname__}() got both {new!r} and {old!r}")
            kwargs[new] = kwargs.pop(old)
        return function(*args, **kwargs)

    return call


def _add_old_names(module: ModuleType) -> None:
    """Give a module that was just loaded the old names of what it held or holds."""
    renames, name = table(), module.__name__
    for owner, old, new in renames.members.get(name, ()):
        setattr(_resolve(f"{name}.{owner}"), old, _OldMember(old, new))
    keywords: dict[str, dict[str, str]] = defaultdict(dict)
    for function, old, new in renames.keywords.get(name, ()):
        keywords[function][old] = new
    for function, pairs in keywords.items():
        owner, _, last = function.rpartition(".")
        place = _resolve(f"{name}.{owner}") if owner else module
        target = vars(place)[last]
        if isinstance(target, type):
            target.__init__ = _with_old_keywords(target.__init__, pairs)  # type: ignore[misc]
        elif isinstance(target, classmethod | staticmethod):
            setattr(place, last, type(target)(_with_old_keywords(target.__func__, pairs)))
        else:
            setattr(place, last, _with_old_keywords(target, pairs))
    moved = renames.names.get(name)
    if moved:
        inherited = module.__dict__.get("__getattr__")

        def get(attribute: str) -> Any:
            if attribute in moved:
                _warn(f"{name}.{attribute}", moved[attribute])
                return _resolve(moved[attribute])
            if inherited is not None:
                return inherited(attribute)
            raise AttributeError(f"module {name!r} has no attribute {attribute!r}")

        module.__dict__["__getattr__"] = get


class OldNames:
    """Import hook that finds modules by their old names, and adds old names to present modules."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find a module of this package; None for any other."""
        if not name.startswith(f"{_PACKAGE}."):
            return None
        renames = table()
        spec = PathFinder.find_spec(name, path, target)
        if spec is None:
            new = renames.modules.get(name)
            if new is None:
                return None
            is_package = any(old.startswith(f"{name}.") for old in renames.modules)
            return ModuleSpec(name, _MovedModule(name, new), is_package=is_package)  # type: ignore[arg-type]
        if name in renames.names or name in renames.members or name in renames.keywords:
            loader: Any = spec.loader
            execute = loader.exec_module

            def exec_module(module: ModuleType) -> None:
                execute(module)
                _add_old_names(module)

            loader.exec_module = exec_module
        return spec


def install() -> None:
    """Add the import hook, once a process."""
    if OldNames not in sys.meta_path:
        sys.meta_path.insert(0, OldNames)
