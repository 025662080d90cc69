"""Many fits at once: each equal to the bit to a fit of its own; errors that name the network; stopping."""

import pickle
import signal
import subprocess
import sys

import numpy as np
import pytest
from helpers import same_bits, state
from nets import few_samples, smooth_data

import chainrule as cr
from chainrule.fit_many import _Samples

SIZES = [(4, 8, 2), (4, 16, 16, 2), (4, 2)]


def networks(n=6, **settings):
    return [
        cr.MLP(list(SIZES[k % 3]), hidden_activation="tanh", dtype=["float64", "float32"][k % 2], seed=k, **settings)
        for k in range(n)
    ]


def assert_like_separate_fits(mlps, histories, X, y, separate):
    """Every network and history is what `separate`, the arguments of fit, network by network, give alone."""
    assert len(histories) == len(mlps)
    for k, twin in enumerate(networks(len(mlps))):
        samples = separate[k].pop("samples", (X, y))
        history = twin.fit(*samples, **separate[k])
        assert same_bits(mlps[k].parameters, twin.parameters), k
        assert histories[k] == history, k


class TestEqualToSeparateFits:
    @pytest.mark.parametrize("threads", [1, 2, 3])
    def test_one_setting_for_all(self, threads):
        X, y = smooth_data()
        weight = np.random.default_rng(0).uniform(size=len(X))
        settings = {"epochs": 3, "batch_size": 10, "sample_weight": weight, "clip_norm": 0.5, "schedule": "cosine"}
        mlps = networks()
        with cr.num_threads(threads):
            histories = cr.fit_many(mlps, X, y, optimizer=cr.Adam(lr=0.01), **settings)
        separate = [{**settings, "optimizer": cr.Adam(lr=0.01)} for _ in mlps]
        assert_like_separate_fits(mlps, histories, X, y, separate)

    def test_own_settings(self):
        X, y = smooth_data()
        rates = [0.1, 0.03, 0.01, 0.003, 0.001, 0.0003]
        own = {
            "epochs": [1, 2, 3, 4, 5, 30],
            "batch_size": [1, 7, 64, 1000, 32, 16],
            "shuffle": [True, False] * 3,
            "patience": [None, 1, 2, None, 1, 1],
            "schedule": [None, "step", "one_cycle", None, cr.Warmup(epochs=2), "plateau"],
            "clip_norm": [None, 0.1, None, 1.0, None, 0.5],
            "validation": [None, (X[:20], y[:20]), (X[20:], y[20:], np.arange(44)), None, (X, y), (X[:5], y[:5])],
        }
        mlps = networks()
        optimizers = [cr.RMSprop(lr=rate) for rate in rates]
        histories = cr.fit_many(mlps, X, y, optimizer=optimizers, **own)
        separate = [
            {**{name: values[k] for name, values in own.items()}, "optimizer": cr.RMSprop(lr=rates[k])}
            for k in range(6)
        ]
        assert_like_separate_fits(mlps, histories, X, y, separate)
        assert [each.t > 0 for each in optimizers] == [True] * 6

    def test_folds_and_bootstrap_samples(self):
        X, y = smooth_data()
        rng = np.random.default_rng(1)
        weight = rng.uniform(0.1, 1, size=64)
        rows = [rng.integers(64, size=50 + k) for k in range(5)] + [None]
        held_out = [np.setdiff1d(np.arange(64), chosen) for chosen in rows[:5]] + [None]
        mlps = networks()
        histories = cr.fit_many(
            mlps, X, y, epochs=20, patience=2, sample_weight=weight, rows=rows, validation_rows=held_out
        )
        separate = []
        for train, test in zip(rows, held_out, strict=True):
            settings = {"epochs": 20, "patience": 2, "sample_weight": weight}
            if train is not None:
                settings["samples"] = (X[train], y[train])
                settings["sample_weight"] = weight[train]
                settings["validation"] = (X[test], y[test], weight[test])
            separate.append(settings)
        assert_like_separate_fits(mlps, histories, X, y, separate)

    @pytest.mark.parametrize("labels", [np.arange(64) % 3, np.eye(3)[np.arange(64) % 3]], ids=["labels", "one-hot"])
    def test_classes_by_rows(self, labels):
        X = smooth_data()[0]
        make = lambda: [cr.MLP([4, 8, 3], loss="cross_entropy", seed=seed) for seed in range(3)]  # noqa: E731
        rows = [np.arange(k, 64, 2) for k in range(3)]
        mlps, twins = make(), make()
        cr.fit_many(mlps, X, labels, epochs=2, rows=rows)
        for mlp, twin, chosen in zip(mlps, twins, rows, strict=True):
            twin.fit(X[chosen], labels[chosen], epochs=2)
            assert same_bits(mlp.parameters, twin.parameters)

    @pytest.mark.parametrize(
        "change",
        [lambda X: X, lambda X: (9 * X).astype(np.uint8), np.asfortranarray, lambda X: X > 0],
        ids=["float64", "uint8", "columns", "bool"],
    )
    def test_networks_of_a_dtype_share_the_samples(self, change):
        X, y = smooth_data(40)
        samples = _Samples(change(X), y)
        for dtype in ("float32", "float64"):
            mlp = cr.MLP([4, 2], dtype=dtype)
            given = *samples.of(mlp), *samples.held_out((X, np.asfortranarray(y)), mlp)
            again = *samples.of(mlp), *samples.held_out((X, y), mlp)
            assert all(mlp._model.uses_in_place(array) for array in given)
            assert all(first is second for first, second in zip(given[:3], again[:3], strict=True))
        column = _Samples(X[:, :1], np.arange(40.0))
        mlp = cr.MLP([1, 2], dtype="float32")
        assert mlp._model.uses_in_place(column.of(mlp)[0])
        assert column.of(mlp)[1].dtype == np.float64  # perhaps labels, for the core to look at
        view = X[::2, :3]
        assert _Samples(view, y).of(cr.MLP([3, 2], dtype="float64"))[0] is view  # which the core takes in place

    def test_sparse_input(self):
        sparse = pytest.importorskip("scipy.sparse", reason="SciPy is not installed: sparse input is not checked")
        X, y = smooth_data()
        X[X < 0] = 0
        mlps, twins = networks(), networks()
        cr.fit_many(mlps, sparse.csr_matrix(X), y, epochs=2)
        cr.fit_many(twins, X, y, epochs=2)
        for mlp, twin in zip(mlps, twins, strict=True):
            assert same_bits(mlp.parameters, twin.parameters)

    def test_goes_on_where_it_ended(self):
        X, y = smooth_data()
        once, twice = networks(), networks()
        cr.fit_many(once, X, y, epochs=4, optimizer=[cr.Adam() for _ in once])
        optimizers = [cr.Adam() for _ in twice]
        for _ in range(2):
            cr.fit_many(twice, X, y, epochs=2, optimizer=optimizers)
        assert all(same_bits(a.parameters, b.parameters) for a, b in zip(once, twice, strict=True))

    def test_the_pattern_of_an_optimizer_stays_as_it_was(self):
        X, y = smooth_data()
        pattern = cr.Adam(lr=0.01)
        owner = networks(1)[0]
        owner.fit(X, y, epochs=1, optimizer=pattern)
        steps = pattern.t
        mlps, twins = networks(), networks()
        cr.fit_many(mlps, X, y, epochs=1, optimizer=pattern)
        cr.fit_many(twins, X, y, epochs=1, optimizer=cr.Adam(lr=0.01))
        assert pattern.t == steps
        assert all(same_bits(a.parameters, b.parameters) for a, b in zip(mlps, twins, strict=True))


