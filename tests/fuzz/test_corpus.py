"""The fuzzing targets, on the corpus and on random bytes."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from fuzz_targets import TARGETS
from hypothesis import given, settings
from hypothesis import strategies as st

CORPUS = Path(__file__).parent / "corpus"


def test_every_target_has_a_corpus() -> None:
    assert {folder.name for folder in CORPUS.iterdir()} == set(TARGETS)
    assert all(list((CORPUS / name).iterdir()) for name in TARGETS)


@pytest.mark.parametrize("name", TARGETS)
def test_corpus(name: str) -> None:
    for file in sorted((CORPUS / name).iterdir()):
        start = time.process_time()
        TARGETS[name](file.read_bytes())
        assert time.process_time() - start < 10, file.name


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_random_bytes(name: str) -> None:
    files = [file.read_bytes() for file in sorted((CORPUS / name).iterdir())]

    @settings(max_examples=25, deadline=None)
    @given(st.sampled_from(files), st.integers(0, 10**6), st.binary(max_size=8), st.integers(0, 8))
    def mutated(content: bytes, place: int, new: bytes, cut: int) -> None:
        at = place % (len(content) + 1)
        start = time.process_time()
        TARGETS[name](content[:at] + new + content[at + cut :])
        assert time.process_time() - start < 10

    mutated()
