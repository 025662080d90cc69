"""Several processes train one network: the result is that of one process with the rows of all."""

import json
import time
import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest
from communicators import PROGRAMS, Alone, Threads, mpi
from helpers import assert_close, same_bits, state
from nets import smooth_data

import chainrule as cr
from chainrule.distributed import Ranks

CASES = [
    {"fit": {"epochs": 3, "batch_size": 10}},
    {"fit": {"epochs": 3, "batch_size": 7, "shuffle": False}, "weighted": True},
    {"fit": {"epochs": 40, "batch_size": 61, "patience": 1, "clip_norm": 0.5}, "validated": True},
    {"fit": {"epochs": 2, "batch_size": 20, "schedule": "one_cycle", "micro_batch": 3}, "weighted": True},
    {"fit": {"epochs": 2, "batch_size": 3}, "dtype": "float32"},
]


@pytest.fixture(scope="module")
def data():
    X, y = smooth_data(61)
    X_val, y_val = smooth_data(9, seed=5)
    return {"X": X, "y": y, "X_val": X_val, "y_val": y_val, "weight": np.random.default_rng(2).uniform(0, 2, size=61)}


def alone(data, case):
    """One process with all rows."""
    arguments = dict(case["fit"])
    if case.get("weighted"):
        arguments["sample_weight"] = data["weight"]
    if case.get("validated"):
        arguments["validation"] = data["X_val"], data["y_val"]
    mlp = cr.MLP([4, 16, 2], hidden_activation="tanh", dtype=case.get("dtype", "float64"), seed=7)
    return mlp, mlp.fit(data["X"], data["y"], optimizer=cr.Adam(lr=0.01), **arguments)


def assert_like_one_process(parameters, record, data, case):
    mlp, history = alone(data, case)
    tolerance = 1e-12 if case.get("dtype", "float64") == "float64" else 1e-5
    assert_close(parameters, mlp.parameters, tolerance, "parameters")
    assert record["epochs"] == history.epochs
    assert_close(record["loss"], history.loss, tolerance, "loss")
    assert_close(record["validation_loss"], history.validation_loss, tolerance, "validation loss")


class TestMPI:
    @pytest.mark.parametrize("ranks", [1, 2, 3, 4])
    def test_equal_to_one_process(self, ranks, data, tmp_path):
        np.savez(tmp_path / "data.npz", **data)
        process = mpi(ranks, PROGRAMS / "mpi_fit.py", tmp_path, json.dumps({"cases": CASES}))
        assert process.returncode == 0, process.stderr
        for i, case in enumerate(CASES):
            every = [np.load(tmp_path / f"{i}-{rank}.npy") for rank in range(ranks)]
            records = [json.loads((tmp_path / f"{i}-{rank}.json").read_text()) for rank in range(ranks)]
            assert all(same_bits(one, every[0]) for one in every)
            assert all(one == records[0] for one in records)
            assert_like_one_process(every[0], records[0], data, case)

    def test_reproducible(self, data, tmp_path):
        """Any number of ranks gives the same bits; the program's shares are unequal, and the last batch is short."""
        np.savez(tmp_path / "data.npz", **data)
        cases = [{**case, "fit": {**case["fit"], "reproducible": True}} for case in CASES]
        results = []
        for ranks in (1, 2, 3, 4):
            process = mpi(ranks, PROGRAMS / "mpi_fit.py", tmp_path, json.dumps({"cases": cases}))
            assert process.returncode == 0, process.stderr
            results.append(
                [
                    (np.load(tmp_path / f"{i}-{rank}.npy").tobytes(), (tmp_path / f"{i}-{rank}.json").read_text())
                    for i in range(len(cases))
                    for rank in range(ranks)
                ]
            )
        for several in results:
            assert sorted(set(several)) == sorted(results[0])

    @pytest.mark.parametrize("how", ["raise", "kill"])
    def test_a_rank_that_fails_ends_the_job(self, how, tmp_path):
        started = time.monotonic()
        process = mpi(3, PROGRAMS / "mpi_failure.py", how, tmp_path, timeout=60)
        assert process.returncode != 0
        failed = float((tmp_path / "failed").read_text())
        assert failed > started
        assert time.monotonic() - failed < 5
        if how == "raise":
            assert "ArithmeticError: rank 1 has had enough" in process.stderr
            assert "in fail\n" in process.stderr  # the traceback

    @pytest.mark.parametrize(("killed", "reproducible"), [(0, True), (1, False), (2, True)])
    def test_killed_and_resumed_by_other_ranks(self, killed, reproducible, data, tmp_path):
        pytest.importorskip("safetensors", reason="safetensors is not installed: checkpoints are not checked")
        np.savez(tmp_path / "data.npz", **data)
        settings = {"batch_size": 20, "reproducible": reproducible, "epochs": 6, "resume": True}

        def run(ranks, checkpoint, **case):
            case["fit"] = {**settings, "checkpoint": str(tmp_path / checkpoint)}
            process = mpi(ranks, PROGRAMS / "mpi_fit.py", tmp_path, json.dumps({"cases": [case]}))
            assert ("kill" in case) == (process.returncode != 0), process.stderr
            if "kill" not in case:
                every = [np.load(tmp_path / f"0-{rank}.npy") for rank in range(ranks)]
                assert all(same_bits(one, every[0]) for one in every)
                return every[0], json.loads((tmp_path / "0-0.json").read_text())

        run(3, "killed", kill=[killed, 4])
        parameters, record = run(2, "killed")
        assert record["epochs_here"] in ([4, 5, 6], [5, 6])  # it may have been killed before epoch 4 was written
        if reproducible:
            whole, its_record = run(1, "whole")
            assert same_bits(parameters, whole)
            assert record["loss"] == its_record["loss"]
        else:
            del settings["reproducible"], settings["resume"]
            assert_like_one_process(parameters, record, data, {"fit": settings})


