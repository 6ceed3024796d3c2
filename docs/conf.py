"""How the documentation is built: ``make docs``, without the network."""

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
napoleon_use_ivar = True  # members that a class describes by itself are not described twice
napoleon_attr_annotations = False  # docstrings say dtypes and shapes
nitpick_ignore_regex = [
    (r"py:class", r"Slot"),
    # Other projects' names, whose inventories would have to be fetched.
    (
        r"py:.*",
        r"(np|numpy|gym|gymnasium|pa|pyarrow|pathlib|collections|enum|os|types|rich)\..*",
    ),
    (r"py:.*", r"(torch|stable_baselines3|socket)\..*|Module"),
    (r"py:.*", r"(Path|Image|Table|NDArray|ArrayLike|(float|int)\d+|numpy\.typing.*)"),
    # Aliases of such, as they stand in signatures; and types that Sphinx splits at a comma.
    (r"py:.*", r"(autotts_gym\..*\.)?(Floats|Ints|Observation|Environment|Order|Key)"),
    (r"py:class", r"(dict|tuple)\[(str|float)|ClaudeAgentOptions"),
    (r"py:(class|obj)", r"(io\.FileIO|abc\.ABC|Qwen3\w+|typing\.Literal\[.*|autotts_gym\..*\.T)"),
    # Private classes in signatures, and such as are not for users of the library.
    (r"py:.*", r"(.*\.)?(View|Scene|MacroBatch)|autotts_gym\.gym_envs\.rendering"),
    (r"py:class", r"autotts_gym\..*\._\w+"),
]

html_theme = "furo"
html_title = f"autotts_gym {release}"
html_show_sphinx = False
# Furo names fonts of the reader's system; nothing is loaded from elsewhere.
html_theme_options = {"navigation_with_keys": True}
html_static_path = ["_static"]
html_css_files = ["wide.css"]
copybutton_exclude = ".linenos, .gp, .go"

#: Classes whose docstring is Markdown, as Gymnasium has it; the directive below shows them.
MARKDOWN = {
    "autotts_gym.gym_envs.autotts_env.AutoTTSEnv": "autotts-v0",
    "autotts_gym.gym_envs.live_env.AutoTTSLiveEnv": "autotts-live-v0",
    "autotts_gym.gym_envs.macro_env.MacroActions": "autotts-decisions-v0",
}

#: Stands for a colon that napoleon is not to see; a character that no text has.
COLON = "\ue000"


class MarkdownDocstring(SphinxDirective):
    """``{markdown-docstring} module.Class``: a docstring that is written in Markdown."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        module, _, name = self.arguments[0].rpartition(".")
        text = inspect.getdoc(getattr(importlib.import_module(module), name)) or ""
        # Roles of reStructuredText mean nothing here.
        text = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", text)
        lines = text.partition("\n\n")[2].splitlines()  # the page has a title of its own
        parent = nodes.section()
        self.state.nested_parse(StringList(lines, source=name), 0, parent, match_titles=True)
        return parent.children


class StateFields(SphinxDirective):
    """``{state-fields}``: the fields of an episode's state as tables."""

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


def refer(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Have the reference name the page of a Markdown docstring."""
    if name in MARKDOWN:
        lines[:] = [lines[0], "", f"See :doc:`/{MARKDOWN[name]}`.", ""]


def shorten(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, signature: str, returns: str
) -> tuple[str, str] | None:
    """Arrays in signatures as they are written, rather than as NumPy resolves them."""
    if signature is None:
        return None
    dtype = r"(~?[\w.]+(?:\[~?[\w.]+\])?)"
    array = rf"~?numpy\.ndarray\[tuple\[~?typing\.Any, \.\.\.\], ~?numpy\.dtype\[{dtype}\]\]"
    written = [re.sub(array, r"NDArray[\1]", text or "") for text in (signature, returns)]
    written = [re.sub(r"~(numpy|typing)\.(?=\w+[\],=])", "", text) for text in written]
    return written[0], written[1]


def keep_colons(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """Keep napoleon from taking what stands before a colon in an attribute's line for its type."""
    if what in ("attribute", "data", "property"):
        lines[:] = [line.replace(":", COLON) for line in lines]


def separate(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Fields that a docstring describes together, as separate fields: ``low, high: ...``."""
    separated: list[str] = []
    names: list[str] = []
    text: list[str] = []
    for line in [*lines, ""]:
        field = re.match(r":(param|ivar) (\w+(?:, \w+)+):(.*)", line)
        if names and (field or not line.startswith(" ")):
            kind, *each = names
            for one in each:
                separated += [f":{kind} {one}:{text[0]}", *text[1:]]
            names = []
        if field:
            names, text = [field[1], *field[2].split(", ")], [field[3]]
        elif names:
            text.append(line)
        else:
            separated.append(line)
    lines[:] = [line.replace(COLON, ":") for line in separated]


def setup(app: Sphinx) -> None:
    """What Sphinx calls."""
    app.add_directive("markdown-docstring", MarkdownDocstring)
    app.add_directive("state-fields", StateFields)
    app.connect("autodoc-process-signature", shorten)
    app.connect("autodoc-process-docstring", refer)
    app.connect("autodoc-process-docstring", keep_colons, priority=100)  # before napoleon
    app.connect("autodoc-process-docstring", separate, priority=900)  # after napoleon
