"""Train one network in several processes without MPI: torch.distributed's gloo as the communicator.

    python examples/gloo.py [--processes 2]

Needs PyTorch.
"""

import argparse
import tempfile

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing

import chainrule as cr


class Gloo:
    """The five calls that `fit(comm=...)` uses, on arrays in place."""

    rank = property(lambda self: dist.get_rank())
    size = property(lambda self: dist.get_world_size())

    def allreduce(self, array):
        dist.all_reduce(torch.from_numpy(array))

    def bcast(self, array):
        dist.broadcast(torch.from_numpy(array), src=0)

    def barrier(self):
        dist.barrier()


def train(rank, processes, meeting_point):
    dist.init_process_group("gloo", init_method=f"file://{meeting_point}", rank=rank, world_size=processes)
    comm = Gloo()
    cr.set_num_threads(1)
    rng = np.random.default_rng(0)
    X = rng.normal(size=(1000, 4))
    y = np.sin(X.sum(axis=1))
    mlp = cr.MLP([4, 32, 1], dtype="float64", seed=0)
    history = mlp.fit(cr.shard(X, comm), cr.shard(y, comm), epochs=20, comm=comm)
    if rank == 0:
        alone = cr.MLP([4, 32, 1], dtype="float64", seed=0)
        alone.fit(X, y, epochs=20)
        print(f"{processes} processes: loss {history.loss[0]:.4f} -> {history.loss[-1]:.4f}")
        print(f"largest difference from one process: {abs(mlp.parameters - alone.parameters).max():.0e}")
    dist.destroy_process_group()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, default=2)
    processes = parser.parse_args().processes
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(train, (processes, f"{folder}/meet"), nprocs=processes)