class TestErrors:
    @pytest.mark.parametrize(
        ("change", "error", "message"),
        [
            ({"mlps": []}, ValueError, "mlps is empty"),
            ({"mlps": 3}, TypeError, "mlps is 3"),
            ({"epochs": [1, 2]}, ValueError, "epochs has 2 entries; mlps has 6"),
            ({"epochs": [1, 1, 0, 1, 1, 1]}, ValueError, r"mlps\[2\]: epochs is 0"),
            ({"rows": [None] * 5}, ValueError, "rows has 5 entries; mlps has 6"),
            ({"rows": [None] * 5 + [[64]]}, ValueError, r"rows\[5\] holds 64 ... 64; expected rows from 0 to 63"),
            ({"rows": [[]] * 6}, ValueError, r"rows\[0\] is empty; expected at least one row"),
            ({"rows": [np.ones(63, bool)] * 6}, TypeError, r"rows\[0\] has shape \(63,\) and dtype bool"),
            ({"rows": np.zeros(6, int)}, TypeError, "expected a list with the rows of each network"),
            ({"on_nonfinite": ["stop"] * 5 + ["halt"]}, ValueError, "unknown name 'halt'"),
            ({"mlps": [{"layer_sizes": [4, 2]}, {"layer_sizes": [4]}]}, ValueError, r"mlps\[1\]: layer_sizes"),
            ({"mlps": [[4, 2]]}, TypeError, r"mlps\[0\] is \[4, 2\] \(list\); expected an MLP, or a dictionary"),
            ({"validation": (1, 2), "validation_rows": [None] * 6}, ValueError, "both given"),
            ({"X": np.zeros((64, 3))}, ValueError, r"mlps\[0\]: X has 3 columns"),
            ({"y": np.full((64, 2), 1e39)}, ValueError, r"mlps\[1\]: y holds inf"),
            ({"optimizer": ["adam"] * 5 + ["adan"]}, ValueError, r"mlps\[5\]: optimizer: unknown name 'adan'"),
            ({"validation": list(smooth_data())}, ValueError, "validation has 2 entries; mlps has 6"),
        ],
        ids=str,
    )
    def test_bad_arguments_are_named_and_change_nothing(self, change, error, message):
        mlps = networks()
        before = [state(mlp) for mlp in mlps]
        X, y = smooth_data()
        arguments = {"mlps": mlps, "X": X, "y": y, "epochs": 2, **change}
        with pytest.raises(error, match=message):
            cr.fit_many(**arguments)
        assert [state(mlp) for mlp in mlps] == before

    def test_the_same_network_twice(self):
        mlps = networks(3)
        with pytest.raises(ValueError, match=r"mlps\[3\] is the same network as mlps\[1\]"):
            cr.fit_many([*mlps, mlps[1]], *smooth_data(), epochs=1)

    @pytest.mark.parametrize("rows", [None, [np.arange(64)[::-1]] * 3])
    def test_one_that_diverges_tells_in_its_history(self, rows):
        X, y = smooth_data()
        y[5] = 1e30
        mlps = [cr.MLP([4, 8, 2], seed=seed) for seed in range(3)]
        good = [np.delete(np.arange(64), 5)] if rows is None else [rows[0][rows[0] != 5]]
        taken = (rows or [None] * 3)[:2] + good
        histories = cr.fit_many(mlps, X, y, epochs=2, rows=taken, on_nonfinite=["stop", "ignore", "raise"])
        assert [history.steps_left_out for history in histories] == [1, 2, 0]
        assert [history.non_finite and history.non_finite.row for history in histories] == [5, 5, None]
        assert [history.epochs for history in histories] == [0, 2, 2]

    def test_one_that_diverges_is_named_and_the_others_are_trained(self):
        X, y = smooth_data()
        mlps = [cr.MLP([4, 8, 2], seed=seed) for seed in range(4)]
        rates = [0.01, 0.01, 1e30, 0.01]
        with pytest.raises(cr.NonFiniteError, match=r"mlps\[2\]: the loss became"):
            cr.fit_many(mlps, X, y, epochs=3, optimizer=[cr.SGD(lr=rate) for rate in rates])
        for k in (0, 1, 3):
            twin = cr.MLP([4, 8, 2], seed=k)
            twin.fit(X, y, epochs=3, optimizer=cr.SGD(lr=0.01))
            assert same_bits(mlps[k].parameters, twin.parameters)

    @pytest.mark.parametrize("change", [{"epochs": 2}, {"batch_size": [8, 0]}], ids=str)
    def test_a_kept_error_keeps_no_optimizer_at_work(self, change):
        X, y = smooth_data()
        optimizer = cr.SGD(lr=1e30)
        with pytest.raises((cr.NonFiniteError, ValueError), match=r"mlps\[[01]\]: ") as caught:
            cr.fit_many(
                [cr.MLP([4, 2]), cr.MLP([4, 2])], X, y, **{"epochs": 1, "optimizer": [optimizer, "sgd"], **change}
            )
        optimizer.reset()
        optimizer.lr = 0.01
        assert cr.MLP([4, 2]).fit(X, y, epochs=1, optimizer=optimizer).lr == [0.01]
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)

    def test_the_row_of_a_bad_number_is_that_of_the_samples(self):
        X, y = smooth_data()
        y[37] = 1e300
        with pytest.raises(cr.NonFiniteError, match=r"mlps\[0\]: .* at sample 37") as caught:
            cr.fit_many([cr.MLP([4, 2], dtype="float64")], X, y, epochs=1, rows=[np.arange(63, 10, -1)])
        assert caught.value.where.row == 37

    def test_a_network_in_the_midst_of_a_fit(self):
        X, y = smooth_data()
        mlp, *others = networks(2)
        seen = []

        def callback(report):
            with pytest.raises(RuntimeError, match=r"this network is in the midst of a fit"):
                cr.fit_many([mlp], X, y, epochs=1)
            seen.append(cr.fit_many(others, X, y, epochs=1)[0].epochs)

        mlp.fit(X, y, epochs=2, callbacks=[callback])
        assert seen == [1, 1]

    def test_weights_that_leave_a_fold_empty(self):
        X, y = smooth_data()
        weight = np.r_[np.zeros(32), np.ones(32)]
        with pytest.raises(ValueError, match=r"mlps\[1\]: sample_weight is zero"):
            cr.fit_many(networks(2), X, y, epochs=1, sample_weight=weight, rows=[range(32, 64), range(32)])


