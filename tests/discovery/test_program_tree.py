"""Typed trees: compiled rollouts, code generation, simplification and serialization."""

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
from autotts_gym.discovery import code_generation, variation
from autotts_gym.discovery import program_tree as pt
from autotts_gym.discovery.code_generation import generate_source
from autotts_gym.discovery.objective import SearchSet
from autotts_gym.discovery.program_tree import (
    Constant,
    Node,
    Program,
    from_json,
    normalize_constants,
    simplify,
    to_json,
)
from autotts_gym.discovery.tree_rollout import TreeRollout
from autotts_gym.mdp.trace_dataset import EpisodeConfig
from autotts_gym.rollout.rollout import Rollout
from autotts_gym.traces.store import TraceStore
from autotts_gym.traces.synthetic_traces import generate

N = 12


@pytest.fixture(scope="module")
def store() -> TraceStore:
    return generate(questions=8, branches=N, seed=5)


@pytest.fixture(scope="module")
def rollout(store: TraceStore) -> TreeRollout:
    return TreeRollout(SearchSet({"made": store}, config=EpisodeConfig(N)))


def evolved(seed: int) -> Program:
    """A seed program after a few variations."""
    rng = np.random.default_rng(seed)
    programs = list(variation.seed_programs().values())
    program = programs[rng.integers(len(programs))]
    while True:
        for _ in range(6):
            program = variation.mutate(program, rng)
            if rng.random() < 0.4:
                other = programs[rng.integers(len(programs))]
                program = variation.crossover(program, other, rng)
        if variation.within_limits(program):
            return program


def episodes(count: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    questions = np.arange(count) % 8
    return questions, np.array([rng.permutation(N) for _ in questions])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_source_plays_the_same_episodes_as_the_tree(
    tmp_path_factory: pytest.TempPathFactory, store: TraceStore, rollout: TreeRollout, seed: int
) -> None:
    """Compared action by action, with the source as plain Python."""
    program = evolved(seed)
    if seed % 2:  # a constant that depends on the weight of latency
        first, *others = program.constants
        program = program.with_constants([replace(first, tilt=0.7 * first.base), *others])
    file = tmp_path_factory.mktemp("generated") / "program.py"
    file.write_text(generate_source(program, "A program."), "utf-8")
    config = EpisodeConfig(N, latency_weight=0.5)
    generated = Rollout(load(str(file)), store, config, interpret=True)
    questions, orders = episodes(6)
    for beta in (0.0, 0.37, 1.0):
        tree = rollout.play(program, 0, questions, orders, beta, 0.5)
        plain = generated.play(questions, orders, beta)
        assert not tree.failures
        assert not plain.failures
        assert tree.answers == plain.answers
        for column in ("correct", "tokens", "sequential_tokens", "actions", "probes"):
            assert np.array_equal(getattr(tree, column), getattr(plain, column)), column


@pytest.mark.slow
@pytest.mark.parametrize("name", variation.seed_programs())
def test_source_compiles(
    tmp_path: Path, store: TraceStore, rollout: TreeRollout, name: str
) -> None:
    program = variation.seed_programs()[name]
    (tmp_path / "program.py").write_text(
        generate_source(program, "A program.", "Lineage."), "utf-8"
    )
    generated = Rollout(load(str(tmp_path / "program.py")), store, EpisodeConfig(N))
    assert generated.path == "compiled"
    questions, orders = episodes(200)
    for beta in (0.0, 0.5, 1.0):
        tree = rollout.play(program, 0, questions, orders, beta)
        again = generated.play(questions, orders, beta)
        assert np.array_equal(tree.tokens, again.tokens)
        assert np.array_equal(tree.actions, again.actions)


@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    [EpisodeConfig(N, budget=40_000), EpisodeConfig(5), EpisodeConfig(N, billing="interval")],
)
def test_plays_with_other_configs(store: TraceStore, config: EpisodeConfig) -> None:
    rollout = TreeRollout(SearchSet({"made": store}, config=config))
    questions, orders = episodes(20)
    for program in variation.seed_programs().values():
        played = rollout.play(program, 0, questions, orders[:, : config.max_branches], 0.8)
        assert not played.failures


@given(st.integers(0, 2**32))
def test_simplification_is_idempotent(seed: int) -> None:
    program = evolved(seed)
    simple = simplify(program)
    assert simple.size <= program.size
    assert simplify(simple) == simple
    for beta in np.linspace(0, 1, 11):
        assert max(1, int(simple.stride.at(beta))) == max(1, int(program.stride.at(beta)))
    tilted = replace(program, stride=Constant(2.0, 0.0, 0.5))
    assert simplify(tilted).stride == Constant(2.0)
    assert simplify(replace(tilted, stride=Constant(2.0, 0.5, 0.5))).stride.tilt == 0.5


