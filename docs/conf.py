"""Sphinx configuration; ``make docs`` builds the documentation without network access."""

from __future__ import annotations

import importlib
import inspect
import re
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

import autotts_gym
from autotts_gym.mdp import fields

project = "autotts_gym"
author = copyright = "The autotts_gym developers"
version = release = autotts_gym.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
exclude_patterns = ["_build"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_default_options = {"members": True, "show-inheritance": True}
napoleon_use_ivar = True  # attributes listed in a class docstring are not documented twice
napoleon_attr_annotations = False  # docstrings give dtypes and shapes
nitpick_ignore_regex = [
    (r"py:class", r"Slot|datetime\.date|fractions\.Fraction"),
    # Names of other projects; their inventories would need network access.
    (
        r"py:.*",
        r"(np|numpy|gym|gymnasium|pa|pyarrow|pathlib|collections|enum|os|types|rich)\..*",
    ),
    (r"py:.*", r"msgspec\..*"),
    (r"py:.*", r"(torch|stable_baselines3|socket)\..*|Module|Tensor|BaseAlgorithm"),
    (
        r"py:.*",
        r"(matplotlib|ast|ctypes|symtable|multiprocessing|subprocess|concurrent|pd)\..*|Axes",
    ),
    (r"py:.*", r"(Path|Image|Table|NDArray|ArrayLike|(float|int)\d+|numpy\.typing.*)"),
    # Aliases of these types in signatures, and types that Sphinx splits at a comma.
    (r"py:.*", r"(autotts_gym\..*\.)?(Floats|Ints|Observation|Environment|Order|Key|StrPath|Api)"),
    (r"py:class", r"(dict|tuple)\[(str|float|bytes)|ClaudeAgentOptions"),
    (r"py:(class|obj)", r"(io\.FileIO|abc\.ABC|Qwen3\w+|typing\.Literal\[.*|autotts_gym\..*\.T)"),
    (r"py:class", r"1000000000000\.0"),  # a bound in the annotation of a curve's numbers
    # Private and internal classes in signatures.
    (r"py:.*", r"(.*\.)?(View|GenerationView|Scene|MacroBatch|Records|void|LEDGER|BRANCH|TRACE)"),
    (r"py:.*", r"(.*\.)?(DrawTables|RequestRetries)"),
    (r"py:.*", r"autotts_gym\.gym_envs\.rendering"),
    (r"py:class", r"autotts_gym\..*\._\w+"),
]

html_theme = "furo"
html_title = f"autotts_gym {release}"
html_show_sphinx = False
# Furo uses system fonts, so pages load nothing from other hosts.
html_theme_options = {"navigation_with_keys": True}
html_static_path = ["_static"]
html_css_files = ["wide.css"]
copybutton_exclude = ".linenos, .gp, .go"

#: Pages of classes whose docstring is Markdown, as in Gymnasium, by class name.
MARKDOWN = {
    "autotts_gym.gym_envs.autotts_env.AutoTTSEnv": "autotts-v0",
    "autotts_gym.gym_envs.live_env.AutoTTSLiveEnv": "autotts-live-v0",
    "autotts_gym.gym_envs.macro_env.MacroEnv": "autotts-decisions-v0",
}

#: Placeholder for a colon that napoleon must not parse; the character occurs in no text.
COLON = "\ue000"


class MarkdownDocstring(SphinxDirective):
    """Directive ``{markdown-docstring} module.Class``: insert a docstring written in Markdown."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        module, _, name = self.arguments[0].rpartition(".")
        text = inspect.getdoc(getattr(importlib.import_module(module), name)) or ""
        # Markdown has no reStructuredText roles.
        text = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", text)
        lines = text.partition("\n\n")[2].splitlines()  # the page has its own title
        parent = nodes.section()
        self.state.nested_parse(StringList(lines, source=name), 0, parent, match_titles=True)
        return parent.children


class StateFields(SphinxDirective):
    """Directive ``{state-fields}``: insert tables of the fields of an episode's state."""

    def run(self) -> list[nodes.Node]:
        lines: list[str] = []
        for title, listed in (
            ("Ledger, one per episode", fields.LEDGER_FIELDS),
            ("Branch, one per branch", fields.BRANCH_FIELDS),
        ):
            lines += ["", f"| {title} | meaning | hidden |", "| --- | --- | --- |"]
            lines += [
                f"| `{field.name}` | {field.meaning} | {'yes' if field.hidden else ''} |"
                for field in listed
            ]
        parent = nodes.section()
        self.state.nested_parse(StringList(lines, source="fields"), 0, parent)
        return parent.children


def link_markdown_pages(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """Replace Markdown docstrings in the reference by a link to their page."""
    if name in MARKDOWN:
        lines[:] = [lines[0], "", f"See :doc:`/{MARKDOWN[name]}`.", ""]


def shorten_array_types(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, signature: str, returns: str
) -> tuple[str, str] | None:
    """Write array types in signatures as ``NDArray[...]``, not as NumPy resolves them."""
    if signature is None:
        return None
    dtype = r"(~?[\w.]+(?:\[~?[\w.]+\])?)"
    array = rf"~?numpy\.ndarray\[tuple\[~?typing\.Any, \.\.\.\], ~?numpy\.dtype\[{dtype}\]\]"
    shortened = [re.sub(array, r"NDArray[\1]", text or "") for text in (signature, returns)]
    shortened = [re.sub(r"~(numpy|typing)\.(?=\w+[\],=])", "", text) for text in shortened]
    return shortened[0], shortened[1]


def hide_colons(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """Hide colons in attributes from napoleon, which parses the text before a colon as a type."""
    if what in ("attribute", "data", "property"):
        lines[:] = [line.replace(":", COLON) for line in lines]


def split_shared_fields(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """Split fields that share one description, such as ``low, high: ...``."""
    split: list[str] = []
    names: list[str] = []
    text: list[str] = []
    for line in [*lines, ""]:
        field = re.match(r":(param|ivar) (\w+(?:, \w+)+):(.*)", line)
        if names and (field or not line.startswith(" ")):
            kind, *each = names
            for one in each:
                split += [f":{kind} {one}:{text[0]}", *text[1:]]
            names = []
        if field:
            names, text = [field[1], *field[2].split(", ")], [field[3]]
        elif names:
            text.append(line)
        else:
            split.append(line)
    lines[:] = [line.replace(COLON, ":") for line in split]


def setup(app: Sphinx) -> None:
    """Register directives and event handlers with Sphinx."""
    app.add_directive("markdown-docstring", MarkdownDocstring)
    app.add_directive("state-fields", StateFields)
    app.connect("autodoc-process-signature", shorten_array_types)
    app.connect("autodoc-process-docstring", link_markdown_pages)
    app.connect("autodoc-process-docstring", hide_colons, priority=100)  # before napoleon
    app.connect("autodoc-process-docstring", split_shared_fields, priority=900)  # after napoleon