def test_progress_reaches_the_end(capsys):
    X, y = smooth_data()
    cr.fit_many(networks(3), X, y, epochs=5, progress=True)
    assert "15/15" in capsys.readouterr().err


def test_progress_without_tqdm_names_no_extra(monkeypatch):
    """tqdm comes with the package itself."""
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    with pytest.raises(ImportError, match=r"tqdm\.auto") as caught:
        cr.fit_many(networks(1), *smooth_data(), epochs=1, progress=True)
    assert "pip install" not in str(caught.value)


def output_after_interrupt(program, folder):
    """What a program prints once it has got a Ctrl-C half a second after it said that it is ready."""
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=folder)
    assert process.stdout.readline() == "ready\n"
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.5)
    process.send_signal(signal.SIGINT)
    return process.communicate(timeout=20)[0]


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_interrupt(tmp_path):
    """Ctrl-C ends all fits; the networks are usable afterwards."""
    program = """
import signal, numpy as np, chainrule as cr
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a process in the background has not
X, y = np.random.default_rng(0).normal(size=(2000, 4)), np.ones((2000, 2))
mlps = [cr.MLP([4, 8, 2], seed=seed) for seed in range(3)]
print("ready", flush=True)
try:
    cr.fit_many(mlps, X, y, epochs=10**9)
except KeyboardInterrupt:
    cr.fit_many(mlps, X, y, epochs=1)
    print("interrupted", all(np.isfinite(mlp.parameters).all() for mlp in mlps))
"""
    assert output_after_interrupt(program, tmp_path) == "interrupted True\n"


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_interrupt_while_another_fit_has_the_network(tmp_path):
    program = """
import signal, threading, numpy as np, chainrule as cr
signal.signal(signal.SIGINT, signal.default_int_handler)
X, y = np.random.default_rng(0).normal(size=(2000, 4)), np.ones((2000, 2))
mlp, begun, end = cr.MLP([4, 8, 2]), threading.Event(), threading.Event()
callbacks = [lambda report: begun.set() or end.is_set()]
fit = threading.Thread(target=mlp.fit, args=(X, y), kwargs={"epochs": 10**9, "callbacks": callbacks})
fit.start()
begun.wait()
print("ready", flush=True)
try:
    cr.fit_many([mlp], X, y, epochs=1)
except KeyboardInterrupt:
    print("interrupted", fit.is_alive())
end.set()
fit.join()
"""
    assert output_after_interrupt(program, tmp_path) == "interrupted True\n"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"X": 5}, r"^X is 5 \(int\); expected two dimensions"),
        ({"X": [[1, 2, 3], [1]]}, "^X is not rectangular"),
        ({"y": [[1, 2], [1]]}, "^y is not rectangular"),
        ({"rows": [[0, [1]]]}, r"^rows\[0\] is not rectangular"),
    ],
)
def test_samples_that_are_no_arrays(change, words):
    given = {"X": [[1, 2], [3, 4]], "y": [1, 2], **change}
    with pytest.raises(ValueError, match=words):
        cr.fit_many([cr.MLP([2, 1])], given.pop("X"), given.pop("y"), epochs=1, **given)


