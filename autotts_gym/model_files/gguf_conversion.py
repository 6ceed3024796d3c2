"""``convert_gguf``: a GGUF file as a folder that vLLM and transformers load.

The weights are unpacked to ordinary floating point numbers. The result has the accuracy of the GGUF
file, quantization included, and the size of an unquantized model.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import math
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

import autotts_gym
from autotts_gym.model_files.gguf_architecture import (
    Weight,
    architecture_of,
    model_config,
    model_shape,
    model_weights,
)
from autotts_gym.model_files.gguf_header import GgufHeader, read_header
from autotts_gym.model_files.gguf_tensors import read_tensor, tensor_bytes, tensor_type
from autotts_gym.model_files.gguf_tokenizer import save_tokenizer
from autotts_gym.model_files.model_source import SOURCE, dump
from autotts_gym.utils.files import create_folder

if TYPE_CHECKING:
    import torch

#: Types of the converted weights. float32 keeps the values of the file exactly.
DTYPES: Final = {"float32": 4, "bfloat16": 2, "float16": 2}
#: Size above which the weights are split into several files, bytes; also bounds the memory used.
_SHARD: Final = 1 << 30


def convert_gguf(
    path: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    dtype: str = "float32",
    name: str | None = None,
    licence: str | None = None,
    url: str | None = None,
    shard_bytes: int = _SHARD,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> dict[str, Any]:
    """Convert a GGUF file to a folder with configuration, weights and tokenizer.

    Needs the extra ``gguf``. The folder is created atomically: an interrupted conversion leaves
    nothing.

    Args:
        path: the GGUF file.
        folder: the folder to create.
        dtype: ``float32``, ``bfloat16`` or ``float16``.
        name, licence, url: of the model, for ``source.json``; by default those of the file's
            header, if it has them.
        shard_bytes: size above which the weights are split into several files, bytes.
        progress: called with the number of weights that are written, and their total number.

    Returns:
        The content of ``source.json``.

    Raises:
        FileExistsError: the folder exists.
        GgufError: the file is damaged or truncated, or its architecture, its tokenizer or a
            quantization is not supported.
        ValueError: the type is unknown.
        OSError: the file cannot be read, or the folder cannot be written.
    """
    if dtype not in DTYPES:
        raise ValueError(f"unknown type {dtype!r}; the types are {', '.join(DTYPES)}")
    target = Path(folder)

    def check() -> None:
        if target.exists() or target.is_symlink():
            raise FileExistsError(f"{target} exists already; choose another folder, or remove it")

    check()
    header = read_header(path)
    architecture = architecture_of(header)
    shape = model_shape(header, architecture)
    config = model_config(header, architecture, shape, dtype)
    weights = model_weights(header, architecture, shape)
    for weight in weights.values():
        tensor_bytes(header, weight.source)
    with create_folder(target, check) as temporary:
        save_tokenizer(header, temporary)
        _write_json(temporary / "config.json", config)
        _write_json(temporary / "generation_config.json", _generation_config(header, config))
        _save_weights(header, weights, temporary, dtype, shard_bytes, progress)
        source = _describe(header, dtype, name, licence, url)
        (temporary / SOURCE).write_text(dump(source), "utf-8")
        for file in temporary.iterdir():
            file.chmod(0o644)  # safetensors writes files that only the owner can read
    return source


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", "utf-8")


def _generation_config(header: GgufHeader, config: dict[str, Any]) -> dict[str, Any]:
    """The tokens at which generation starts and ends."""
    ends = [header.get(f"tokenizer.ggml.{key}_token_id", int) for key in ("eos", "eot", "eom")]
    known = list(dict.fromkeys(end for end in ends if end is not None))
    content = {key: config[key] for key in ("bos_token_id", "pad_token_id")}
    return {**content, "eos_token_id": known or None}


def _save_weights(
    header: GgufHeader,
    weights: dict[str, Weight],
    folder: Path,
    dtype: str,
    shard_bytes: int,
    progress: Callable[[int, int], None],
) -> None:
    """Write the weights as safetensors; in several files with an index if they are large."""
    from safetensors.torch import save_file

    shards = _shards(weights, DTYPES[dtype], shard_bytes)
    index: dict[str, str] = {}
    done = 0
    progress(done, len(weights))
    for number, names in enumerate(shards, 1):
        part = f"-{number:05}-of-{len(shards):05}" if len(shards) > 1 else ""
        file = f"model{part}.safetensors"
        tensors = {}
        for name in names:
            tensors[name] = _convert_weight(header, weights[name], dtype)
            done += 1
            progress(done, len(weights))
        save_file(tensors, folder / file, metadata={"format": "pt"})
        index |= dict.fromkeys(names, file)
    if len(shards) > 1:
        total = sum(math.prod(weight.shape) for weight in weights.values()) * DTYPES[dtype]
        content = {"metadata": {"total_size": total}, "weight_map": index}
        _write_json(folder / "model.safetensors.index.json", content)


def _shards(weights: dict[str, Weight], size: int, limit: int) -> list[list[str]]:
    """Names of the weights of each file; a file exceeds the limit only with a single weight."""
    shards: list[list[str]] = [[]]
    used = 0
    for name, weight in weights.items():
        needed = math.prod(weight.shape) * size
        if used + needed > limit and shards[-1]:
            shards.append([])
            used = 0
        shards[-1].append(name)
        used += needed
    return shards


def _convert_weight(header: GgufHeader, weight: Weight, dtype: str) -> torch.Tensor:
    import torch

    values = read_tensor(header, weight.source)
    if weight.heads:
        values = restore_rows(values, weight.heads)
    return torch.from_numpy(np.ascontiguousarray(values)).to(getattr(torch, dtype))


def restore_rows(values: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Undo the order of rows that llama.cpp gives to query and key weights of Llama models.

    Args:
        values: shape (heads × head size, columns).
        heads: number of heads.
    """
    rows, columns = values.shape
    pairs = values.reshape(heads, rows // heads // 2, 2, columns)
    return pairs.swapaxes(1, 2).reshape(rows, columns)


def _describe(
    header: GgufHeader, dtype: str, name: str | None, licence: str | None, url: str | None
) -> dict[str, Any]:
    """The content of ``source.json``."""
    with header.path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    kinds = Counter(tensor_type(header, tensor).name for tensor in header.tensors)
    version = importlib.metadata.version("gguf")
    return {
        "name": name or header.get("general.name", str) or header.path.stem,
        "licence": licence or header.get("general.license", str),
        "url": url or header.get("general.source.url", str) or header.get("general.url", str),
        "file": header.path.name,
        "sha256": digest,
        "architecture": header.require("general.architecture", str),
        "tensors": dict(kinds.most_common()),
        "converted": f"unpacked to {dtype} by `autotts model from-gguf`",
        "converted_with": f"autotts_gym {autotts_gym.__version__}, gguf {version}",
    }
