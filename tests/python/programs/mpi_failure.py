"""Run by mpiexec: rank 1 fails in mid-training, in the way that the first argument says."""

import os
import pathlib
import signal
import sys
import time

import numpy as np
from mpi4py import MPI

import chainrule as cr

cr.set_num_threads(1)
comm = MPI.COMM_WORLD
how, folder = sys.argv[1], pathlib.Path(sys.argv[2])


def fail(report):
    if comm.rank == 1 and report.epoch == 3:
        (folder / "failed").write_text(str(time.monotonic()))
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        raise ArithmeticError("rank 1 has had enough")


rng = np.random.default_rng(comm.rank)
mlp = cr.MLP([4, 8, 2], seed=0)
mlp.fit(rng.normal(size=(50, 4)), rng.normal(size=(50, 2)), epochs=10**9, comm=comm, callbacks=[fail])
