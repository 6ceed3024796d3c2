"""Makes the helpers beside the tests importable, and the stores that many of them play."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from autotts_gym.controllers.loading import Agent

sys.path.insert(0, str(Path(__file__).parent))
os.environ["MPLBACKEND"] = "Agg"  # no test may open a window


@pytest.fixture(scope="session")
def two_stores(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Paths of two small stores: a deep one, and a shallow one with confidences and probe costs."""
    from autotts_gym.traces.store import TraceStore
    from autotts_gym.traces.synthetic import generate

    deep = generate(questions=3, branches=6, seed=1, interval=2000)
    shallow = generate(questions=4, branches=5, seed=2, interval=8000)
    count = shallow.card.probes
    tables = replace(
        shallow.tables,
        confidences=np.linspace(0, 1, count, dtype=np.float32),
        probe_tokens=np.arange(count, dtype=np.int32) % 50,
    )
    folder = tmp_path_factory.mktemp("stores")
    deep.save(folder / "deep")
    TraceStore.from_tables(tables, 8000).save(folder / "shallow")
    return [(folder / name).as_posix() for name in ("deep", "shallow")]


@pytest.fixture
def controller(tmp_path: Path) -> Callable[..., Agent]:
    """Writes a controller to a file, and loads it."""
    from autotts_gym.controllers.loading import load

    def write(text: str, name: str = "agent") -> Agent:
        path = tmp_path / f"{name}.py"
        path.write_text(text, "utf-8")
        return load(str(path))

    return write
