"""Run by mpiexec: fit on this rank's rows, and save what came of it. Arguments: the folder, the settings as JSON.

A case with "kill": [rank, epoch] ends there.
"""

import json
import os
import pathlib
import signal
import sys

import numpy as np
from mpi4py import MPI

import chainrule as cr

cr.set_num_threads(1)
comm = MPI.COMM_WORLD
folder, settings = pathlib.Path(sys.argv[1]), json.loads(sys.argv[2])
for i, case in enumerate(settings["cases"]):
    epochs = []

    def epoch_done(report, case=case, epochs=epochs):
        epochs.append(report.epoch)
        if [comm.rank, report.epoch] == case.get("kill"):
            os.kill(os.getpid(), signal.SIGKILL)

    data = np.load(folder / "data.npz")
    bounds = [round(bound) for bound in np.linspace(0, len(data["X"]) ** 0.5, comm.size + 1) ** 2]  # unequal shares
    mine = slice(bounds[comm.rank], bounds[comm.rank + 1])
    arguments = dict(case["fit"])
    if case.get("weighted"):
        arguments["sample_weight"] = data["weight"][mine]
    if case.get("validated"):
        arguments["validation"] = cr.shard(data["X_val"], comm), cr.shard(data["y_val"], comm)
    # Other parameters and another order on each rank: those of rank 0 count.
    seed = 7 if comm.rank == 0 else 100 + comm.rank
    mlp = cr.MLP(
        case.get("layers", [4, 16, 2]), hidden_activation="tanh", dtype=case.get("dtype", "float64"), seed=seed
    )
    optimizer = cr.Adam(lr=0.01)
    history = mlp.fit(
        data["X"][mine], data["y"][mine], optimizer=optimizer, comm=comm, callbacks=[epoch_done], **arguments
    )
    record = {name: getattr(history, name) for name in ("loss", "validation_loss", "epochs")}
    record["epochs_here"] = epochs
    np.save(folder / f"{i}-{comm.rank}.npy", mlp.parameters)
    (folder / f"{i}-{comm.rank}.json").write_text(json.dumps(record))
