"""One network trained by several processes, each with samples of its own: data parallelism through MPI or alike."""

from __future__ import annotations

import hashlib
import os
import pickle
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from chainrule._arguments import integer, shown
from chainrule._extras import optional_package
from chainrule.stream import all_zero

CALLS = ("rank", "size", "allreduce", "bcast", "barrier")


class Communicator(Protocol):
    """What `MLP.fit` asks of `comm`: mpi4py's communicators have it, and any other object will do that has these."""

    @property
    def rank(self) -> int:
        """Number of this process, from 0."""

    @property
    def size(self) -> int:
        """Number of processes."""

    def allreduce(self, array: npt.NDArray[Any]) -> object:
        """Add up a contiguous array of floats over all processes, in place; every process gets the same bits.

        The array's memory may end with the call: who wants its numbers later keeps a copy.
        """

    def bcast(self, array: npt.NDArray[Any]) -> object:
        """Overwrite a contiguous array of floats by that of process 0, in place."""

    def barrier(self) -> object:
        """Wait for all processes."""


class MPICommunicator:
    """A communicator of mpi4py, by its calls that work in place on buffers."""

    def __init__(self, comm: Any) -> None:
        self._in_place = optional_package("mpi4py.MPI", "mpi").IN_PLACE
        self._comm = comm
        self.rank: int = comm.rank
        self.size: int = comm.size

    def allreduce(self, array: npt.NDArray[Any]) -> None:
        self._comm.Allreduce(self._in_place, array)

    def bcast(self, array: npt.NDArray[Any]) -> None:
        self._comm.Bcast(array, root=0)

    def barrier(self) -> None:
        self._comm.Barrier()


def as_communicator(given: Any) -> Communicator:
    """Return an object with the calls of `Communicator`, from itself or from a communicator of mpi4py."""
    if hasattr(given, "Allreduce"):
        return MPICommunicator(given)
    _check_calls(given, CALLS)
    size = integer("comm.size", given.size, 1)
    own = np.array([1.0 + integer("comm.rank", given.rank, 0, size - 1)])
    given.allreduce(own)
    if own[0] != size * (size + 1) // 2:  # no process has that by itself
        raise ValueError(
            f"comm.allreduce(array) left {own[0]:g} where the processes gave 1 to {size}; expected their sum in the "
            f"array, {size * (size + 1) // 2}, not as what it returns"
        )
    return given  # type: ignore[no-any-return]


def _check_calls(given: Any, calls: tuple[str, ...]) -> None:
    missing = [call for call in calls if not hasattr(given, call)]
    if missing:
        raise TypeError(
            f"comm is {shown(given)}, without {', '.join(missing)}; expected a communicator such as mpi4py's "
            f"MPI.COMM_WORLD, or an object with {', '.join(calls)}"
        )


