"""The number format by the flags of the processor."""

from __future__ import annotations

from pathlib import Path

import pytest

from autotts_gym.inference import processor_dtype as module


@pytest.mark.parametrize(
    ("text", "has"),
    [
        ("processor\t: 0\nflags\t\t: fpu sse2 avx2 avx512f\n", False),
        ("flags\t\t: fpu avx512f avx512_bf16\n", True),
        ("flags\t\t: fpu amx_bf16 amx_tile\n", True),
        ("Features\t: fp asimd i8mm bf16\n", True),
        ("Features\t: fp asimd i8mm\n", False),
        ("processor\t: 0\n", True),
    ],
)
def test_flags(tmp_path: Path, text: str, has: bool) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text(text, "utf-8")
    assert module.has_bfloat16(file) is has


def test_an_unknown_processor(tmp_path: Path) -> None:
    assert module.has_bfloat16(tmp_path / "missing")


@pytest.mark.parametrize(("has", "dtype"), [(True, "bfloat16"), (False, "float32")])
def test_dtype(monkeypatch: pytest.MonkeyPatch, has: bool, dtype: str) -> None:
    monkeypatch.setattr(module, "has_bfloat16", lambda: has)
    assert module.processor_dtype() == dtype
    monkeypatch.setattr(module, "vllm_runs_on_processor", lambda: True)
    assert module.default_dtype() == ({} if has else {"dtype": "float32"})
    monkeypatch.setattr(module, "vllm_runs_on_processor", lambda: False)
    assert module.default_dtype() == {}
