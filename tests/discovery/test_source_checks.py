"""Tests of the source checks: accepted programs, rejected programs, and arbitrary text."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from autotts_gym.controllers import scaffold
from autotts_gym.controllers.loader import find, names
from autotts_gym.controllers.scaffold import Template
from autotts_gym.discovery import code_generation, variation
from autotts_gym.discovery.source_checks import check
from autotts_gym.discovery.source_rules import (
    ALLOWED_BUILTINS,
    MAX_SOURCE_SIZE,
    allowed_modules,
)

PLAIN = """
def solve(episode, beta):
    for _ in range(int(1 + 9 * beta)):
        if episode.can_branch():
            episode.branch()
    episode.probe_all()
    return episode.answer()
"""


def test_bundled_programs_are_accepted() -> None:
    for template in (Template.with_beta, Template.without_beta):
        assert check(scaffold.source(template, "made"), knob=template == Template.with_beta) == ""
    for name, program in variation.seed_programs().items():
        assert check(code_generation.generate_source(program, name)) == ""
    for name in names():
        assert check(find(name).read_text("utf-8"), knob=False) == ""


@pytest.mark.parametrize(
    "definitions",
    [
        "import math\nX = math.pi / math.log(2)",
        "import numpy as np\nX: float = np.inf",
        "from math import exp, log",
        "from numpy import int64",
        "from typing import NamedTuple\nclass Plan(NamedTuple):\n    a: int\n    b: float = 2.0",
        "from autotts_gym.controllers.helpers import read",
        "from autotts_gym.controllers.reading import read",
        "from autotts_gym.controllers.voting import leaders, vote",
        "X = (1, 2.5, (3, -4))\nY, Z = X[0], max(1, 2)",
        "def helper(a, *, b=(1, 2)):\n    def inner():\n        return a\n    return inner()",
        "def helper(a):\n    match a:\n        case 1 | 2:\n            return [i for i in a]",
        "def helper(id):\n    input = id\n    return input",
    ],
)
def test_accepted(definitions: str) -> None:
    assert check(definitions + "\n" + PLAIN) == ""


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("", "no function solve(episode, beta)"),
        ("def solve(episode, beta):\n    return (", "line 2: not valid Python"),
        ("def solve(episode, beta):\n    return beta\nreturn 3", "'return' outside function"),
        ("x = 1\0", "not valid Python"),
        ("x = '\ud800'", "not valid Python"),
        ("x = " + "(" * 3000 + ")" * 3000, "nested"),
        ("x = " + "-" * 20_000 + "1", "nested too deeply"),
        ("#" * (MAX_SOURCE_SIZE + 1), f"the maximum is {MAX_SOURCE_SIZE}"),
        ("solve = 3", "has no function solve"),
        (PLAIN + PLAIN, "line 9: solve is defined twice"),
        ("async def solve(episode, beta): pass", "async functions are not allowed"),
        ("def solve(episode, beta): yield beta", "yield, await and async are not allowed"),
        # β is the only parameter that controls spending.
        ("def solve(episode): pass", "the signature solve(episode) must be"),
        ("def solve(episode, knob): return knob", "solve(episode, knob) must be"),
        ("def solve(episode, beta, width): return beta", "extra parameters: width;"),
        ("def solve(episode, beta, width=8): return beta", "extra parameters: width;"),
        ("def solve(episode, beta, *, a, b=1): return beta", "extra parameters: a, b;"),
        ("def solve(episode, beta, *rest): return beta", "extra parameters: *rest;"),
        ("def solve(episode, beta, **rest): return beta", "extra parameters: **rest;"),
        ("def solve(episode, beta=0.5): return beta", "solve has default values;"),
        ("def solve(episode, beta):\n    beta = 1\n    episode.answer()", "never uses beta"),
        # No state between episodes, and no code at the top level.
        ("kept = []\n" + PLAIN, "line 1: module-level variables must not change"),
        ("kept = {}\n" + PLAIN, "must not change"),
        ("kept = ([],)\n" + PLAIN, "must not change"),
        ("import numpy as np\nkept = np.zeros(3)\n" + PLAIN, "must be constants"),
        ("def f(kept=[]): pass\n" + PLAIN, "must not change"),
        ("def f(*, kept={}): pass\n" + PLAIN, "must not change"),
        ("def f():\n    global x\n    x = 1\n" + PLAIN, "line 2: `global` is not allowed"),
        ("def f():\n    f.kept = 1\n" + PLAIN, "attributes must not be assigned or deleted: .kept"),
        ("def f(): pass\nf()\n" + PLAIN, "line 2: only imports, constants"),
        ("if True: pass\n" + PLAIN, "not an `if`"),
        ("for i in (1, 2): pass\n" + PLAIN, "not a loop"),
        ("x = 1\nx += 1\n" + PLAIN, "not an augmented assignment"),
        ("def f(x: print(1)): pass\n" + PLAIN, "annotations must be types"),
        ("def g(f): return f\n@g\ndef f(): pass\n" + PLAIN, "has a decorator"),
        ("class A:\n    kept = []\n" + PLAIN, "must be a NamedTuple"),
        (
            "from typing import NamedTuple\nclass A(NamedTuple):\n    a: int\n    b = []\n" + PLAIN,
            "must be a NamedTuple with fields",
        ),
        # No access to anything else.
        ("import os\n" + PLAIN, "line 1: os may not be imported"),
        ("import numpy.random\n" + PLAIN, "numpy.random may not be imported"),
        ("from . import x\n" + PLAIN, ". may not be imported"),
        ("import autotts_gym.controllers.voting\n" + PLAIN, "write `from autotts_gym"),
        ("from autotts_gym.controllers.voting import np\n" + PLAIN, "helpers.np may not be used"),
        ("from numpy import load\n" + PLAIN, "numpy.load may not be used"),
        ("from numpy import magic\n" + PLAIN, "numpy has no attribute magic"),
        ("from math import *\n" + PLAIN, "math has no attribute *"),
        ("def f():\n    import os\n" + PLAIN, "imports are only allowed at the top level"),
        (
            "import numpy as np\ndef f(): return np.random.rand()\n" + PLAIN,
            "random numbers may not be used",
        ),
        ("import numpy as np\ndef f(): return np.lib\n" + PLAIN, "numpy.lib may not be used"),
        (
            "import numpy as np\ndef f():\n    n = np\n    return n.load\n" + PLAIN,
            "the module np may only",
        ),
        ("def f(): return open('x')\n" + PLAIN, "line 1: open may not be used"),
        ("def f(): return eval('1')\n" + PLAIN, "eval may not be used"),
        ("def f(a, b): return getattr(a, b)\n" + PLAIN, "getattr may not be used"),
        ("def f(): return __import__('os')\n" + PLAIN, "__import__ may not be used"),
        ("def f(): return hlper(1)\n" + PLAIN, "hlper is not defined"),
        ("def f(a): return a.__class__\n" + PLAIN, "begin with __"),
        ("def f(a):\n    match a:\n        case f(__class__=x): pass\n" + PLAIN, "begin with __"),
        ("def f(__a): pass\n" + PLAIN, "begin with __"),
        ("def f(e): return e._env\n" + PLAIN, "._env may not be used"),
        ("def f(e): return e.log[0]\n" + PLAIN, ".log may not be used"),
        ("def f(a):\n    match a:\n        case f(facts=x): pass\n" + PLAIN, ".facts may not be"),
        ("def f(e): return e.facts\n" + PLAIN, ".facts may not be used"),
        ("def f(a): return '{0.x}'.format(a)\n" + PLAIN, ".format may not be used"),
    ],
)
def test_rejected(source: str, reason: str) -> None:
    assert reason in check(source)


def test_without_knob() -> None:
    assert check("def solve(episode): episode.answer()", knob=False) == ""
    assert check("def solve(episode, beta): episode.answer()", knob=False) == ""
    assert "extra parameters: a;" in check("def solve(episode, beta, a): pass", knob=False)
    assert "has no parameter episode" in check("def solve(): pass", knob=False)


def test_allowed_modules_and_builtins() -> None:
    helpers = allowed_modules()["autotts_gym.controllers.helpers"]
    assert {"read", "vote", "leaders", "beta_confidence", "open_branches"} <= helpers
    assert not {"np", "comb", "Episode"} & helpers
    regression = allowed_modules()["autotts_gym.controllers.logistic_regression"]
    assert regression == {"fit_calibrated", "probability"}
    assert allowed_modules()["autotts_gym.controllers.margin_stopping"] == {"stop_by_margin"}
    assert {"zeros", "int64", "argsort"} <= allowed_modules()["numpy"]
    assert not {"load", "random", "memmap"} & allowed_modules()["numpy"]
    assert not {"open", "eval", "type"} & ALLOWED_BUILTINS


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(), st.text("def solve(episode,bta):\n .x=[]@1'\"\\", max_size=80)))
@example("\ufeff" + PLAIN)
def test_arbitrary_text(source: str) -> None:
    reason = check(source)
    assert isinstance(reason, str)
    if reason == "":
        compile(source, "made", "exec")


LINES = st.sampled_from(
    [line for name in names() for line in Path(find(name)).read_text("utf-8").splitlines()]
)


@settings(max_examples=200, deadline=None)
@given(st.lists(LINES, max_size=30))
def test_lines_of_programs(lines: list[str]) -> None:
    check("\n".join(lines))
    check(textwrap.dedent("\n".join(lines)), knob=False)
