"""The HTML page: template, style, scripts and data in one text."""

from __future__ import annotations

import json
import re
from importlib import resources
from typing import Any

from autotts_gym.report.bundle import bundle


def render_page(data: dict[str, Any]) -> str:
    """Render the page of :func:`~autotts_gym.report.page_data.page_data`.

    plotly.js comes from the plotly package.
    """
    from plotly.offline import get_plotlyjs

    return assemble_page(data, "template.html", "main.js", plotly=get_plotlyjs())


def assemble_page(data: dict[str, Any], template: str, script: str, **parts: str) -> str:
    """Put a template, the style, a script with its imports, and data into one text.

    The page needs no network, and its content security policy forbids requests.

    Args:
        data: the content of the element ``data``, as JSON.
        template: an HTML file in the folder ``web``.
        script: the entry module in the folder ``web``.
        parts: further texts that the template names.
    """
    folder = resources.files("autotts_gym.report") / "web"

    def read(name: str) -> str:
        return (folder / name).read_text("utf-8")

    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    parts |= {
        "css": read("report.css"),
        # Without "<", it can neither end its script element nor start a comment.
        "data": text.replace("<", "\\u003c"),
        "js": bundle(script, read),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], read(template))
