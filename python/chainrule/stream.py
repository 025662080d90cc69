"""Samples that need not fit into memory: read block by block, one block ahead."""

from __future__ import annotations

import math
import mmap
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, wait
from dataclasses import replace
from itertools import chain
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from chainrule._arguments import shown
from chainrule._types import Self
from chainrule.non_finite import NonFinite, NonFiniteError

if TYPE_CHECKING:
    from chainrule.mlp import MLP

BLOCK_BYTES = 64 * 2**20
BLOCKS_AT_A_TIME = 4  # a piece of the one that is read, that one, the one before, and the core's copy of that
CHUNKS = 64  # of a shuffled block: pieces of the file that are read in one go

Block: TypeAlias = tuple[Any, Any, Any]


def is_on_disk(X: object) -> bool:
    """Whether X is an array that is read in slices: a NumPy memory map, or a chunked array as of h5py or zarr."""
    chunked = hasattr(X, "chunks") and hasattr(X, "shape") and hasattr(X, "dtype")
    return (isinstance(X, np.memmap) or chunked) and len(X.shape) > 0  # type: ignore[attr-defined]


class Stream(ABC):
    """Blocks of samples for the core. A thread reads one while another is trained on, so that two are in memory.

    Attributes
    ----------
    rows : int
        Samples of an epoch; 0 where that is not known.
    first_epoch, seed : int
        Epochs that the network was trained before, and the seed of the order of the samples.
    """

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.first_epoch = self.seed = 0
        self._epochs_read = self._blocks_given = 0
        self._blocks: Iterator[Block] | None = None
        self._wanted: SimpleQueue[tuple[Iterator[Block], Future[Block | None]] | None] = SimpleQueue()
        self._ahead: Future[Block | None] | None = None

    def next(self) -> Block | None:
        """Return the epoch's next block, or None at its end."""
        if self._ahead is None:
            # A daemon: the end of the program does not wait for a source that blocks.
            Thread(target=self._read, name="chainrule-read", daemon=True).start()
        if self._blocks is None:
            self._blocks = self.epoch(self.first_epoch + self._epochs_read)
            self._ahead = self._begin_reading(self._blocks)
        assert self._ahead is not None
        try:
            block = self._ahead.result()
        except BaseException:
            self._blocks_given = 0  # the error is the source's, and of no block
            raise
        if block is None:
            self._blocks = None
            self._blocks_given = 0
            self._epochs_read += 1
        else:
            self._blocks_given += 1
            self._ahead = self._begin_reading(self._blocks)
        return block

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """End the thread, and wait until it no longer reads: what it reads from is the caller's again."""
        self._wanted.put(None)
        if self._ahead is not None and kind is not KeyboardInterrupt:
            wait([self._ahead])

    def _begin_reading(self, blocks: Iterator[Block]) -> Future[Block | None]:
        block: Future[Block | None] = Future()
        self._wanted.put((blocks, block))
        return block

    def _read(self) -> None:
        self._begin_thread()
        while wanted := self._wanted.get():
            blocks, block = wanted
            try:
                block.set_result(next(blocks, None))
            except BaseException as error:  # comes out of next()
                block.set_exception(error)

    def _begin_thread(self) -> None:  # noqa: B027  # most need nothing
        """Prepare the thread that reads."""

    @abstractmethod
    def epoch(self, number: int) -> Iterator[Block]:
        """Read the blocks of an epoch, counted from the network's first."""

    @abstractmethod
    def name_row(self, error: ValueError | TypeError | NonFiniteError) -> None:
        """Let an error of the core about the block that it was given last say where that is for the user."""


