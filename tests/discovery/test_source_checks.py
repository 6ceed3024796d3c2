"""Programs are held to their form before they run, whatever text they are."""

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
from autotts_gym.discovery.source_checks import BUILTINS, LARGEST, check, modules

PLAIN = """
def solve(episode, beta):
    for _ in range(int(1 + 9 * beta)):
        if episode.can_branch():
            episode.branch()
    episode.probe_all()
    return episode.answer()
"""


def test_programs_that_come_along_pass() -> None:
    for template in (Template.with_beta, Template.without_beta):
        assert check(scaffold.source(template, "made"), knob=template == Template.with_beta) == ""
    for name, program in variation.seed_programs().items():
        assert check(code_generation.generate_source(program, name)) == ""
    for name in names():
        assert check(find(name).read_text("utf-8"), knob=False) == ""


@pytest.mark.parametrize(
    "more",
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
def test_what_passes(more: str) -> None:
    assert check(more + "\n" + PLAIN) == ""


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("", "has no function solve(episode, beta)"),
        ("def solve(episode, beta):\n    return (", "line 2: is no Python"),
        ("def solve(episode, beta):\n    return beta\nreturn 3", "'return' outside function"),
        ("x = 1\0", "is no Python"),
        ("x = '\ud800'", "is no Python"),
        ("x = " + "(" * 3000 + ")" * 3000, "nested"),
        ("x = " + "-" * 20_000 + "1", "nested too deeply"),
        ("#" * (LARGEST + 1), f"{LARGEST} are the most"),
        ("solve = 3", "has no function solve"),
        (PLAIN + PLAIN, "line 9: solve is defined twice"),
        ("async def solve(episode, beta): pass", "no async"),
        ("def solve(episode, beta): yield beta", "no yield"),
        # One knob.
        ("def solve(episode): pass", "does not fit"),
        ("def solve(episode, knob): return knob", "does not fit"),
        ("def solve(episode, beta, width): return beta", "takes width besides"),
        ("def solve(episode, beta, width=8): return beta", "takes width besides"),
        ("def solve(episode, beta, *, a, b=1): return beta", "takes a, b besides"),
        ("def solve(episode, beta, *rest): return beta", "takes *rest besides"),
        ("def solve(episode, beta, **rest): return beta", "takes **rest besides"),
        ("def solve(episode, beta=0.5): return beta", "takes defaults besides"),
        ("def solve(episode, beta):\n    beta = 1\n    episode.answer()", "never uses beta"),
        # Nothing is kept, and nothing happens on the way in.
        ("kept = []\n" + PLAIN, "line 1: variables of the file must not change"),
        ("kept = {}\n" + PLAIN, "must not change"),
        ("kept = ([],)\n" + PLAIN, "must not change"),
        ("import numpy as np\nkept = np.zeros(3)\n" + PLAIN, "must be constants"),
        ("def f(kept=[]): pass\n" + PLAIN, "must not change"),
        ("def f(*, kept={}): pass\n" + PLAIN, "must not change"),
        ("def f():\n    global x\n    x = 1\n" + PLAIN, "line 2: no `global`"),
        ("def f():\n    f.kept = 1\n" + PLAIN, "nothing may be set on another object"),
        ("def f(): pass\nf()\n" + PLAIN, "line 2: only imports, constants"),
        ("if True: pass\n" + PLAIN, "not an `if`"),
        ("for i in (1, 2): pass\n" + PLAIN, "not a loop"),
        ("x = 1\nx += 1\n" + PLAIN, "not a change of a variable"),
        ("def f(x: print(1)): pass\n" + PLAIN, "annotations must be types"),
        ("def g(f): return f\n@g\ndef f(): pass\n" + PLAIN, "has a decorator"),
        ("class A:\n    kept = []\n" + PLAIN, "must be a NamedTuple"),
        (
            "from typing import NamedTuple\nclass A(NamedTuple):\n    a: int\n    b = []\n" + PLAIN,
            "must be a NamedTuple of fields",
        ),
        # Nothing else is reached.
        ("import os\n" + PLAIN, "line 1: os cannot be imported"),
        ("import numpy.random\n" + PLAIN, "numpy.random cannot be imported"),
        ("from . import x\n" + PLAIN, ". cannot be imported"),
        ("import autotts_gym.controllers.voting\n" + PLAIN, "write `from autotts_gym"),
        ("from autotts_gym.controllers.voting import np\n" + PLAIN, "offers beta_confidence"),
        ("from numpy import load\n" + PLAIN, "numpy.load may not be used"),
        ("from numpy import magic\n" + PLAIN, "numpy has no magic"),
        ("from math import *\n" + PLAIN, "math has no *"),
        ("def f():\n    import os\n" + PLAIN, "imports belong at the top"),
        ("import numpy as np\ndef f(): return np.random.rand()\n" + PLAIN, "no random numbers"),
        ("import numpy as np\ndef f(): return np.lib\n" + PLAIN, "numpy.lib may not be used"),
        ("import numpy as np\ndef f():\n    n = np\n    return n.load\n" + PLAIN, "is a module"),
        ("def f(): return open('x')\n" + PLAIN, "line 1: open may not be used"),
        ("def f(): return eval('1')\n" + PLAIN, "eval may not be used"),
        ("def f(a, b): return getattr(a, b)\n" + PLAIN, "getattr may not be used"),
        ("def f(): return __import__('os')\n" + PLAIN, "__import__ may not be used"),
        ("def f(): return hlper(1)\n" + PLAIN, "there is no hlper"),
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
def test_what_is_rejected(source: str, reason: str) -> None:
    assert reason in check(source)


def test_without_the_knob() -> None:
    assert check("def solve(episode): episode.answer()", knob=False) == ""
    assert check("def solve(episode, beta): episode.answer()", knob=False) == ""
    assert "takes a;" in check("def solve(episode, beta, a): pass", knob=False)
    assert "takes no episode" in check("def solve(): pass", knob=False)


def test_what_modules_offer_is_there() -> None:
    helpers = modules()["autotts_gym.controllers.helpers"]
    assert {"read", "vote", "leaders", "beta_confidence"} == helpers
    assert {"zeros", "int64", "argsort"} <= modules()["numpy"]
    assert not {"load", "random", "memmap"} & modules()["numpy"]
    assert not {"open", "eval", "type"} & BUILTINS


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(), st.text("def solve(episode,bta):\n .x=[]@1'\"\\", max_size=80)))
@example("\ufeff" + PLAIN)
def test_any_text_gives_a_reason_or_none(source: str) -> None:
    reason = check(source)
    assert isinstance(reason, str)
    if reason == "":
        compile(source, "made", "exec")


LINES = st.sampled_from(
    [line for name in names() for line in Path(find(name)).read_text("utf-8").splitlines()]
)


@settings(max_examples=200, deadline=None)
@given(st.lists(LINES, max_size=30))
def test_pieces_of_programs_give_a_reason_or_none(lines: list[str]) -> None:
    check("\n".join(lines))
    check(textwrap.dedent("\n".join(lines)), knob=False)
