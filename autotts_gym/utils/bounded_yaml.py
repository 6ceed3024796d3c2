"""YAML of unknown origin, parsed within bounds of time and memory."""

from __future__ import annotations

from typing import Any, Final

import yaml

_LOADER: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

#: Length of a text, characters; it bounds the number of nodes.
_MAX_LENGTH: Final = 1 << 20
#: Levels of lists and mappings.
_MAX_DEPTH: Final = 32
#: Length of a scalar that is not a string: conversion of long numbers takes quadratic time.
_MAX_SCALAR: Final = 640


class YamlError(ValueError):
    """A text that is not YAML, or that exceeds a bound. The message says where."""


def load(text: str) -> Any:
    """Parse one YAML document.

    Aliases are refused: few of them describe more values than memory holds.

    Raises:
        YamlError: the text is not YAML, has an alias or a key twice, or exceeds a bound.
    """
    if len(text) > _MAX_LENGTH:
        raise YamlError(f"has {len(text):,} characters; at most {_MAX_LENGTH:,} are read")
    try:
        _check_events(text)
        loader = _LOADER(text)
        try:
            root = loader.get_single_node()
            if root is None:
                return None
            _check_keys(root)
            return loader.construct_document(root)
        finally:
            loader.dispose()
    except YamlError:
        raise
    except Exception as error:  # PyYAML raises many types, such as for month 13
        reason = str(error) if isinstance(error, yaml.YAMLError | ValueError) else repr(error)
        raise YamlError(reason) from error


def _check_events(text: str) -> None:
    """Check depth and aliases before anything is built; the events are parsed one by one."""
    depth = 0
    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, yaml.AliasEvent):
            raise YamlError(f"{_place(event)}: aliases such as *name are not read; write it out")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > _MAX_DEPTH:
                raise YamlError(f"{_place(event)}: more than {_MAX_DEPTH} levels")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _check_keys(node: yaml.Node) -> None:
    if isinstance(node, yaml.ScalarNode):
        if len(node.value) > _MAX_SCALAR and node.tag != "tag:yaml.org,2002:str":
            raise YamlError(f"{_place(node)}: a number of {len(node.value):,} characters")
    elif isinstance(node, yaml.SequenceNode):
        for entry in node.value:
            _check_keys(entry)
    elif isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in seen:
                    raise YamlError(f"{_place(key)}: the key {key.value!r:.80} occurs twice")
                seen.add((key.tag, key.value))
            _check_keys(key)
            _check_keys(value)


def _place(item: yaml.Node | yaml.Event) -> str:
    mark = item.start_mark
    return f"line {mark.line + 1}, column {mark.column + 1}" if mark else "somewhere"


class _Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    """Writes equal objects out each time, since :func:`load` refuses aliases."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def dump(content: Any, **options: Any) -> str:
    """Format plain values as YAML that :func:`load` reads; options are those of ``yaml.dump``."""
    text: str = yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, **options)
    return text