class ArrayStream(Stream):
    """Arrays on the disk, cut into blocks of whole batches.

    A shuffled block is put together from pieces from all over the arrays, so that its samples are mixed although the
    disk is read in long runs.
    """

    def __init__(
        self,
        arrays: tuple[Any, Any, Any],
        dtype: np.dtype[Any],
        batch_size: int,
        shuffle: bool,
        block_bytes: int,
    ) -> None:
        X = arrays[0]
        super().__init__(X.shape[0])
        for name, array in zip(("y", "sample_weight"), arrays[1:], strict=True):
            shape = getattr(array, "shape", ())
            if shape and shape[0] != self.rows:
                raise ValueError(f"{name} has {shape[0]} rows; X has {self.rows}")
        self._arrays = arrays
        self._dtype = dtype
        self._shuffle = shuffle
        self._row_bytes = max(1, sum(row_bytes(array, dtype) for array in arrays))
        self._batch_size = batch_size
        self.set_block_bytes(block_bytes)

    def set_block_bytes(self, most: int) -> None:
        """Make blocks of whole batches of at most so many bytes, but of one batch at least."""
        self.block_rows = max(1, most // (self._row_bytes * self._batch_size)) * self._batch_size

    def most_bytes(self) -> int:
        """Return the most that blocks take at a time, with the pages of the arrays that cannot be given back."""
        blocks = BLOCKS_AT_A_TIME * min(self.block_rows, self.rows) * self._row_bytes
        return blocks + sum(mapped_bytes(array) for array in self._arrays if not _can_forget_pages(array))

    def epoch(self, number: int) -> Iterator[Block]:
        for ranges in self._blocks_of(number):
            X, y, weight = (_rows_of(array, ranges) for array in self._arrays)
            if X.dtype.kind in "fiub":
                with np.errstate(over="ignore"):  # the core tells where there is an infinity
                    X = X.astype(self._dtype, copy=False)
            yield X, y, weight

    def name_row(self, error: ValueError | TypeError | NonFiniteError) -> None:
        """Let it name the row of the arrays."""
        if self._blocks_given == 0:  # between epochs: it is a callback's
            return
        epoch = self.first_epoch + self._epochs_read
        if isinstance(error, NonFiniteError):
            error.where = self.with_row(error.where, epoch)
            error.args = NonFiniteError(error.where).args
        elif found := re.match(r"(?:X|y|sample_weight) holds .* at row (\d+)", str(error)):
            row = self._row_at((self._blocks_given - 1) * self.block_rows + int(found[1]), epoch)
            error.args = (f"{error}"[: found.start(1)] + f"{row}" + f"{error}"[found.end(1) :],)

    def with_row(self, where: NonFinite, epoch: int) -> NonFinite:
        """Return a place whose row, if it is of a sample in the order of an epoch, is that of the arrays."""
        return replace(where, row=self._row_at(where.row, epoch)) if where.is_of_sample else where

    def _row_at(self, place: int, epoch: int) -> int:
        for first, last in chain.from_iterable(self._blocks_of(epoch)):
            if place < last - first:
                return first + place
            place -= last - first
        raise IndexError

    def _blocks_of(self, epoch: int) -> Iterator[list[tuple[int, int]]]:
        """Cut the epoch's order of pieces into blocks of ranges of rows."""
        mixed = self._shuffle and self.rows > self.block_rows
        piece = max(1, self.block_rows // CHUNKS) if mixed else self.block_rows
        firsts = np.arange(0, self.rows, piece)
        if mixed:
            firsts = np.random.default_rng([self.seed, epoch]).permutation(firsts)
        ranges: list[tuple[int, int]] = []
        room = self.block_rows
        for first in firsts.tolist():
            last = min(first + piece, self.rows)
            while first < last:
                taken = min(room, last - first)
                ranges.append((first, first + taken))
                first += taken
                room -= taken
                if room == 0:
                    yield ranges
                    ranges, room = [], self.block_rows
        if ranges:
            yield ranges


class BlockStream(Stream):
    """The items (X, y) or (X, y, sample_weight) of an iterable, or of what has a length and indices."""

    def __init__(self, items: Any, mlp: MLP) -> None:
        super().__init__(0)
        self._items, self._mlp = items, mlp

    def _begin_thread(self) -> None:
        self._mlp._model.refuse_this_thread()  # the fit waits for the items, and they would wait for the fit

    def epoch(self, number: int) -> Iterator[Block]:
        given = self._items
        # Others may fill the same arrays again and again, the next time while these are trained on.
        kept = type(given) in (list, tuple)
        indexed = hasattr(given, "__len__") and not isinstance(given, Iterable)
        items = (given[i] for i in range(len(given))) if indexed else given
        for block, item in enumerate(items, 1):
            if not isinstance(item, (tuple, list)) or len(item) not in (2, 3):
                raise TypeError(
                    f"X gave {shown(item)} as block {block}; expected a tuple (X, y) or (X, y, sample_weight)"
                )
            X, y, *weight = item if kept else map(_copied, item)
            yield X, y, weight[0] if weight else None

    def name_row(self, error: ValueError | TypeError | NonFiniteError) -> None:
        """Let it name the block; a NonFiniteError's sample is counted over the epoch."""
        if self._blocks_given > 0 and re.match(r"(?:X|y|sample_weight) ", str(error)):
            error.args = (f"block {self._blocks_given} of the epoch: {error}",)


def _copied(given: Any) -> Any:
    if not isinstance(given, np.ndarray) and not hasattr(given, "tocsr"):
        given = _as_array(given)
    return given.copy() if hasattr(given, "copy") else given


def _rows_of(array: Any, ranges: list[tuple[int, int]]) -> Any:
    if array is None:
        return None
    rows = np.empty((sum(last - first for first, last in ranges), *array.shape[1:]), array.dtype)
    filled = 0
    for first, last in ranges:
        rows[filled : filled + last - first] = array[first:last]
        _forget_pages(array)  # at once: the system maps many more than those that were read
        filled += last - first
    return rows


def row_bytes(array: Any, dtype: np.dtype[Any]) -> int:
    """Return what a row takes as it is read or in the network's dtype, whichever is more; 0 for what has no rows.

    Of a memory map with what is skipped between its rows, which is on the same pages.
    """
    shape = getattr(array, "shape", ())
    if not shape:
        return 0
    row = int(math.prod(shape[1:]) * max(array.dtype.itemsize, dtype.itemsize))
    return max(row, abs(int(array.strides[0]))) if _is_mapped(array) else row


def mapped_bytes(array: Any) -> int:
    """Return how much of a file a memory map, or an array that looks into one, spans; 0 for any other array."""
    owner = array
    while isinstance(owner, np.ndarray) and not _is_mapped(owner):
        owner = owner.base
    if not isinstance(owner, (np.ndarray, mmap.mmap)):
        return 0
    last = sum((n - 1) * abs(stride) for n, stride in zip(array.shape, array.strides, strict=True))
    return int(last + array.itemsize)


def _is_mapped(array: Any) -> bool:
    return isinstance(array, np.memmap) and getattr(array, "_mmap", None) is not None  # which copies have not


def _can_forget_pages(array: Any) -> bool:
    return _is_mapped(array) and array.mode != "c" and hasattr(mmap, "MADV_DONTNEED")


def _forget_pages(array: Any) -> None:
    """Tell the system that the pages of a memory map are not needed for now: else they count as this process's."""
    if _can_forget_pages(array):
        array._mmap.madvise(mmap.MADV_DONTNEED)


def as_stream(
    mlp: MLP,
    X: Any,
    y: npt.ArrayLike | None,
    sample_weight: npt.ArrayLike | None,
    batch_size: int,
    shuffle: bool,
) -> Stream:
    """Return the stream of arrays on the disk, or, without y, of an iterable of blocks."""
    if y is not None:
        if is_on_disk(X) and len(X.shape) != 2:  # whose first row would be described by its own shape
            raise ValueError(f"X has shape {tuple(X.shape)}; expected two dimensions, (n, {mlp.layer_sizes[0]})")
        arrays: tuple[Any, Any, Any] = X, y if is_on_disk(y) else _as_array(y), _as_array(sample_weight)
        stream = ArrayStream(arrays, mlp.dtype, batch_size, shuffle, BLOCK_BYTES)
        first = [array[:1] if getattr(array, "shape", ()) else array for array in arrays]
        if isinstance(first[2], np.ndarray):
            first[2] = np.ones_like(first[2])  # the first weight may be zero
        mlp._model.evaluate(*first)  # for the core to say what is wrong before anything is trained
        if all_zero(sample_weight):
            raise ValueError("sample_weight is zero throughout; expected at least one weight > 0")
        return stream
    if not isinstance(X, Iterable) and not hasattr(X, "__getitem__"):
        raise TypeError(f"X is {shown(X)} and there is no y; expected an iterable of (X, y)")
    if sample_weight is not None:
        raise ValueError("sample_weight is given beside an iterable; expected it in its items, (X, y, sample_weight)")
    return BlockStream(X, mlp)


def all_zero(sample_weight: Any) -> bool:
    """Whether there are weights and all of them are zero; what are no numbers is for the core to refuse."""
    weight = _as_array(sample_weight)
    return isinstance(weight, np.ndarray) and weight.dtype.kind in "fiub" and weight.size > 0 and not weight.any()


def _as_array(given: Any) -> Any:
    """Return an array, or what cannot be one as it is."""
    try:
        return None if given is None else np.asarray(given)
    except ValueError:
        return given
