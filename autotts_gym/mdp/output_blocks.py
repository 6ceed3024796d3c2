"""Copies of the arrays of many episodes, in few blocks of memory.

An environment returns copies of its arrays in every step. Memory for each of them, and calls to
copy them one by one, take as long as playing the actions; here, one compiled call copies all of
them, for all episodes or for some.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Annotated, Any, Final, NamedTuple

import numpy as np
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from autotts_gym.mdp.jit import entry_point
from autotts_gym.mdp.packed_arrays import Axes, pack
from autotts_gym.mdp.slices import Program, bound, operation

#: Arrays begin at multiples of this number of bytes.
_ALIGNMENT: Final = 64
#: A block is closed once it has this number of bytes: the allocator returns larger ones to the
#: operating system at once, and new memory is slow.
_BLOCK_SIZE: Final = 4 * 2**20

# Columns of a plan.
_SOURCE: Final = 0  # address of the first row
_STRIDE: Final = 1  # bytes from one row to the next one
_SIZE: Final = 2  # bytes of a row
_OFFSET: Final = 3  # place in the block
_BLOCK: Final = 4  # number of the block

#: Blocks of memory, uint8 each.
Blocks = list[NDArray[np.uint8]]


@intrinsic
def _copy_bytes(typingctx: Any, target: Any, source: Any, size: Any) -> Any:
    """Copy ``size`` bytes from one address to another."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = context.get_value_type(types.voidptr)
        target, source = (builder.inttoptr(address, pointer) for address in args[:2])
        cgutils.raw_memcpy(builder, target, source, args[2], 1)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), build


class CopyArrays(NamedTuple):
    """What a copy of arrays needs to know.

    Attributes:
        plan: int64[K, 5], a row per array, see the columns above.
        targets: int64[B], the addresses of the blocks.
    """

    plan: Annotated[NDArray[np.int64], Axes(np.int64, 2)]
    targets: Annotated[NDArray[np.int64], Axes(np.int64, 1)]


@operation(CopyArrays)
def _copy_range(arrays, first, last, thread):
    plan = arrays.plan
    for k in range(plan.shape[0]):
        stride, size = plan[k, _STRIDE], plan[k, _SIZE]
        source = plan[k, _SOURCE] + first * stride
        target = arrays.targets[plan[k, _BLOCK]] + plan[k, _OFFSET] + first * size
        if stride == size:
            _copy_bytes(target, source, (last - first) * size)
            continue
        for row in range(last - first):
            _copy_bytes(target + row * size, source + row * stride, size)
    return 0


@entry_point(packed=CopyArrays)
def _copy_rows(arrays, rows):
    plan = arrays.plan
    for k in range(plan.shape[0]):
        stride, size = plan[k, _STRIDE], plan[k, _SIZE]
        start = arrays.targets[plan[k, _BLOCK]] + plan[k, _OFFSET]
        for e in rows:
            _copy_bytes(start + e * size, plan[k, _SOURCE] + e * stride, size)


@entry_point()
def _address(block):
    return block.ctypes.data


@entry_point()
def _gather_rows(plan, block, rows):
    target = block.ctypes.data
    for e in rows:
        for k in range(plan.shape[0]):
            source = plan[k, _SOURCE] + e * plan[k, _STRIDE]
            _copy_bytes(target + plan[k, _OFFSET], source, plan[k, _SIZE])
        target += block.shape[1]


class _Group(NamedTuple):
    """Copies of the same dtype and shape, one after the other in a block.

    Attributes:
        keys: of the copies.
        block: number of the block.
        offset: of the first copy, bytes.
        shape: of each copy, without its axis of episodes.
        dtype: of each copy.
    """

    keys: list[str]
    block: int
    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


