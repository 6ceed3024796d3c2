"""The HTML page: template, style, scripts and data in one text."""

from __future__ import annotations

import json
import re
from importlib import resources
from typing import Any

from autotts_gym.report.bundle import bundle


def render_page(data: dict[str, Any]) -> str:
    """Render the page of :func:`~autotts_gym.report.page_data.page_data`.

    The sources are in the folder ``web``; plotly.js comes from the plotly package. The page
    needs no network, and its content security policy forbids requests.
    """
    from plotly.offline import get_plotlyjs

    folder = resources.files("autotts_gym.report") / "web"

    def read(name: str) -> str:
        return (folder / name).read_text("utf-8")

    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    parts = {
        "css": read("report.css"),
        "plotly": get_plotlyjs(),
        # Without "<", it can neither end its script element nor start a comment.
        "data": text.replace("<", "\\u003c"),
        "js": bundle("main.js", read),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], read("template.html"))