def test_networks_from_their_arguments():
    X, y = smooth_data()
    specs = [{"layer_sizes": [4, 8, 2], "seed": 3}, {"layer_sizes": [4, 5, 2], "dtype": "float64", "seed": 4}]
    mixed = [specs[0], cr.MLP(**specs[1])]
    histories = cr.fit_many(mixed, X, y, epochs=2)
    assert histories[1].mlp is None
    for mlp, spec, history in zip((histories[0].mlp, mixed[1]), specs, histories, strict=True):
        twin = cr.MLP(**spec)
        assert twin.fit(X, y, epochs=2) == history
        assert same_bits(mlp.parameters, twin.parameters)


def test_settings_in_any_sequence():
    X, y = smooth_data()
    half = np.arange(64) % 2 == 0
    settings = {"epochs": range(1, 3), "batch_size": (8, 16), "micro_batch": (None, 5), "shuffle": (True, False)}
    settings["optimizer"] = (cr.SGD(lr=0.1), cr.Adam())
    mlps = [cr.MLP([4, 8, 2], dtype="float64", seed=seed) for seed in range(2)]
    histories = cr.fit_many(mlps, X, y, rows=[half, ~half], **settings)
    for k, mine in enumerate((half, ~half)):
        twin = cr.MLP([4, 8, 2], dtype="float64", seed=k)
        own = {name: values[k] for name, values in settings.items()}
        own["optimizer"] = (cr.SGD(lr=0.1), cr.Adam())[k]
        assert twin.fit(X[mine], y[mine], **own) == histories[k]
        assert same_bits(mlps[k].parameters, twin.parameters)
    ordered = np.stack([np.flatnonzero(half), np.flatnonzero(~half)])
    again = [cr.MLP([4, 8, 2], dtype="float64", seed=seed) for seed in range(2)]
    settings["optimizer"] = (cr.SGD(lr=0.1), cr.Adam())
    cr.fit_many(again, X, y, rows=ordered, **settings)
    assert [same_bits(a.parameters, b.parameters) for a, b in zip(again, mlps, strict=True)] == [True, True]


