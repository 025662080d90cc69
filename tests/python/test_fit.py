"""The training loop: what an epoch is, weights, validation, patience, callbacks, progress, stopping."""

import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import reference
from cases import TASKS, case_ids, make_problem
from helpers import assert_close, interrupted_soon, same_bits
from nets import few_samples, library_net, small_net, smooth_data

import chainrule as cr


def regression(seed=3, **settings):
    return cr.MLP([4, 16, 2], hidden_activation="tanh", dtype="float64", seed=seed, **settings)


class TestLearning:
    def test_xor(self):
        X, y = [[0, 0], [0, 1], [1, 0], [1, 1]], [0, 1, 1, 0]
        mlp = cr.MLP([2, 8, 1], hidden_activation="tanh", loss="bce", seed=0)
        history = mlp.fit(X, y, epochs=500, optimizer=cr.Adam(lr=0.05))
        assert history.loss[-1] < 0.01
        assert mlp.predict(X).round().ravel().tolist() == y

    @pytest.mark.parametrize(
        ("name", "settings"),
        [("SGD", {"lr": 0.1, "momentum": 0.9}), ("RMSprop", {}), ("Adam", {"lr": 0.01}), ("AdamW", {"lr": 0.01})],
    )
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_regression(self, dtype, name, settings):
        X, y = smooth_data(256)
        mlp = cr.MLP([4, 32, 2], hidden_activation="tanh", dtype=dtype, seed=0)
        before = mlp.evaluate(X, y)
        history = mlp.fit(X, y, epochs=100, optimizer=getattr(cr, name)(**settings))
        assert mlp.evaluate(X, y) < 0.1 * before
        assert history.loss[-1] < 0.2 * history.loss[0]

    @pytest.mark.parametrize("task", TASKS, ids=case_ids)
    def test_every_loss_goes_down(self, task):
        problem = make_problem(task, "tanh", (5, 30), 20, weighted=True)
        mlp = library_net(problem.net)
        history = mlp.fit(
            problem.X,
            problem.y,
            epochs=60,
            batch_size=10,
            sample_weight=problem.sample_weight,
            optimizer=cr.Adam(lr=0.02),
        )
        assert history.loss[-1] < history.loss[0]
        assert mlp.evaluate(problem.X, problem.y, problem.sample_weight) < history.loss[0]

    def test_quantile_regression_covers_what_it_promises(self):
        """Quantiles 0.1 and 0.9 of noise around a line hold about eighty percent of the targets."""
        rng = np.random.default_rng(0)
        X = rng.uniform(-1, 1, size=(2000, 1))
        y = X[:, 0] + rng.normal(size=2000)
        mlp = cr.MLP([1, 2], loss=cr.Quantile([0.1, 0.9]), seed=0)
        mlp.fit(X, y, epochs=60, batch_size=100, optimizer=cr.Adam(lr=0.02))
        low, high = mlp.predict(X).T
        assert np.mean(y < low) == pytest.approx(0.1, abs=0.03)
        assert np.mean(y > high) == pytest.approx(0.1, abs=0.03)