def shard(array: Any, comm: Any) -> Any:
    """Return this process's share of the rows of an array that all processes can see.

    The shares are contiguous and differ by at most one row. A slice of a memory-mapped file stays one, so that each
    process reads only its own rows.

    Parameters
    ----------
    array : array of shape (N, ...)
        The same on all processes: NumPy's, a memory map, a sparse matrix, or anything else that has a length and can be
        sliced.
    comm : mpi4py communicator, or an object with its `rank` and `size`
        The processes.

    Returns
    -------
    array
        ``array[N * rank // size : N * (rank + 1) // size]``.

    Raises
    ------
    ValueError
        If there are fewer rows than processes.
    TypeError
        If the array has no rows, or comm is no communicator.
    """
    _check_calls(comm, ("rank", "size"))
    if isinstance(array, (str, os.PathLike, tuple)):
        raise TypeError(f"array is {shown(array)}; expected one array, such as of numpy.load(path, mmap_mode='r')")
    if hasattr(array, "tocsr"):
        array = array.tocsr()  # not every sparse matrix can be sliced
    try:
        n = array.shape[0] if hasattr(array, "shape") else len(array)
    except (TypeError, IndexError):
        raise TypeError(f"array is {shown(array)}; expected rows") from None
    if n < comm.size:
        raise ValueError(f"array has {n} rows; expected at least one for each of the {comm.size} processes")
    return array[n * comm.rank // comm.size : n * (comm.rank + 1) // comm.size]


def of_all(comm: Communicator, given: Any) -> list[Any]:
    """Return what each process gives, anything that can be pickled, in the order of their ranks."""
    content = np.frombuffer(pickle.dumps(given), dtype=np.uint8)
    sizes = _numbers_of_all(comm, len(content))[0].astype(int)
    ends = np.cumsum(sizes)
    everything = np.zeros(ends[-1])
    everything[ends[comm.rank] - len(content) : ends[comm.rank]] = content
    comm.allreduce(everything)
    return [pickle.loads(part.astype(np.uint8).tobytes()) for part in np.split(everything, ends[:-1])]


def _numbers_of_all(comm: Communicator, *own: float) -> npt.NDArray[np.float64]:
    """Return what each process gives, a row for each of its numbers."""
    numbers = np.zeros(len(own) * comm.size)
    numbers[comm.rank :: comm.size] = own
    comm.allreduce(numbers)
    return numbers.reshape(-1, comm.size)


class Ranks:
    """The processes of one fit, as the core sees them.

    What is `agreed` has to be the same on all. `weights` are those of this process's samples, by name; none of them may
    be zero throughout on all processes.
    The parameters of process 0 go to all at once or, with `checks_first`, with the first sum: by then the core has
    found nothing wrong with the samples.

    Attributes
    ----------
    rank, size, first, rows, seed : int
        Number of this process, how many there are, place of its samples among those of all, how many all have, and the
        seed of the order in which they are taken.
    reproducible : bool
        Whether the fit is to have the same bits for any number of processes.
    """

    def __init__(
        self,
        comm: Communicator,
        parameters: npt.NDArray[Any],
        seed: int,
        n_rows: int,
        agreed: Mapping[str, object],
        reproducible: bool = False,
        weights: Mapping[str, npt.ArrayLike | None] = MappingProxyType({}),
        checks_first: bool = False,
    ) -> None:
        self._comm = comm
        self._parameters = parameters
        self._has_parameters = False
        self.rank, self.size = comm.rank, comm.size
        self.reproducible = reproducible
        self.agree({name: repr(value).encode() for name, value in agreed.items()})
        rows, *without_weight = _numbers_of_all(comm, n_rows, *map(all_zero, weights.values()))
        for name, of_ranks in zip(weights, without_weight, strict=True):
            if of_ranks.all():
                raise ValueError(f"{name} is zero throughout; expected at least one weight > 0")
        self.first, self.rows = int(rows[: comm.rank].sum()), int(rows.sum())
        halves = np.array([seed >> 32, seed & 0xFFFFFFFF], dtype=np.float64)  # of a number that float64 cannot hold
        comm.bcast(halves)
        self.seed = int(halves[0]) << 32 | int(halves[1])
        if not checks_first:
            self._take_parameters()

    def sum(self, array: npt.NDArray[Any]) -> None:
        if not self._has_parameters:
            self._take_parameters()
        self._comm.allreduce(array)

    def _take_parameters(self) -> None:
        self._comm.bcast(self._parameters)
        self._has_parameters = True

    def epoch_done(self, stop: bool) -> bool:
        """Check that all have the same parameters, to the bit; return whether any wants to stop."""
        self.agree({"parameter vector": self._parameters.data})
        return bool(_numbers_of_all(self._comm, stop).any())

    def done(self) -> None:
        self._comm.barrier()

    def agree(self, contents: Mapping[str, bytes | memoryview]) -> None:
        """Raise a RuntimeError that names the first of the contents that is not the same on all processes."""
        # 48 bits of the hash, which float64 holds exactly.
        own = [int.from_bytes(hashlib.blake2b(one, digest_size=6).digest(), "little") for one in contents.values()]
        for name, hashes in zip(contents, _numbers_of_all(self._comm, *own), strict=True):
            others = np.flatnonzero(hashes != hashes[0])
            if others.size:
                raise RuntimeError(f"rank {others[0]} has another {name} than rank 0; expected the same on all")