class TestAnyCommunicator:
    @pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
    def test_equal_to_one_process(self, case, data):
        comm = Threads(3)
        bounds = [0, 5, 30, 61]

        def train(rank):
            mine = slice(bounds[rank], bounds[rank + 1])
            arguments = dict(case["fit"])
            if case.get("weighted"):
                arguments["sample_weight"] = data["weight"][mine]
            if case.get("validated"):
                arguments["validation"] = data["X_val"][rank::3], data["y_val"][rank::3]
            mlp = cr.MLP([4, 16, 2], hidden_activation="tanh", dtype=case.get("dtype", "float64"), seed=7 + rank)
            history = mlp.fit(data["X"][mine], data["y"][mine], optimizer=cr.Adam(lr=0.01), comm=comm, **arguments)
            return mlp.parameters, vars(history)

        results = comm.run(train)
        assert all(same_bits(parameters, results[0][0]) for parameters, _ in results)
        assert_like_one_process(*results[0], data, case)

    def test_l2_of_the_core_counts_once(self, data):
        """The penalty is of the network, not of a rank's samples."""
        comm = Threads(2)
        settings = {"batch_size": 10, "epochs": 2, "shuffle": False}
        everything = {
            **settings,
            "sample_weight": None,
            "validation": None,
            "patience": None,
            "schedule": None,
            "clip_norm": None,
            "on_epoch": None,
            "l2": 3.0,
        }
        one = cr.MLP([4, 8, 2], dtype="float64", seed=0)
        one._model.fit(data["X"], data["y"], optimizer=cr.SGD(lr=0.01), **everything)

        def train(rank):
            mine = [slice(0, 1), slice(1, 61)][rank]
            mlp = cr.MLP([4, 8, 2], dtype="float64", seed=0)
            ranks = Ranks(comm, mlp.parameters, 0, len(data["X"][mine]), {})
            mlp._model.fit(data["X"][mine], data["y"][mine], optimizer=cr.SGD(lr=0.01), ranks=ranks, **everything)
            return mlp.parameters

        for parameters in comm.run(train):
            assert_close(parameters, one.parameters, 1e-12)

    def test_a_callback_on_one_rank_stops_all(self, data):
        comm = Threads(2)

        def train(rank):
            mlp = cr.MLP([4, 8, 2], seed=0)
            callbacks = [lambda report: report.epoch == 2] if rank == 1 else []
            return mlp.fit(data["X"][rank::2], data["y"][rank::2], epochs=9, comm=comm, callbacks=callbacks).epochs

        assert comm.run(train) == [2, 2]

    def test_a_sample_of_another_rank_that_overflows(self, data):
        """All ranks say which one it was, by its place among the samples of all."""
        comm = Threads(3)
        X = data["X"].astype(np.float32)
        X[40, 2] = 3e38

        def train(rank):
            mlp = cr.MLP([4, 8, 2], seed=0)
            with pytest.raises(cr.NonFiniteError) as error:
                mlp.fit(X[rank * 20 : rank * 20 + 20], data["y"][rank * 20 : rank * 20 + 20], epochs=1, comm=comm)
            return error.value.where

        wheres = comm.run(train)
        assert {(where.tensor, where.layer, where.row) for where in wheres} == {("z", 1, 40)}

    def test_parameters_that_drift_apart_are_noticed(self, data):
        comm = Threads(3)

        def train(rank):
            mlp = cr.MLP([4, 8, 2], seed=0)

            def spoil(report):
                if rank == 2 and report.epoch == 3:
                    mlp.parameters[5] += 1

            mlp.fit(data["X"][rank::3], data["y"][rank::3], epochs=9, comm=comm, callbacks=[spoil])

        with pytest.raises(
            RuntimeError, match=r"^rank 2 has another parameter vector than rank 0; expected the same on all"
        ):
            comm.run(train)

    @pytest.mark.parametrize("shuffle", [True, False])
    def test_a_rank_whose_weights_are_all_zero(self, data, shuffle):
        weight = np.where(np.arange(61) < 20, 0.0, data["weight"])
        arguments = {"epochs": 3, "batch_size": 25, "shuffle": shuffle}
        one = cr.MLP([4, 16, 2], hidden_activation="tanh", dropout=0.3, dtype="float64", seed=0)
        validation = data["X"][:30], data["y"][:30], weight[:30]
        history = one.fit(data["X"], data["y"], sample_weight=weight, validation=validation, **arguments)
        comm = Threads(3)

        def train(rank):
            mine, held = slice(20 * rank, 20 * rank + 20 + rank // 2), slice(10 * rank, 10 * rank + 10)
            mlp = cr.MLP([4, 16, 2], hidden_activation="tanh", dropout=0.3, dtype="float64", seed=0)
            held_out = data["X"][held], data["y"][held], weight[held]
            together = mlp.fit(
                data["X"][mine],
                data["y"][mine],
                sample_weight=weight[mine],
                validation=held_out,
                comm=comm,
                **arguments,
            )
            return mlp.parameters, together

        for parameters, together in comm.run(train):
            assert_close(parameters, one.parameters, 1e-12)
            assert together.loss == pytest.approx(history.loss, rel=1e-12)
            assert together.validation_loss == pytest.approx(history.validation_loss, rel=1e-12)

    def test_weights_that_are_zero_on_all_ranks(self, data):
        """All say so, before the parameters of rank 0 go to the others."""
        comm = Threads(2)

        def train(rank):
            mlp, optimizer = cr.MLP([4, 8, 2], seed=rank), cr.Adam()
            before = state(mlp, optimizer)
            arguments = {"epochs": 1, "optimizer": optimizer, "comm": comm, "sample_weight": np.zeros(61)}
            with pytest.raises(ValueError, match="sample_weight is zero throughout; expected at least one weight > 0"):
                mlp.fit(data["X"], data["y"], **arguments)
            return state(mlp, optimizer) == before

        assert comm.run(train) == [True, True]

    def test_validation_weights_that_are_zero_on_all_ranks(self, data):
        comm = Threads(2)

        def train(rank):
            mlp = cr.MLP([4, 8, 2], seed=rank)
            before = mlp.parameters.copy()
            validation = data["X"], data["y"], np.zeros(61)
            with pytest.raises(ValueError, match="validation sample_weight is zero throughout; expected at least one"):
                mlp.fit(data["X"], data["y"], epochs=1, comm=comm, validation=validation)
            return same_bits(mlp.parameters, before)

        assert comm.run(train) == [True, True]

    @pytest.mark.parametrize("reproducible", [True, False])
    @pytest.mark.parametrize(
        "y", [np.zeros((61, 3)), np.zeros((60, 2)), np.full((61, 2), np.nan)], ids=["columns", "rows", "NaN"]
    )
    def test_samples_that_are_refused_leave_the_ranks_as_they_are(self, data, y, reproducible):
        comm = Threads(2)

        def train(rank):
            mlp, optimizer = cr.MLP([4, 8, 2], seed=rank), cr.Adam()
            before = state(mlp, optimizer)
            with pytest.raises(ValueError, match=r"^y "):
                mlp.fit(data["X"], y, epochs=1, optimizer=optimizer, comm=comm, reproducible=reproducible)
            return state(mlp, optimizer) == before

        assert comm.run(train) == [True, True]

    def test_the_check_of_the_parameters_does_not_copy_them(self):
        comm, parameters = Threads(1), np.zeros(10**6)

        def check(rank):
            ranks = Ranks(comm, parameters, 0, 1, {})
            tracemalloc.start()
            ranks.epoch_done(False)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            return peak

        assert comm.run(check)[0] < parameters.nbytes / 10

    @pytest.mark.parametrize(
        "change",
        [
            {"batch_size": 5},
            {"layers": [4, 9, 2]},
            {"optimizer": cr.SGD(lr=0.5)},
            {"validation": (np.ones((1, 4)), np.ones((1, 2)))},
            {"on_nonfinite": "stop"},
        ],
        ids=lambda change: next(iter(change)),
    )
    def test_ranks_that_do_not_agree(self, change, data):
        comm = Threads(2)

        def train(rank):
            arguments = {"layers": [4, 8, 2], "epochs": 2, "batch_size": 10, **(change if rank else {})}
            mlp = cr.MLP(arguments.pop("layers"), seed=0)
            mlp.fit(data["X"], data["y"], comm=comm, **arguments)

        name = {"layers": "layer_sizes"}.get(*[next(iter(change))] * 2)
        with pytest.raises(RuntimeError, match=f"^rank 1 has another {name} than rank 0; expected the same on all"):
            comm.run(train)

    def test_a_reproducible_fit_goes_on_with_other_ranks(self, data, tmp_path):
        """From its checkpoint, with the bits of one that was never stopped."""
        pytest.importorskip("safetensors", reason="safetensors is not installed: checkpoints are not checked")

        def fit(size, epochs, path, reproducible=True):
            comm = Threads(size)

            def train(rank):
                mine = slice(61 * rank // size, 61 * (rank + 1) // size)
                mlp = cr.MLP([4, 16, 2], hidden_activation="tanh", dropout=0.2, seed=rank)
                mlp.fit(
                    data["X"][mine],
                    data["y"][mine],
                    epochs=epochs,
                    batch_size=40,
                    comm=comm,
                    reproducible=reproducible,
                    checkpoint=path,
                    resume=True,
                )
                return mlp.parameters

            return comm.run(train)

        whole = fit(1, 6, tmp_path / "whole")[0]
        fit(2, 3, tmp_path / "parts")
        assert all(same_bits(parameters, whole) for parameters in fit(3, 6, tmp_path / "parts"))
        with pytest.raises(ValueError, match="was written with reproducible True"):
            fit(2, 7, tmp_path / "parts", reproducible=False)

    @pytest.mark.parametrize(("argument", "message"), [({}, "without comm"), ({"comm": 1}, "memory_limit is given")])
    def test_reproducible_and_what_does_not_go_with_it(self, argument, message, data):
        settings = {"epochs": 1, "memory_limit": "4GB", "reproducible": True, **argument}
        with pytest.raises(ValueError, match=message):
            cr.MLP([4, 8, 2]).fit(data["X"], data["y"], **settings)

    def test_no_communicator(self, data):
        with pytest.raises(TypeError, match=r"comm is 3 .*without rank, size, allreduce"):
            cr.MLP([4, 8, 2]).fit(data["X"], data["y"], epochs=1, comm=3)


def test_shares_are_all_rows_and_views():
    X = np.arange(22).reshape(11, 2)

    class Comm:
        size = 4

    shares = []
    for Comm.rank in range(4):
        shares.append(cr.shard(X, Comm))
    assert np.shares_memory(shares[0], X)
    assert sorted(map(len, shares)) == [2, 3, 3, 3]
    assert same_bits(np.concatenate(shares), X)
    with pytest.raises(ValueError, match="array has 3 rows; expected at least one for each of the 4 processes"):
        cr.shard(X[:3], Comm)
    with pytest.raises(TypeError, match=r"comm is None .*without rank, size"):
        cr.shard(X, None)
    for bad in (5, np.array(3.0)):
        with pytest.raises(TypeError, match=r"^array is .*; expected rows"):
            cr.shard(bad, Comm)


def test_gloo_example(root, run_python):
    """The example's own comparison with one process."""
    pytest.importorskip("torch", reason="PyTorch is not installed: the gloo example is not run")
    output = run_python(root / "examples" / "gloo.py").stdout
    assert "2 processes: loss" in output
    assert float(output.split()[-1]) < 1e-12


@pytest.mark.parametrize(
    ("rank", "size", "error", "words"),
    [
        (5, 2, ValueError, "^comm.rank is 5 .*; expected an integer <= 1"),
        (-1, 2, ValueError, "^comm.rank is -1"),
        (0, 0, ValueError, "^comm.size is 0"),
        ("0", 1, TypeError, "^comm.rank is '0'"),
        (0, 1.0, TypeError, "^comm.size is 1.0"),
    ],
)
def test_ranks_that_cannot_be(rank, size, error, words):
    comm = SimpleNamespace(rank=rank, size=size, allreduce=abs, bcast=abs, barrier=abs)
    with pytest.raises(error, match=words):
        cr.MLP([2, 1]).fit([[1, 2]], [1], epochs=1, comm=comm)


class TestCommunicators:
    def test_one_that_returns_the_sum_is_refused(self, data):
        """As mpi4py's allreduce in lower case does, which leaves what it is given as it was."""
        threads = Threads(2)

        class Returns:
            size, bcast, barrier = 2, threads.bcast, threads.barrier
            rank = property(lambda _: threads.rank)

            def allreduce(self, array):
                total = array.copy()
                threads.allreduce(total)
                return total

        def train(rank):
            """On every rank, or the others would wait for the one that has noticed."""
            with pytest.raises(ValueError, match=r"comm\.allreduce\(array\) left . where the processes gave 1 to 2"):
                cr.MLP([4, 2], seed=0).fit(data["X"], data["y"], epochs=1, comm=Returns())

        threads.run(train)

    def test_a_job_and_a_process_alone_go_on_from_each_other(self, data, tmp_path):
        pytest.importorskip("safetensors", reason="safetensors is not installed: checkpoints are not checked")
        settings = {"batch_size": 10, "checkpoint": tmp_path / "fit", "resume": True}

        def alone(epochs):
            mlp = cr.MLP([4, 8, 2], dtype="float64", seed=0)
            mlp.fit(data["X"], data["y"], epochs=epochs, **settings)
            return mlp.parameters.copy()

        def together(epochs):
            threads = Threads(3)

            def train(rank):
                mlp = cr.MLP([4, 8, 2], dtype="float64", seed=0)
                mine = slice(rank * len(data["X"]) // 3, (rank + 1) * len(data["X"]) // 3)
                mlp.fit(data["X"][mine], data["y"][mine], epochs=epochs, comm=threads, **settings)

            threads.run(train)

        together(1)
        alone(2)
        together(3)
        ended = alone(4)
        (tmp_path / "fit").unlink()
        assert_close(ended, alone(4), 1e-12)

    @pytest.mark.parametrize("array", ["X.npy", (np.ones(3), np.ones(3))], ids=["path", "tuple"])
    def test_shards_are_of_one_array(self, array):
        with pytest.raises(TypeError, match=r"^array is .*; expected one array, such as of numpy\.load"):
            cr.shard(array, Alone())

    def test_shards_of_a_sparse_matrix_of_any_format(self):
        sparse = pytest.importorskip("scipy.sparse", reason="SciPy is not installed: sparse matrices are not tried")
        assert cr.shard(sparse.coo_matrix(np.eye(4)), Alone()).shape == (4, 4)
