"""Run by mpiexec: fit estimators on this rank's rows, and write how far rank 0's are from those of one process."""

import json
import pathlib
import sys
import warnings

import numpy as np
from mpi4py import MPI
from sklearn.datasets import load_iris

import chainrule as cr
from chainrule.sklearn import MLPClassifier

warnings.simplefilter("ignore")  # that the fits have not converged
cr.set_num_threads(1)
comm = MPI.COMM_WORLD
X, y = load_iris(return_X_y=True)  # sorted by class: each rank has others
names = np.array(["setosa", "versicolor", "virginica"])[y]
results = []
for settings in json.loads(sys.argv[2]):
    mine = MLPClassifier(random_state=comm.rank, **settings)
    mine.fit(cr.shard(X, comm), cr.shard(names, comm), comm=comm)
    one = MLPClassifier(random_state=0, **settings).fit(X, names)
    results.append([float(np.abs(mine.mlp_.parameters - one.mlp_.parameters).max()), *mine.classes_.tolist()])
if comm.rank == 0:
    pathlib.Path(sys.argv[1]).write_text(json.dumps(results))  # MPI itself may log to stdout