class OutputBlocks:
    """The layout of copies of some arrays.

    Args:
        arrays: arrays by key, with a first axis of episodes; the values of an episode are
            contiguous.
    """

    def __init__(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        self._arrays = arrays
        self._episodes = len(next(iter(arrays.values())))
        self._sizes: list[int] = []
        self._groups: list[_Group] = []
        plan: list[tuple[int, ...]] = []
        # Arrays of a group are one array with an axis more, whose parts are faster to make.
        kinds: dict[Any, list[str]] = {}
        for key, array in arrays.items():
            if not array[0].flags.c_contiguous:
                raise ValueError(f"the values of an episode in {key!r} must be contiguous")
            alone = key if array.nbytes >= _BLOCK_SIZE else ""
            kinds.setdefault((array.shape[1:], array.dtype, alone), []).append(key)
        for (shape, dtype, _), keys in kinds.items():
            size = math.prod(shape) * dtype.itemsize
            nbytes = len(keys) * size * self._episodes
            if not self._sizes or self._sizes[-1] + nbytes > _BLOCK_SIZE:
                self._sizes.append(0)
            block, offset = len(self._sizes) - 1, self._sizes[-1]
            self._groups.append(_Group(keys, block, offset, shape, dtype))
            self._sizes[-1] += -(-nbytes // _ALIGNMENT) * _ALIGNMENT
            for k, key in enumerate(keys):
                place = offset + k * size * self._episodes
                plan.append((arrays[key].ctypes.data, arrays[key].strides[0], size, place, block))
        self._plan = np.array(plan, np.int64)
        self._targets = np.zeros(len(self._sizes), np.int64)
        self._packed = pack(CopyArrays(self._plan, self._targets))
        self._shapes = [(len(g.keys), self._episodes, *g.shape) for g in self._groups]
        # The values of one episode, and where they come from.
        names = [str(k) for k in range(len(arrays))]
        formats = [(array.dtype, array.shape[1:]) for array in arrays.values()]
        self._record = np.dtype({"names": names, "formats": formats}, align=True)
        places: Mapping[str, Any] = self._record.fields or {}
        self._names = names
        self._row_plan = np.array(
            [
                (array.ctypes.data, array.strides[0], array[0].nbytes, places[name][1])
                for name, array in zip(names, arrays.values(), strict=True)
            ],
            np.int64,
        )

    def allocate(self, *, zeros: bool = False) -> Blocks:
        """New blocks, to which values are copied from now on; the caller must keep them."""
        make = np.zeros if zeros else np.empty
        blocks = [make(size, np.uint8) for size in self._sizes]
        for k, block in enumerate(blocks):
            self._targets[k] = _address(block)
        return blocks

    def copy_program(self) -> Program:
        """Copies the values of episodes to the latest blocks."""
        return bound(_copy_range, self._packed)

    def copy(self, first: int, last: int) -> None:
        """Copy the values of episodes ``first`` to ``last`` - 1 to the latest blocks."""
        _copy_range(self._packed.ctypes.data, first, last, 0)

    def copy_rows(self, rows: NDArray[np.int64]) -> None:
        """Copy the values of the episodes ``rows``, int64[K], to the latest blocks."""
        _copy_rows(self._packed, rows)

    def arrays(self, blocks: Blocks) -> dict[str, NDArray[Any]]:
        """The copies in some blocks, by key."""
        copies: dict[str, NDArray[Any]] = {}
        for group, shape in zip(self._groups, self._shapes, strict=True):
            parts = np.ndarray(shape, group.dtype, blocks[group.block], group.offset)
            copies.update(zip(group.keys, parts))  # noqa: B905 - it takes longer to check
        return copies

    def rows(
        self, rows: NDArray[np.int64], others: Mapping[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """Copies of the values of single episodes.

        Args:
            rows: int64[K], the episodes.
            others: further values by key, the same for each of them.

        Returns:
            For each of them, the values by key.
        """
        block = np.empty((len(rows), self._record.itemsize), np.uint8)
        _gather_rows(self._row_plan, block, rows)
        records = np.ndarray(len(rows), self._record, block)
        others = others or {}
        columns = [records[name] for name in self._names]
        constants = [itertools.repeat(value) for value in others.values()]
        keys = [*self._arrays, *others]
        # The lengths are equal; to check them takes a quarter of the time.
        return [dict(zip(keys, values)) for values in zip(*columns, *constants)]  # noqa: B905