class TestEpochs:
    @pytest.mark.parametrize("shuffle", [True, False], ids=["shuffled", "in order"])
    @pytest.mark.parametrize("optimizer", ["SGD", "RMSprop", "Adam", "AdamW"])
    def test_three_fits_of_one_epoch_are_one_fit_of_three(self, optimizer, shuffle):
        X, y = smooth_data()
        once, thrice = regression(), regression()
        optimizers = [getattr(cr, optimizer)(lr=0.01) for _ in range(2)]
        history = once.fit(X, y, epochs=3, batch_size=10, optimizer=optimizers[0], shuffle=shuffle)
        losses = [
            thrice.fit(X, y, epochs=1, batch_size=10, optimizer=optimizers[1], shuffle=shuffle).loss[0]
            for _ in range(3)
        ]
        assert losses == history.loss and len(set(losses)) == 3
        assert same_bits(once.parameters, thrice.parameters)

    def test_epochs_differ_in_their_order(self):
        """From the same parameters, the first, second and third epoch end elsewhere."""
        X, y = smooth_data(50)
        orders = []
        for epochs in (1, 2, 3):
            mlp = regression()
            for _ in range(epochs):
                mlp.parameters[:] = regression().parameters
                mlp.fit(X, y, epochs=1, batch_size=7, optimizer=cr.SGD(lr=0.5))
            orders.append(mlp.parameters.tobytes())
        assert len(set(orders)) == 3

    def test_seed_decides_the_order(self):
        X, y = smooth_data(50)

        def trained(seed):
            mlp = regression(seed=seed)
            mlp.parameters[:] = regression(seed=0).parameters
            mlp.fit(X, y, epochs=2, batch_size=7)
            return mlp.parameters.tobytes()

        assert trained(1) == trained(1)
        assert trained(1) != trained(2)

    @pytest.mark.parametrize(("n", "batch_size"), [(10, 3), (10, 10), (10, 100), (7, 1), (64, 32), (65, 32), (1, 4)])
    def test_shuffling_visits_every_row_once(self, n, batch_size):
        """Row i of the identity moves weight i alone, by 2 lr / n_b in a batch of n_b rows: once if visited once."""
        mlp = cr.MLP([n, 1], dtype="float64", seed=0)
        mlp.parameters[:] = 0
        rows_in_batch = np.minimum(batch_size, n)
        mlp.fit(np.eye(n), np.ones(n), epochs=1, batch_size=batch_size, optimizer=cr.SGD(lr=1e-9))
        moved = mlp.weights[0][:, 0]
        assert np.all(moved > 0), "each row moved its own weight"
        least, most = 2e-9 / rows_in_batch, 2e-9 / (n % batch_size or rows_in_batch)
        assert moved.min() == pytest.approx(least, rel=1e-6) and moved.max() == pytest.approx(most, rel=1e-6)
        assert np.sum(moved > 1.0001 * least) == (n % rows_in_batch)

    def test_last_short_batch_equals_the_reference(self):
        problem = make_problem(TASKS[0], "tanh", (5, 7), 23, weighted=False)
        mlp = library_net(problem.net)
        history = mlp.fit(problem.X, problem.y, epochs=2, batch_size=10, optimizer=cr.SGD(lr=0.1), shuffle=False)
        rates = reference.constant(0.1, 2, 3)
        losses = reference.train(problem.net, problem.X, problem.Y, reference.SGD(), rates, 10)
        assert_close(mlp.parameters, problem.net.parameters, 1e-12)
        assert_close(history.loss, losses, 1e-12)

    def test_a_batch_larger_than_the_data_is_the_data(self):
        X, y = smooth_data(20)
        whole, larger = regression(), regression()
        whole.fit(X, y, epochs=3, batch_size=20)
        larger.fit(X, y, epochs=3, batch_size=10**6)
        assert same_bits(whole.parameters, larger.parameters)

    def test_first_loss_of_a_whole_batch_is_the_loss_before_training(self):
        X, y = smooth_data()
        mlp = regression()
        before = mlp.evaluate(X, y)
        history = mlp.fit(X, y, epochs=2, batch_size=len(X), shuffle=False)
        assert_close(history.loss[0], before, 1e-14)

    def test_copy_goes_on_as_its_original(self):
        X, y = smooth_data()
        mlp = regression()
        mlp.fit(X, y, epochs=2, batch_size=10, optimizer="sgd")
        twin = mlp.copy()
        mlp.fit(X, y, epochs=2, batch_size=10, optimizer="sgd")
        assert not same_bits(twin.parameters, mlp.parameters)
        twin.fit(X, y, epochs=2, batch_size=10, optimizer="sgd")
        assert same_bits(twin.parameters, mlp.parameters)


