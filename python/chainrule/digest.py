"""A digest of samples, by which a fit that goes on knows them again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from chainrule.stream import is_on_disk

BLOCK_BYTES = 2**20
RUNS, RUN_ROWS = 64, 16  # of an array on the disk: spread evenly, the first and the last rows among them


def digest(samples: Any, dtype: np.dtype[Any]) -> str | None:
    """Hash the numbers of an array-like or sparse matrix as that dtype holds them, whatever they are kept in.

    Of an array on the disk, the number of rows and 64 runs of 16 rows. None for None; "" for what is not made of real
    numbers, which the fit refuses with a better message.
    """
    if samples is None:
        return None
    whole = hashlib.blake2b(digest_size=8)
    try:
        for block in blocks(samples, dtype):
            whole.update(np.ascontiguousarray(block).data)
    except Exception:  # what asarray, or a foreign array's own methods, raise is up to them
        return ""
    return whole.hexdigest()


def blocks(samples: Any, dtype: np.dtype[Any]) -> Iterator[npt.NDArray[Any]]:
    """Iterate over all numbers, never with more than a small copy of them."""
    if hasattr(samples, "tocsr"):
        rows = samples.tocsr()
        yield np.array(rows.shape)
        for part, kind in ((rows.indptr, np.int64), (rows.indices, np.int64), (rows.data, dtype)):
            yield from blocks(part, np.dtype(kind))
        return
    array = samples if is_on_disk(samples) else np.asarray(samples)
    if array.dtype.kind not in "biufO":
        raise TypeError
    n = array.shape[0]
    yield np.array(n)
    if is_on_disk(array) and n > RUNS * RUN_ROWS:
        step = RUN_ROWS
        starts = np.linspace(0, n - step, RUNS).astype(int).tolist()
    else:
        step = max(1, BLOCK_BYTES // max(1, dtype.itemsize * int(np.prod(array.shape[1:]))))
        starts = list(range(0, n, step))
    for start in starts:
        with np.errstate(over="ignore"):
            yield np.asarray(array[start : start + step]).astype(dtype, copy=False)
