"""Programs as trees, as compiled code plays them, and as source."""

from __future__ import annotations

import ast
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autotts_gym.controllers.loader import load
from autotts_gym.discovery import program_tree as g
from autotts_gym.discovery import variation
from autotts_gym.discovery.objective import SearchSet
from autotts_gym.discovery.program_tree import (
    Constant,
    Node,
    Program,
    bare,
    from_json,
    simplified,
    source,
    to_json,
)
from autotts_gym.discovery.tree_rollout import Engine
from autotts_gym.mdp.trace_dataset import EpisodeConfig
from autotts_gym.rollout.rollout import Rollout
from autotts_gym.traces.store import TraceStore
from autotts_gym.traces.synthetic_traces import generate

N = 12


@pytest.fixture(scope="module")
def store() -> TraceStore:
    return generate(questions=8, branches=N, seed=5)


@pytest.fixture(scope="module")
def engine(store: TraceStore) -> Engine:
    return Engine(SearchSet({"made": store}, terms=EpisodeConfig(N)))


def bred(seed: int) -> Program:
    """One of those that a search begins with, after a few changes."""
    rng = np.random.default_rng(seed)
    programs = list(variation.seeds().values())
    program = programs[rng.integers(len(programs))]
    while True:
        for _ in range(6):
            program = variation.mutated(program, rng)
            if rng.random() < 0.4:
                other = programs[rng.integers(len(programs))]
                program = variation.crossed(program, other, rng)
        if variation.fits(program):
            return program


