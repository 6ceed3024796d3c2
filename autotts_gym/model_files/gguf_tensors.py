"""Reading tensors of a GGUF file as float32 arrays."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autotts_gym.model_files.gguf_header import GgufError, GgufHeader


def tensor_type(header: GgufHeader, name: str) -> Any:
    """Return the type of a tensor, a ``gguf.GGMLQuantizationType``.

    Raises:
        GgufError: the type is unknown.
    """
    from gguf import GGMLQuantizationType

    kind = header.tensors[name].kind
    try:
        return GGMLQuantizationType(kind)
    except ValueError:
        raise GgufError(f"{header.path}: tensor {name!r:.80} has the unknown type {kind}") from None


def tensor_bytes(header: GgufHeader, name: str) -> tuple[int, int]:
    """Return the number of rows of a tensor, and the size of a row in bytes.

    Raises:
        GgufError: the type is unknown, its blocks do not fill the rows, or the file is truncated.
    """
    from gguf import GGML_QUANT_SIZES

    tensor, kind = header.tensors[name], tensor_type(header, name)
    block, size = GGML_QUANT_SIZES[kind]
    *outer, length = tensor.shape
    if length % block:
        raise GgufError(
            f"{header.path}: tensor {name!r:.80} has rows of {length} values, and blocks of "
            f"{kind.name} have {block}"
        )
    rows, row_bytes = math.prod(outer), length // block * size
    end = tensor.offset + rows * row_bytes
    if end > header.size:
        raise GgufError(
            f"{header.path}: is truncated: tensor {name!r:.80} ends at byte {end:,}, and the file "
            f"has {header.size:,}"
        )
    return rows, row_bytes


def read_tensor(header: GgufHeader, name: str) -> NDArray[np.float32]:
    """Read a tensor, and unpack it if it is quantized.

    Returns:
        A float32 array of the tensor's shape.

    Raises:
        GgufError: as for :func:`tensor_bytes`, or the gguf package cannot unpack the type.
        OSError: the file cannot be read.
    """
    from gguf import dequantize

    rows, row_bytes = tensor_bytes(header, name)
    tensor, kind = header.tensors[name], tensor_type(header, name)
    packed = np.fromfile(header.path, np.uint8, rows * row_bytes, offset=tensor.offset)
    if packed.size < rows * row_bytes:
        raise GgufError(f"{header.path}: became shorter while it was read")
    try:
        values = dequantize(packed.reshape(rows, row_bytes), kind)
    except NotImplementedError:
        raise GgufError(
            f"{header.path}: tensor {name!r:.80} has the type {kind.name}, which the gguf package "
            "cannot unpack"
        ) from None
    return np.asarray(values, np.float32).reshape(tensor.shape)
