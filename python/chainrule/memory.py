"""How much memory a fit takes, and how it is kept below a limit."""

from __future__ import annotations

import math
import os
import re
from typing import TYPE_CHECKING, Any

import numpy as np

import chainrule
from chainrule._arguments import integer, shown
from chainrule.stream import mapped_bytes

if TYPE_CHECKING:
    from chainrule.training import FitSettings

UNITS = {"": 1, "B": 1}
UNITS |= {f"{prefix}B": 1000**power for power, prefix in enumerate("KMGT", 1)}
UNITS |= {f"{prefix}IB": 1024**power for power, prefix in enumerate("KMGT", 1)}
OVERHEAD = 16 * 2**20  # stacks of threads, workspaces of evaluations, the interpreter's own


def as_bytes(given: object) -> int:
    """Return a number of bytes from itself or from a text such as "2GB" or "512 MiB"."""
    if not isinstance(given, str):
        return integer("memory_limit", given, 1)
    match = re.fullmatch(r"\s*(\d{1,30}(?:\.\d+)?)\s*([A-Za-z]*)\s*", given)
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


def micro_batch_within(
    limit: int,
    mlp: chainrule.MLP,
    settings: FitSettings,
    n_rows: int,
    samples_bytes: int,
    together: bool,
    writes: bool,
    resumes: bool,
) -> int | None:
    """Return the largest micro-batch with which a fit stays below the limit; None where the whole batch does.

    The peak is what the process has now, and with θ's size P in bytes: P for each moment that the optimizer does not
    have yet, P for the best parameters with patience, P for the gradient where it is stored, the tape, the order of the
    samples, copies of the samples, and what those for validation go through. A micro-batch makes the tape smaller, but
    the gradient has to be stored. So it has where several processes work `together`, and MPI takes up to P more to
    sum it.

    What `writes` a checkpoint copies moments and best parameters, and asks of each parameter in a byte whether it is
    finite. What `resumes` reads a file that is mapped meanwhile, and keeps what it has read; that counts where there is
    no checkpoint yet, too, for the same call to work once there is one.

    Activations are kept and not computed a second time: a row of them with its deltas is about 2/d of P in layers of d
    units, so that some ten rows fit wherever parameters, gradient and moments do, and fewer rows at a time cost less
    time than another forward pass until the tape is small beside those.

    Raises
    ------
    ValueError
        If not even one row at a time stays below it.
    """
    batch_size = min(settings["batch_size"], n_rows) if n_rows else settings["batch_size"]
    P = mlp.n_parameters * mlp.dtype.itemsize
    optimizer = settings["optimizer"]
    fixed = resident() + OVERHEAD + samples_bytes + 2 * 8 * n_rows
    kept = optimizer.n_moments + (settings["patience"] is not None)
    fixed += P * (kept + together - (0 if optimizer.t == 0 else optimizer.n_moments))
    fixed += (P * kept + mlp.n_parameters) * writes + P * (kept + 3) * resumes
    if settings["validation"] is not None:
        X, y = settings["validation"][:2]
        fixed += 8 * n_rows_of(y) + int(mlp._model.predict_bytes(n_rows_of(y), hasattr(X, "tocsr")))
        fixed += sum(bytes_beside(array, mlp) for array in settings["validation"])
    tape = mlp._model.tape_bytes
    whole = min(settings["micro_batch"] or batch_size, batch_size)
    at_a_time = max(mlp._model.rows_at_a_time(whole, sparse) for sparse in (False, True))
    stored = together or settings["clip_norm"] is not None or at_a_time < batch_size
    as_given = fixed + P * stored + tape(at_a_time)
    if as_given <= limit:
        return settings["micro_batch"]
    row = tape(2) - tape(1)
    rows = int((limit - fixed - P - tape(1)) // row) + 1
    if rows < 1:
        least = min(as_given, fixed + P + tape(1))
        raise ValueError(f"memory_limit is {limit:,} bytes; this fit needs at least {int(least):,}")
    return min(rows, whole)


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


def n_rows_of(array: Any) -> int:
    """Return the number of rows; 0 for what has none, which the core refuses."""
    try:
        return int(array.shape[0] if hasattr(array, "shape") else len(array))
    except (TypeError, IndexError):
        return 0