def episodes(count: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    questions = np.arange(count) % 8
    return questions, np.array([rng.permutation(N) for _ in questions])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_source_plays_the_episodes_of_the_tree(
    tmp_path_factory: pytest.TempPathFactory, store: TraceStore, engine: Engine, seed: int
) -> None:
    """Action by action, as plain Python."""
    program = bred(seed)
    file = tmp_path_factory.mktemp("found") / "program.py"
    file.write_text(source(program, "A program."), "utf-8")
    written = Rollout(load(str(file)), store, EpisodeConfig(N), interpret=True)
    questions, orders = episodes(6)
    for beta in (0.0, 0.37, 1.0):
        tree = engine.play(program, 0, questions, orders, beta)
        plain = written.play(questions, orders, beta)
        assert not tree.failures
        assert not plain.failures
        assert tree.answers == plain.answers
        for column in ("correct", "tokens", "sequential_tokens", "actions", "probes"):
            assert np.array_equal(getattr(tree, column), getattr(plain, column)), column


@pytest.mark.parametrize("name", variation.seeds())
def test_source_compiles(tmp_path: Path, store: TraceStore, engine: Engine, name: str) -> None:
    program = variation.seeds()[name]
    (tmp_path / "program.py").write_text(source(program, "A program.", "Lineage."), "utf-8")
    written = Rollout(load(str(tmp_path / "program.py")), store, EpisodeConfig(N))
    assert written.path == "compiled"
    questions, orders = episodes(200)
    for beta in (0.0, 0.5, 1.0):
        tree = engine.play(program, 0, questions, orders, beta)
        again = written.play(questions, orders, beta)
        assert np.array_equal(tree.tokens, again.tokens)
        assert np.array_equal(tree.actions, again.actions)


@pytest.mark.parametrize(
    "terms",
    [EpisodeConfig(N, budget=40_000), EpisodeConfig(5), EpisodeConfig(N, billing="interval")],
)
def test_plays_under_other_terms(store: TraceStore, terms: EpisodeConfig) -> None:
    engine = Engine(SearchSet({"made": store}, terms=terms))
    questions, orders = episodes(20)
    for program in variation.seeds().values():
        played = engine.play(program, 0, questions, orders[:, : terms.max_branches], 0.8)
        assert not played.failures


@given(st.integers(0, 2**32))
def test_simplifying_settles(seed: int) -> None:
    program = bred(seed)
    simple = simplified(program)
    assert simple.size <= program.size
    assert simplified(simple) == simple
    for beta in np.linspace(0, 1, 11):
        assert max(1, int(simple.stride.at(beta))) == max(1, int(program.stride.at(beta)))


def test_what_is_constant_is_worked_out() -> None:
    def simple(node: Node) -> Node:
        return simplified(replace(variation.seeds()["adaptive"], stop=node)).stop

    two, line, share = Node(Constant(2.0)), Node(Constant(1.0, 3.0)), Node("share")
    assert simple(Node(g.ADD, (two, line))) == Node(Constant(3.0, 3.0))
    assert simple(Node(g.SUB, (two, line))) == Node(Constant(1.0, -3.0))
    assert simple(Node(g.MUL, (two, line))) == Node(Constant(2.0, 6.0))
    assert simple(Node(g.MAX, (Node(Constant(4.0)), line))) == Node(Constant(4.0))
    assert simple(Node(g.MIN, (Node(g.ADD, (two, two)), line))) == line
    narrow = replace(variation.seeds()["adaptive"], width=Node(Constant(0.5, 0.3)))
    assert bare(narrow).width == Node(Constant(1.0))  # one branch is always read
    flat = replace(variation.seeds()["adaptive"], weight=line)
    assert bare(flat).weight == Node(Constant(1.0))
    assert bare(variation.seeds()["fading"]) == variation.seeds()["fading"]
    for kept in (Node(g.MUL, (line, line)), Node(g.MAX, (two, line)), Node(g.ADD, (two, share))):
        assert simple(kept) == kept


def test_written_as_people_would() -> None:
    """No more parentheses than the order of operations needs, nothing that is not used."""
    c = [Node(Constant(float(k))) for k in range(4)]
    share, margin = Node("share"), Node("margin")
    stop = Node(
        g.SUB,
        (
            Node(g.ADD, (margin, Node(g.MUL, (c[1], share)))),
            Node(g.SUB, (c[2], Node(g.OVER, (Node(g.ADD, (c[3], share)), margin)))),
        ),
    )
    program = replace(variation.seeds()["adaptive"], stop=stop)
    text = source(program, "A program.")
    assert "and margin + stop_1 * share > stop_2 - (stop_3 + share) / (1.0 + abs(margin)):" in text
    assert "math" not in text
    assert "votes" not in text
    assert "depth > drop_1" in text
    assert "    stride = 4\n" in text


@given(st.integers(0, 2**32))
def test_kept_and_read(seed: int) -> None:
    program = bred(seed)
    assert from_json(json.loads(json.dumps(to_json(program)))) == program
    assert program.refilled(program.constants) == program
    code = program.code()
    assert code.shape == (len(g.SLOTS), g.LONGEST + 1)
    assert (code[:, -1] == g.END).all()
    ast.parse(source(program, "A program."))


def test_source_imports_what_it_may() -> None:
    """And has one knob."""
    tree = ast.parse(source(variation.seeds()["fading"], "A program."))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    assert {alias.name for node in imports for alias in node.names} == {"math", "numpy"}
    (solve,) = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    assert [argument.arg for argument in solve.args.args] == ["episode", "beta"]


def test_order_of_operations() -> None:
    """Parentheses stand where the tree has them."""
    one, two = Node(Constant(3.0)), Node("votes")
    tree = Node(g.SUB, (one, Node(g.SUB, (two, Node(g.MUL, (one, Node(g.MUL, (two, one))))))))
    assert g._written(tree, "stop", [])[0] == ("stop_1 - (votes - stop_2 * (votes * stop_3))")
    flat = Node(g.ADD, (Node(g.MUL, (Node(g.ADD, (one, two)), one)), Node(g.OVER, (two, two))))
    assert g._written(flat, "stop", [])[0] == (
        "(stop_1 + votes) * stop_2 + votes / (1.0 + abs(votes))"
    )


@pytest.mark.parametrize(
    ("slot", "given_", "message"),
    [
        ("stop", "depth", "stop holds 'depth', which is no tree"),
        ("weight", {"add": ["depth"]}, "weight holds"),
        ("drop", {"pow": ["depth", "depth"]}, "drop holds"),
        ("width", None, "width holds None"),
        ("stride", 3, "is no program"),
    ],
)
def test_what_is_no_program_is_refused(slot: str, given_: object, message: str) -> None:
    plain = to_json(variation.seeds()["adaptive"])
    plain[slot] = given_
    with pytest.raises(ValueError, match=message):
        from_json(plain)