class TestSampleWeights:
    def test_weights_are_repeated_rows(self):
        X, y = smooth_data(20)
        times = np.random.default_rng(0).integers(0, 4, size=20)
        weighted, repeated = regression(), regression()
        settings = {"epochs": 10, "batch_size": 1000, "shuffle": False}
        first = weighted.fit(X, y, sample_weight=times, optimizer=cr.SGD(lr=0.1), **settings)
        second = repeated.fit(
            np.repeat(X, times, axis=0), np.repeat(y, times, axis=0), optimizer=cr.SGD(lr=0.1), **settings
        )
        assert_close(first.loss, second.loss, 1e-12)
        assert_close(weighted.parameters, repeated.parameters, 1e-12)

    def test_weights_follow_their_rows_through_the_shuffle(self):
        """Rows of weight zero hold wrong targets: the net must learn as if they were right."""
        X, y = smooth_data(60)
        weight = np.tile([1.0, 0.0], 30)
        spoilt = np.where(weight[:, None] > 0, y, 1e3)
        clean, dirty = regression(), regression()
        clean.fit(X, y, epochs=5, batch_size=60, sample_weight=weight)
        dirty.fit(X, spoilt, epochs=5, batch_size=60, sample_weight=weight)
        assert_close(dirty.parameters, clean.parameters, 1e-12)

    def test_a_batch_without_weight_changes_nothing(self):
        X, y = smooth_data(30)
        weight = np.repeat([1.0, 0.0, 1.0], 10)
        with_gap, without = regression(), regression()
        history = with_gap.fit(
            X, y, epochs=3, batch_size=10, sample_weight=weight, shuffle=False, optimizer=cr.SGD(lr=0.1)
        )
        kept = weight > 0
        without.fit(X[kept], y[kept], epochs=3, batch_size=10, shuffle=False, optimizer=cr.SGD(lr=0.1))
        assert np.all(np.isfinite(history.loss))
        assert_close(with_gap.parameters, without.parameters, 1e-12)


class TestValidation:
    def test_losses_are_evaluate_s(self):
        (X, y), (X_val, y_val) = smooth_data(40), smooth_data(15, seed=1)
        weight = np.linspace(0.5, 2, 15)
        for validation in [(X_val, y_val), [X_val, y_val], (X_val, y_val, weight)]:
            mlp, seen = regression(), []
            history = mlp.fit(
                X,
                y,
                epochs=3,
                validation=validation,
                callbacks=[lambda report, v=validation, seen=seen: seen.append(report.mlp.evaluate(*v))],
            )
            assert_close(history.validation_loss, seen, 1e-14)
            assert_close(history.validation_loss[-1], mlp.evaluate(*validation), 1e-14)

    def test_validation_does_not_change_training(self):
        X, y = smooth_data(40)
        with_it, without = regression(), regression()
        history = with_it.fit(X, y, epochs=3, validation=smooth_data(15, seed=1))
        assert without.fit(X, y, epochs=3).validation_loss == []
        assert len(history.validation_loss) == 3
        assert same_bits(with_it.parameters, without.parameters)

    def overfit(self, **settings):
        """Few noisy rows and a high rate: the validation loss falls, then climbs."""
        rng = np.random.default_rng(0)
        X, X_val = rng.normal(size=(20, 4)), rng.normal(size=(50, 4))
        y, y_val = X[:, :2] + rng.normal(size=(20, 2)), X_val[:, :2]
        mlp = regression()
        reports = []

        def remember(report):
            reports.append((report.validation_loss, report.mlp.parameters.copy()))

        history = mlp.fit(X, y, validation=(X_val, y_val), optimizer=cr.Adam(lr=0.03), callbacks=[remember], **settings)
        return mlp, history, reports, mlp.evaluate(X_val, y_val)

    def test_patience_stops_and_restores_the_best(self):
        mlp, history, reports, final = self.overfit(epochs=300, patience=7)
        best = int(np.argmin(history.validation_loss))
        assert history.stopped_early and history.epochs == len(history.loss) < 300
        assert history.epochs == best + 1 + 7
        assert history.best_epoch == best + 1
        assert same_bits(mlp.parameters, reports[best][1])
        assert_close(final, min(history.validation_loss), 1e-14)

    def test_patience_restores_the_best_at_the_last_epoch_too(self):
        _, whole, _, _ = self.overfit(epochs=100)
        epochs = int(np.argmin(whole.validation_loss)) + 1 + 3
        mlp, history, reports, final = self.overfit(epochs=epochs, patience=1000)
        assert history.epochs == epochs and not history.stopped_early
        assert history.best_epoch == epochs - 3
        assert same_bits(mlp.parameters, reports[epochs - 4][1])
        assert_close(final, min(history.validation_loss), 1e-14)

    def test_without_patience_the_last_parameters_stay(self):
        mlp, history, reports, _ = self.overfit(epochs=60)
        assert history.epochs == 60 and not history.stopped_early
        assert min(history.validation_loss) < history.validation_loss[-1]
        assert same_bits(mlp.parameters, reports[-1][1])

    def test_patience_without_validation_watches_the_training_loss(self):
        X, y = smooth_data(20)
        mlp = regression()
        history = mlp.fit(X, y, epochs=400, batch_size=20, patience=3, optimizer=cr.SGD(lr=2.0))
        assert history.stopped_early
        assert history.epochs == int(np.argmin(history.loss)) + 1 + 3
        assert history.validation_loss == []


