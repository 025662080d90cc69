"""How much memory a fit takes, and how it is kept below a limit."""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass
from typing import Any

import numpy as np

import chainrule
from chainrule import stream
from chainrule._arguments import integer, n_rows_of, shown
from chainrule.stream import BLOCKS_AT_A_TIME, ArrayStream, mapped_bytes
from chainrule.training import Job

UNITS = {"": 1, "B": 1}
for power, prefix in enumerate("KMGT", 1):
    UNITS |= {prefix: 1000**power, f"{prefix}B": 1000**power, f"{prefix}IB": 1024**power}
FEWEST_BLOCK_BYTES = 2**20
OVERHEAD = 16 * 2**20  # stacks of threads, workspaces of evaluations, the interpreter's own


def as_bytes(given: object) -> int:
    """Return a number of bytes from itself or from a text such as "2GB" or "512 MiB"."""
    if not isinstance(given, str):
        return integer("memory_limit", given, 1)
    match = re.fullmatch(r"\s*(\d{1,30}(?:\.\d*)?|\.\d+)\s*([A-Za-z]*)\s*", given)
    if not match or match[2].upper() not in UNITS:
        raise ValueError(
            f'memory_limit is {shown(given)}; expected a number of bytes, or a text such as "2GB" or "512MiB"'
        )
    return int(float(match[1]) * UNITS[match[2].upper()])


def resident() -> int:
    """Return the bytes of memory that this process has now."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        import resource  # not on Windows
        import sys

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


@dataclass(frozen=True)
class Need:
    """Bytes that the process comes to in a fit: as it was asked for, or with some rows at a time."""

    as_given: float
    one_row: float
    each_further: float

    @property
    def least(self) -> int:
        """With which it is possible."""
        return int(min(self.as_given, self.one_row))

    def rows_within(self, limit: int) -> int:
        """How many rows at a time stay below a limit."""
        return int((limit - self.one_row) // self.each_further) + 1


def need_of(job: Job, writes: bool, resumes: bool) -> Need:
    """Return what a fit needs.

    The peak is what the process has now, and with θ's size P in bytes: P for each moment that the optimizer does not
    have yet, P for the best parameters with patience, P for the gradient where it is stored, the tape, the order of the
    samples, copies of the samples, and what those for validation go through. A micro-batch makes the tape smaller, but
    the gradient has to be stored. So it has where several processes work together, and MPI takes up to P more to sum
    it.

    What `writes` a checkpoint copies moments and best parameters, and asks of each parameter in a byte whether it is
    finite. What `resumes` reads a file that is mapped meanwhile, and keeps what it has read; that counts where there is
    no checkpoint yet, too, for the same call to work once there is one.
    """
    mlp, settings, n_rows = job.mlp, job.settings, job.n_rows
    optimizer, together = settings["optimizer"], job.ranks is not None
    P = mlp.n_parameters * mlp.dtype.itemsize
    fixed = resident() + OVERHEAD + _sample_bytes(job) + 2 * 8 * n_rows
    kept = optimizer.n_moments + (settings["patience"] is not None)
    fixed += P * (kept + together - (0 if optimizer.t == 0 else optimizer.n_moments))
    fixed += (P * kept + mlp.n_parameters) * writes + P * (kept + 3) * resumes
    if settings["validation"] is not None:
        X, y = settings["validation"][:2]
        fixed += 8 * n_rows_of(y) + int(mlp._model.predict_bytes(n_rows_of(y), hasattr(X, "tocsr")))
        fixed += sum(bytes_beside(array, mlp) for array in settings["validation"])
    whole = _rows_of_a_step(job)
    at_a_time = max(mlp._model.rows_at_a_time(whole, sparse) for sparse in (False, True))
    stored = together or settings["clip_norm"] is not None or at_a_time < _rows_of_a_batch(job)
    tape = mlp._model.tape_bytes
    return Need(fixed + P * stored + tape(at_a_time), fixed + P + tape(1), tape(2) - tape(1))


def keep_within_limit(job: Job, writes: bool, resumes: bool) -> None:
    """Pick the blocks that are read, and the micro-batch, with which a fit stays below its limit.

    Activations are kept and not computed a second time: a row of them with its deltas is about 2/d of P in layers of d
    units, so that some ten rows fit wherever parameters, gradient and moments do, and fewer rows at a time cost less
    time than another forward pass until the tape is small beside those.

    Raises
    ------
    ValueError
        If not even one row at a time and the smallest blocks stay below it.
    """
    assert job.limit is not None
    if isinstance(job.source, ArrayStream):
        job.source.set_block_bytes(FEWEST_BLOCK_BYTES)
        left = min(job.limit - resident(), job.limit - need_of(job, writes, resumes).least)
        room = left // 2 // BLOCKS_AT_A_TIME
        job.source.set_block_bytes(min(max(FEWEST_BLOCK_BYTES, room), stream.BLOCK_BYTES))
    job.settings["micro_batch"] = micro_batch_within_limit(job, writes, resumes)


def micro_batch_within_limit(job: Job, writes: bool, resumes: bool) -> int | None:
    """Return the largest micro-batch with which a fit stays below its limit: the given one or None where it does."""
    assert job.limit is not None
    need = need_of(job, writes, resumes)
    if need.as_given <= job.limit:
        return job.settings["micro_batch"]
    rows = need.rows_within(job.limit)
    if rows < 1:
        raise ValueError(f"memory_limit is {job.limit:,} bytes; this fit needs at least {need.least:,}")
    return min(rows, _rows_of_a_step(job))


def _rows_of_a_batch(job: Job) -> int:
    return min(job.settings["batch_size"], job.n_rows) if job.n_rows else job.settings["batch_size"]


def _rows_of_a_step(job: Job) -> int:
    whole = _rows_of_a_batch(job)
    return min(job.settings["micro_batch"] or whole, whole)


def _sample_bytes(job: Job) -> int:
    if isinstance(job.source, ArrayStream):
        return job.source.most_bytes()
    samples = (job.X, job.y, job.settings["sample_weight"])
    return 0 if job.source else sum(bytes_beside(array, job.mlp) for array in samples if array is not None)


def bytes_beside(array: Any, mlp: chainrule.MLP) -> int:
    """Return what an array or sparse matrix takes beside itself in a fit: pages of a file, and copies of it.

    Nothing for what is refused.
    """
    if hasattr(array, "tocsr"):
        return int(array.nnz * (max(array.dtype.itemsize, mlp.dtype.itemsize) + 12) + 8 * array.shape[0])
    try:
        size = int(math.prod(np.shape(array)))
    except ValueError:  # not rectangular
        return 0
    if isinstance(array, np.ndarray):
        read, in_place = mapped_bytes(array), mlp._model.uses_in_place(array)
    else:  # numpy.asarray makes an array of it
        own = getattr(array, "dtype", None)
        read, in_place = int(size * getattr(own, "itemsize", 8)), own == mlp.dtype
    if size == n_rows_of(array):  # it may be class labels, which are copied twice, in 64 bits
        return read + 2 * 8 * size
    return read + (0 if in_place else size * mlp.dtype.itemsize)
