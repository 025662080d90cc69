"""Several processes for tests: threads that pass for them, and those of MPI."""

import os
import pathlib
import shutil
import subprocess
import sys
import sysconfig
import threading

import numpy as np
import pytest

PROGRAMS = pathlib.Path(__file__).parent / "programs"


class Alone:
    """A communicator of one process."""

    rank, size = 0, 1
    allreduce = bcast = barrier = staticmethod(lambda *array: None)


class Threads:
    """A communicator of threads of this process: all that `fit` asks of one."""

    def __init__(self, size):
        self.size = size
        self._barrier = threading.Barrier(size, timeout=30)
        self._arrays = [None] * size
        self._local = threading.local()

    @property
    def rank(self):
        return self._local.rank

    def allreduce(self, array):
        self._exchange(array, lambda: np.sum(self._arrays, axis=0))

    def bcast(self, array):
        self._exchange(array, lambda: self._arrays[0].copy())

    def barrier(self):
        self._barrier.wait()

    def _exchange(self, array, result):
        self._arrays[self.rank] = array
        self.barrier()
        value = result()
        self.barrier()
        array[:] = value
        self.barrier()

    def run(self, job):
        """What job(rank) gives on each rank; the first error is raised."""
        results = [None] * self.size

        def run(rank):
            self._local.rank = rank
            try:
                results[rank] = job(rank)
            except BaseException as error:
                results[rank] = error
                self._barrier.abort()

        threads = [threading.Thread(target=run, args=(rank,)) for rank in range(self.size)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        errors = [result for result in results if isinstance(result, Exception)]
        errors.sort(key=lambda error: isinstance(error, threading.BrokenBarrierError))
        if errors:
            raise errors[0]
        return results


def mpiexec():
    """The launcher that belongs to mpi4py's MPI: what MPIEXEC names, or that of this environment."""
    pytest.importorskip("mpi4py", reason="mpi4py is not installed: MPI is not checked")
    beside = pathlib.Path(sysconfig.get_path("scripts")) / "mpiexec"
    launcher = os.environ.get("MPIEXEC") or (str(beside) if beside.exists() else shutil.which("mpiexec"))
    if launcher is None:
        pytest.skip("there is no mpiexec: MPI is not checked")
    version = subprocess.run([launcher, "--version"], capture_output=True, text=True, check=False).stdout
    return [launcher, "--oversubscribe", "--allow-run-as-root"] if "Open MPI" in version else [launcher]


def mpi(ranks, *arguments, timeout=100):
    return subprocess.run(
        [*mpiexec(), "-n", str(ranks), sys.executable, "-m", "mpi4py", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