class TestCallbacks:
    def test_one_call_an_epoch_with_a_report(self):
        X, y = smooth_data(40)
        mlp, reports = regression(), []
        history = mlp.fit(
            X, y, epochs=4, optimizer=cr.SGD(lr=0.05), validation=smooth_data(9, seed=1), callbacks=[reports.append]
        )
        assert [report.epoch for report in reports] == [1, 2, 3, 4]
        assert [report.epochs for report in reports] == [4, 4, 4, 4]
        assert [report.loss for report in reports] == history.loss
        assert [report.validation_loss for report in reports] == history.validation_loss
        assert [report.lr for report in reports] == history.lr == [0.05] * 4
        assert all(report.mlp is mlp for report in reports)

    def test_validation_loss_is_none_without_validation(self):
        X, y = smooth_data(40)
        seen = []
        regression().fit(X, y, epochs=2, callbacks=[lambda report: seen.append(report.validation_loss)])
        assert seen == [None, None]

    def test_true_stops(self):
        X, y = smooth_data(40)
        stopped, short = regression(), regression()
        history = stopped.fit(X, y, epochs=50, callbacks=[lambda report: report.epoch == 3])
        short.fit(X, y, epochs=3)
        assert history.epochs == len(history.loss) == 3 and history.stopped_early
        assert same_bits(stopped.parameters, short.parameters)

    def test_an_exception_comes_through_and_the_net_stays_usable(self):
        X, y = smooth_data(40)
        mlp, twin = regression(), regression()

        class EnoughError(Exception):
            pass

        def fail(report):
            if report.epoch == 2:
                raise EnoughError("enough")

        with pytest.raises(EnoughError, match=r"enough"):
            mlp.fit(X, y, epochs=10, callbacks=[fail])
        twin.fit(X, y, epochs=2)
        assert same_bits(mlp.parameters, twin.parameters)
        assert np.all(np.isfinite(mlp.fit(X, y, epochs=1).loss))

    def test_a_callback_may_look_and_change(self):
        """Weights may be read and clipped between epochs."""
        X, y = smooth_data(40)
        mlp = regression()

        def clip(report):
            np.clip(report.mlp.parameters, -0.1, 0.1, out=report.mlp.parameters)

        mlp.fit(X, y, epochs=3, callbacks=[clip])
        assert np.abs(mlp.parameters).max() <= 0.1


class TestProgress:
    def test_bar_shows_the_losses(self, capfd):
        X, y = smooth_data(40)
        quiet, shown = regression(), regression()
        quiet.fit(X, y, epochs=3)
        assert capfd.readouterr() == ("", "")
        shown.fit(X, y, epochs=3, progress=True, validation=smooth_data(9, seed=1))
        out, err = capfd.readouterr()
        assert out == "" and "loss" in err and "val_loss" in err and "3/3" in err
        assert same_bits(quiet.parameters, shown.parameters)

    def test_bar_and_callbacks_go_together(self, capfd):
        X, y = smooth_data(40)
        history = regression().fit(X, y, epochs=30, progress=True, callbacks=[lambda report: report.epoch == 2])
        assert history.epochs == 2
        assert "loss" in capfd.readouterr().err


class TestHistory:
    def test_types(self):
        X, y = smooth_data(40)
        history = regression().fit(X, y, epochs=2, validation=(X, y))
        assert isinstance(history, cr.History)
        for losses in (history.loss, history.validation_loss, history.lr):
            assert isinstance(losses, list) and all(type(value) is float for value in losses) and len(losses) == 2
        assert type(history.epochs) is int and history.stopped_early is False

    def test_plot(self, axes):
        X, y = smooth_data(40)
        history = regression().fit(X, y, epochs=3, validation=(X, y))
        history.plot(ax=axes)
        drawn = [list(line.get_ydata()) for line in axes.lines]
        assert history.loss in drawn and history.validation_loss in drawn