@pytest.mark.parametrize("name", ["X", "y"])
def test_samples_that_are_missing(name):
    samples = {"X": np.ones((4, 2)), "y": np.ones(4), name: None}
    with pytest.raises(TypeError, match=f"^{name} is None; expected real numbers$"):
        cr.fit_many([cr.MLP([2, 1], seed=0)], **samples, epochs=1)


def test_fit_many_settings_as_an_array():
    X, y = few_samples()
    h = cr.fit_many([{"layer_sizes": [3, 4, 1], "seed": s} for s in (0, 1)], X, y, epochs=np.array([1, 2]))
    assert [one.epochs for one in h] == [1, 2]


def test_fit_many_validation_as_lists():
    X, y = few_samples()
    a, b = (cr.MLP([3, 4, 1], seed=0) for _ in range(2))
    [h] = cr.fit_many([a], X, y, epochs=2, validation=(X[:8].tolist(), y[:8].tolist()))
    assert h == b.fit(X, y, epochs=2, validation=(X[:8], y[:8]))


def test_fit_many_rows_of_sparse():
    X, y = few_samples()
    sp = pytest.importorskip("scipy.sparse")
    with pytest.raises(TypeError, match="rows is given and X is sparse"):
        cr.fit_many([cr.MLP([3, 1])], sp.csr_array(X), y, epochs=1, rows=[np.arange(5)])
