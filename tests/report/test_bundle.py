"""Bundling of the page's scripts."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from autotts_gym.report.bundle import bundle

MAIN = 'import { twice } from "./math.js";\nimport { show } from "./show.js";\n\nshow(twice(21));\n'
FILES = {
    "main.js": MAIN,
    "math.js": "const FACTOR = 2;\n\nexport function twice(x) {\n  return FACTOR * x;\n}\n",
    "show.js": 'import {\n  twice,\n} from "./math.js";\nconst FACTOR = 10;\n'
    "export const show = (x) => console.log(x + FACTOR + twice(1));\n",
}


def test_modules_keep_their_scopes() -> None:
    script = bundle("main.js", FILES.__getitem__)
    assert "import" not in script
    assert "export" not in script
    assert script.index('modules["math.js"] =') < script.index('modules["show.js"] =')
    assert script.count('modules["math.js"] =') == 1


@pytest.mark.skipif(not shutil.which("node"), reason="needs node")
def test_the_script_runs(tmp_path: Path) -> None:
    path = tmp_path / "script.js"
    path.write_text(bundle("main.js", FILES.__getitem__), "utf-8")
    done = subprocess.run(["node", path], capture_output=True, text=True, check=True)
    assert done.stdout == "54\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('import { main } from "./main.js";\n', "circular import: main.js -> a.js -> main.js"),
        ('import * as all from "./math.js";\n', r"a\.js: cannot bundle 'import \* as all"),
        ("export default 1;\n", r"a\.js: cannot bundle 'export default 1;'"),
        ("export let x = 1;\n", r"a\.js: cannot bundle 'export let x = 1;'"),
    ],
)
def test_errors(text: str, message: str) -> None:
    files = {"main.js": 'import { a } from "./a.js";\n', "a.js": text, "math.js": ""}
    with pytest.raises(ValueError, match=message):
        bundle("main.js", files.__getitem__)