class TestNotFinite:
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_error_names_epoch_and_step_and_the_step_is_not_applied(self, dtype):
        """A rate far too high: the loss overflows after some steps. Parameters are those before the bad step."""
        X, y = smooth_data(40)
        mlp = cr.MLP([4, 16, 2], hidden_activation="identity", dtype=dtype, seed=3)
        twin = mlp.copy()
        with pytest.raises(FloatingPointError, match=r"(?is)(?=.*epoch \d+)(?=.*step \d+)"):
            mlp.fit(X, y, epochs=1000, batch_size=40, shuffle=False, optimizer=cr.SGD(lr=10.0))
        assert np.all(np.isfinite(mlp.parameters))
        steps = cr.SGD(lr=10.0)
        for _ in range(1000):
            if not np.isfinite(twin.evaluate(X, y)):
                break
            twin.step(X, y, steps)
        else:
            pytest.fail("the loss never overflowed")
        assert same_bits(mlp.parameters, twin.parameters)

    def test_later_batches_are_not_trained(self):
        """Parameters before the bad step, optimizer too: a fit that goes on after a repair takes the same steps."""
        X = np.ones((6, 1))
        X[3] = 1e200
        mlp = cr.MLP([1, 1], dtype="float64", seed=0)
        start = mlp.copy()
        optimizer = cr.SGD(lr=1e-3)
        with pytest.raises(FloatingPointError):
            mlp.fit(X, np.zeros(6), epochs=1, batch_size=1, shuffle=False, optimizer=optimizer)
        start.fit(X[:3], np.zeros(3), epochs=1, batch_size=1, shuffle=False, optimizer=cr.SGD(lr=1e-3))
        assert same_bits(mlp.parameters, start.parameters)
        assert optimizer.t == 3