def test_constant_folding() -> None:
    def simple(node: Node) -> Node:
        return simplify(replace(variation.seed_programs()["adaptive"], stop=node)).stop

    two, line, share = Node(Constant(2.0)), Node(Constant(1.0, 3.0)), Node("share")
    assert simple(Node(pt.ADD, (two, line))) == Node(Constant(3.0, 3.0))
    assert simple(Node(pt.SUB, (two, line))) == Node(Constant(1.0, -3.0))
    assert simple(Node(pt.MUL, (two, line))) == Node(Constant(2.0, 6.0))
    both = Node(Constant(1.0, 3.0, -2.0))
    assert simple(Node(pt.SUB, (line, both))) == Node(Constant(0.0, 0.0, 2.0))
    assert simple(Node(pt.MUL, (both, two))) == Node(Constant(2.0, 6.0, -4.0))
    assert simple(Node(pt.MIN, (both, line))) == both
    assert simple(Node(pt.MAX, (Node(Constant(4.0)), line))) == Node(Constant(4.0))
    assert simple(Node(pt.MIN, (Node(pt.ADD, (two, two)), line))) == line
    narrow = replace(variation.seed_programs()["adaptive"], width=Node(Constant(0.5, 0.3)))
    # At least one branch always runs.
    assert normalize_constants(narrow).width == Node(Constant(1.0))
    flat = replace(variation.seed_programs()["adaptive"], weight=line)
    assert normalize_constants(flat).weight == Node(Constant(1.0))
    fading = variation.seed_programs()["fading"]
    assert normalize_constants(fading) == fading
    for kept in (Node(pt.MUL, (line, line)), Node(pt.MAX, (two, line)), Node(pt.ADD, (two, share))):
        assert simple(kept) == kept


def test_generated_source_is_readable() -> None:
    """The source has only necessary parentheses and no unused lines."""
    c = [Node(Constant(float(k))) for k in range(4)]
    share, margin = Node("share"), Node("margin")
    stop = Node(
        pt.SUB,
        (
            Node(pt.ADD, (margin, Node(pt.MUL, (c[1], share)))),
            Node(pt.SUB, (c[2], Node(pt.OVER, (Node(pt.ADD, (c[3], share)), margin)))),
        ),
    )
    program = replace(variation.seed_programs()["adaptive"], stop=stop)
    text = generate_source(program, "A program.")
    assert "and margin + stop_1 * share > stop_2 - (stop_3 + share) / (1.0 + abs(margin)):" in text
    assert "math" not in text
    assert "votes" not in text
    assert "depth > drop_1" in text
    assert "    stride = 4\n" in text


@given(st.integers(0, 2**32))
def test_serialization(seed: int) -> None:
    program = evolved(seed)
    plain = to_json(program)
    assert from_json(json.loads(json.dumps(plain))) == program
    assert len(plain["stride"]) == 2  # as in journals of version 0.1.0
    tilted = replace(program, stride=Constant(1.0, 2.0, 3.0))
    assert from_json(to_json(tilted)) == tilted
    assert program.with_constants(program.constants) == program
    code = program.code()
    assert code.shape == (len(pt.SLOTS), pt.MAX_CODE + 1)
    assert (code[:, -1] == pt.END).all()
    ast.parse(generate_source(program, "A program."))


def test_constants_in_source() -> None:
    constants = [
        Constant(1.0), Constant(0.5, -2.0), Constant(0.0, 3.0, 1.0), Constant(0.0, 0.0, -1.5),
        Constant(2.0, 0.0, 0.25),
    ]  # fmt: skip
    program = seed_programs_with(constants)
    text = generate_source(program, "A program.")
    assert "    latency = episode.latency_weight\n    weight_1 = 1.0\n" in text
    assert "    drop_1 = 0.5 - 2.0 * beta\n" in text
    assert "    stop_1 = 3.0 * beta + 1.0 * latency\n" in text
    assert "    width_1 = -1.5 * latency\n" in text
    assert "    stride = 2.0 + 0.25 * latency\n" in text
    assert "range(max(1, int(stride)))" in text
    assert "latency" not in generate_source(variation.seed_programs()["early"], "A program.")


def seed_programs_with(constants: list[Constant]) -> Program:
    """The seed program ``early`` with other constants."""
    return variation.seed_programs()["early"].with_constants(constants)


def test_source_of_relative_features() -> None:
    text = generate_source(variation.seed_programs()["widening"], "A program.")
    assert "length > drop_1 - drop_2 * math.log1p(max(votes, 0.0))" in text
    assert "depth = " not in text
    assert "work = episode.spent / episode.mean_tokens" in text


def test_source_has_allowed_imports_and_one_knob() -> None:
    tree = ast.parse(generate_source(variation.seed_programs()["fading"], "A program."))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    assert {alias.name for node in imports for alias in node.names} == {"math", "numpy"}
    (solve,) = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    assert [argument.arg for argument in solve.args.args] == ["episode", "beta"]


def test_order_of_operations() -> None:
    """Parentheses preserve the order of the tree."""
    one, two = Node(Constant(3.0)), Node("votes")
    tree = Node(pt.SUB, (one, Node(pt.SUB, (two, Node(pt.MUL, (one, Node(pt.MUL, (two, one))))))))
    assert code_generation._expression(tree, "stop", [])[0] == (
        "stop_1 - (votes - stop_2 * (votes * stop_3))"
    )
    flat = Node(pt.ADD, (Node(pt.MUL, (Node(pt.ADD, (one, two)), one)), Node(pt.OVER, (two, two))))
    assert code_generation._expression(flat, "stop", [])[0] == (
        "(stop_1 + votes) * stop_2 + votes / (1.0 + abs(votes))"
    )


@pytest.mark.parametrize(
    ("slot", "value", "message"),
    [
        ("stop", "depth", "stop has 'depth', which is not a valid tree"),
        ("weight", {"add": ["depth"]}, "weight has"),
        ("drop", {"pow": ["depth", "depth"]}, "drop has"),
        ("width", None, "width has None"),
        ("stride", 3, "is not a valid program"),
    ],
)
def test_invalid_values_are_rejected(slot: str, value: object, message: str) -> None:
    plain = to_json(variation.seed_programs()["adaptive"])
    plain[slot] = value
    with pytest.raises(ValueError, match=message):
        from_json(plain)