FIT_OF_A_MINUTE = """
import signal
import sys

import chainrule as cr
import numpy as np

signal.signal(signal.SIGINT, signal.default_int_handler)
rng = np.random.default_rng(0)
X, y = rng.normal(size=(200_000, 16)).astype("float32"), rng.normal(size=200_000)
mlp = cr.MLP([16, 1024, 1024, 1024, 1], seed=0)
optimizer = cr.Adam()
mlp.step(X[:256], y[:256], optimizer)
before = mlp.parameters.copy()
print("ready", flush=True)
try:
    mlp.fit(X, y, epochs=100, batch_size=32, optimizer=optimizer)
except KeyboardInterrupt:
    changed = bool(np.any(mlp.parameters != before))
    usable = np.isfinite(mlp.step(X[:256], y[:256], optimizer)) and bool(np.all(np.isfinite(mlp.parameters)))
    print("interrupted", changed, usable, 1 < optimizer.t < len(X) // 32, flush=True)
    sys.exit(0)
print("not interrupted", flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT cannot be sent to one process")
def test_ctrl_c_ends_a_long_epoch_soon():
    """The signal must be seen within the first epoch, which takes far longer than a second."""
    process = subprocess.Popen([sys.executable, "-c", FIT_OF_A_MINUTE], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "ready\n"
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=1)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=120)
    finally:
        process.kill()
        process.wait()
    assert out == "interrupted True True True\n"
    assert process.returncode == 0


@pytest.mark.parametrize("long", ["micro-batches", "validation"])
def test_a_signal_ends_one_long_step_or_validation(long):
    mlp = cr.MLP([50, 300, 300, 2], hidden_activation="tanh", seed=0)
    X, y = np.ones((100_000, 50), np.float32), np.zeros((100_000, 2), np.float32)
    before = mlp.parameters.copy()
    start = time.perf_counter()
    mlp.evaluate(X, y)
    whole = time.perf_counter() - start
    start = time.perf_counter()
    with interrupted_soon():
        if long == "micro-batches":
            mlp.fit(X, y, epochs=1, batch_size=len(X), micro_batch=256)
        else:
            mlp.fit(X[:8], y[:8], epochs=1, validation=(X, y))
    assert time.perf_counter() - start < 0.8 * whole
    assert same_bits(mlp.parameters, before) == (long == "micro-batches")


@pytest.mark.parametrize("form", [memoryview, np.asfortranarray, lambda X: X.tolist()], ids=["memoryview", "F", "list"])
def test_fit_takes_any_array(form):
    X, y = smooth_data(30)
    plain, other = regression(), regression()
    weight = np.linspace(1, 2, 30)
    plain.fit(X, y, epochs=2, sample_weight=weight, validation=(X, y))
    other.fit(form(X), form(y), epochs=2, sample_weight=form(weight), validation=(form(X), form(y)))
    assert same_bits(plain.parameters, other.parameters)


def test_step_of_one_row_many_times_learns_online():
    mlp, X, y = small_net()
    optimizer = cr.SGD(lr=0.05)
    before = mlp.evaluate(X, y)
    for _ in range(200):
        for i in range(len(X)):
            mlp.step(X[i : i + 1], y[i : i + 1], optimizer)
    assert mlp.evaluate(X, y) < 0.5 * before
    assert optimizer.t == 1400


def test_a_callback_may_set_the_rate():
    mlp, X, y = small_net()
    optimizer = cr.SGD(lr=0.8)

    def halve(report):
        optimizer.lr /= 2

    history = mlp.fit(X, y, epochs=3, batch_size=3, optimizer=optimizer, schedule="constant", callbacks=[halve])
    assert history.lr == [0.8, 0.4, 0.2]
    assert optimizer.lr == 0.1


def test_clip_norm_of_a_gradient_whose_squares_overflow():
    mlp = cr.MLP([2, 1], loss="mae", dtype="float64", seed=0)
    mlp.weights[0][:] = 0
    X = np.array([[1e160, 0], [1e160, 0]])
    mlp.fit(X, [1.0, 1.0], epochs=1, optimizer=cr.SGD(1.0), clip_norm=1.0)
    assert mlp.parameters.tolist() == [1, 0, 1e-160]


def test_a_schedule_that_leaves_the_range_of_the_dtype():
    mlp, X, y = small_net(dtype="float32")
    twin = mlp.copy()
    with pytest.raises(OverflowError, match=r"^schedule exponential takes lr beyond the range .* in epoch 2$"):
        mlp.fit(X, y, epochs=3, optimizer="sgd", schedule=cr.ExponentialDecay(1e200))
    twin.fit(X, y, epochs=1, optimizer="sgd")
    assert same_bits(mlp.parameters, twin.parameters)


@pytest.mark.parametrize(
    "optimizer",
    [cr.SGD(1e39), cr.AdamW(1.0, weight_decay=1e39), cr.SGD(0.1, momentum=1e39), cr.Adam(eps=1e39)],
    ids=["lr", "weight_decay", "momentum", "eps"],
)
def test_optimizers_beyond_the_range_of_the_dtype(optimizer):
    mlp, X, y = small_net(dtype="float32")
    before = mlp.parameters.copy()
    for train in (lambda: mlp.fit(X, y, epochs=1, optimizer=optimizer), lambda: mlp.step(X, y, optimizer)):
        with pytest.raises(ValueError, match=r"^lr, or another setting of the optimizer, is beyond the range"):
            train()
    assert same_bits(mlp.parameters, before) and optimizer.t == 0


def test_progress_without_a_console(monkeypatch):
    monkeypatch.setattr("sys.stderr", None)
    assert cr.MLP([2, 1], seed=0).fit(np.ones((4, 2)), np.ones(4), epochs=2, progress=True).epochs == 2


def test_the_history_shows_its_best_epoch():
    X, y = few_samples()
    h = cr.MLP([3, 4, 1], seed=0).fit(X, y, epochs=2, validation=(X, y), patience=2)
    losses = f"loss={h.loss[-1]:.6g}, validation_loss={h.validation_loss[-1]:.6g}"
    assert repr(h) == f"History(epochs=2, {losses}, best_epoch=2, stopped_early=False)"


def test_the_best_epoch_is_drawn(tmp_path):
    X, y = few_samples()
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    h = cr.MLP([3, 4, 1], seed=0).fit(X, y, epochs=3, patience=3)
    labels = [line.get_label() for line in h.plot().lines]
    assert "best epoch" in labels
