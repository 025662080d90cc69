"""The recorded gradient flow of a fit, and what is made of it."""

import copy
import json
import pickle

import numpy as np
import pytest
from helpers import same_bits
from nets import few_samples, small_net, smooth_data, smooth_net

import chainrule as cr


def fitted(every=1, epochs=3, **settings):
    X, y = smooth_data(n=50)
    mlp = cr.MLP([4, 20, 7, 2], hidden_activation=["tanh", "relu"], dtype="float64", seed=1)
    flow = cr.GradientFlow(every=every)
    history = mlp.fit(X, y, epochs=epochs, batch_size=16, optimizer=cr.SGD(lr=0.05), monitor=flow, **settings)
    return mlp, flow, history


def test_figures_are_those_of_each_step():
    _, flow, _ = fitted(shuffle=False)
    X, y = smooth_data(n=50)
    twin = cr.MLP([4, 20, 7, 2], hidden_activation=["tanh", "relu"], dtype="float64", seed=1)
    assert flow.steps.tolist() == list(range(1, 13))
    assert flow.names == [name for name, _ in twin.named_parameters()]
    for step in range(12):
        batch = slice(step % 4 * 16, step % 4 * 16 + 16)
        twin.forward(X[batch])
        before = twin.parameters.copy(), [W.copy() for W in twin.weights]
        twin.backward(y[batch], lr=0.05)
        report = flow.report(step)
        for row, (name, gradient) in zip(report.parameters, twin.named_gradients(), strict=True):
            assert row.name == name
            assert row.norm == pytest.approx(np.linalg.norm(gradient), rel=1e-9)
            assert row.mean_abs == pytest.approx(np.abs(gradient).mean(), rel=1e-9)
            assert row.max_abs == pytest.approx(np.abs(gradient).max(), rel=1e-9)
            assert row.zeros == np.mean(gradient == 0)
        for layer, a, delta in zip(report.layers, twin.activations[1:], twin.deltas, strict=True):
            assert layer.activation_mean == pytest.approx(a.mean(), rel=1e-9)
            assert layer.activation_variance == pytest.approx(a.var(), rel=1e-9)
            assert layer.delta_norm == pytest.approx(np.linalg.norm(delta), rel=1e-9)
        assert report.layers[1].dead == np.mean(np.all(twin.activations[2] == 0, axis=0))
        for i, W in enumerate(before[1]):
            ratio = np.linalg.norm(twin.weights[i] - W) / np.linalg.norm(W)
            assert report.parameters[2 * i].update_ratio == pytest.approx(ratio, rel=1e-9)
    assert np.isnan(flow.update_ratio[0, 1])  # b_1 was zero
    assert flow.report(0).parameters[1].update_ratio is None
    assert flow.norm.shape == flow.zeros.shape == (12, 6) and flow.dead.shape == (12, 3)


def ill(every=1, **settings):
    """A fit whose second step of three is not finite."""
    X, y = smooth_data(n=30)
    X[15] = 1e300
    mlp, flow = cr.MLP([4, 5, 2], seed=0, dtype="float64"), cr.GradientFlow(every)
    settings = {"on_nonfinite": "ignore", **settings}
    return mlp, flow, mlp.fit(X, y, epochs=1, batch_size=10, shuffle=False, monitor=flow, **settings)


def test_steps_that_are_left_out_count():
    _, flow, history = ill()
    assert flow.steps.tolist() == [1, 2, 3] and history.non_finite.step == 2
    assert (flow.nan + flow.inf).sum(axis=1)[1] > 0 and not (flow.nan + flow.inf)[[0, 2]].any()
    assert [finding.problem for finding in flow.report(1).diagnose()] == ["not finite"]
    with pytest.raises(cr.NonFiniteError):
        ill(on_nonfinite="raise")


@pytest.mark.parametrize(
    ("loss", "output", "classes"), [("bce", "sigmoid", 1), ("cross_entropy", "softmax", 3), ("poisson", "exp", 1)]
)
@pytest.mark.parametrize("micro_batch", [None, 7])
def test_outputs_of_a_loss_that_starts_from_the_logits(loss, output, classes, micro_batch):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(32, 6)), rng.integers(0, max(2, classes), 32)
    mlp, flow = cr.MLP([6, 8, classes], loss=loss, seed=0, dtype="float64"), cr.GradientFlow()
    outputs = mlp.predict(X)
    mlp.fit(X, y, epochs=1, batch_size=32, monitor=flow, micro_batch=micro_batch)
    layer = flow.report().layers[-1]
    assert layer.activation == output and flow.report().rows == 32
    assert layer.activation_mean == pytest.approx(outputs.mean(), rel=1e-12)
    assert layer.activation_variance == pytest.approx(outputs.var(), rel=1e-9, abs=1e-12)
    if micro_batch is None:
        assert flow.report().histograms[-1].low == pytest.approx(outputs.min(), rel=1e-12)


@pytest.mark.parametrize("every", [2, 3, None])
def test_histograms_belong_to_the_last_recorded_step(every):
    _, flow, _ = fitted(every=every, epochs=2)
    report = flow.report()
    for histogram, layer in zip(report.histograms, report.layers, strict=True):
        assert histogram.low <= layer.activation_mean <= histogram.high
        assert sum(histogram.counts) == report.rows * {"layers.0": 20, "layers.1": 7, "layers.2": 2}[layer.name]
    with pytest.raises(RuntimeError, match="none of the 6 steps has been recorded, but only every 100 is"):
        cr.History(monitor=ill_recorded()).plot_all()


def ill_recorded():
    """Two fits of three steps, of which none is recorded."""
    X, y = smooth_data(n=30)
    flow = cr.GradientFlow(every=100)
    cr.MLP([4, 5, 2], seed=0).fit(X, y, epochs=2, batch_size=10, monitor=flow)
    return flow


def test_pickles_and_copies():
    _, flow, history = ill()
    for other in (pickle.loads(pickle.dumps(history)).monitor, copy.deepcopy(flow)):
        assert other.steps.tolist() == flow.steps.tolist() and other.every == 1
        for name in ("norm", "update_ratio", "nan", "dead", "activation_variance"):
            assert np.array_equal(getattr(other, name), getattr(flow, name), equal_nan=True)
        assert other.report() == flow.report() and other.diagnose() == flow.diagnose()


def test_a_fit_that_is_refused_leaves_the_monitor_free():
    flow = cr.GradientFlow()
    with pytest.raises(ValueError, match="X has 2 columns"):
        cr.MLP([3, 2, 1]).fit([[1, 2]], [1], epochs=1, monitor=flow)
    cr.MLP([2, 2, 1]).fit([[1, 2]], [1], epochs=1, monitor=flow)
    assert flow.norm.shape == (1, 4)


def test_histograms_of_the_last_batch():
    mlp, flow, _ = fitted(shuffle=False)
    histograms = flow.report().histograms
    X, _ = smooth_data(n=50)
    assert [sum(histogram.counts) for histogram in histograms] == [2 * 20, 2 * 7, 2 * 2]
    assert not flow.report(0).histograms
    mlp.forward(X)
    mlp.pullback(np.ones((50, 2)))
    for histogram, a in zip(mlp.gradient_flow().histograms, mlp.activations[1:], strict=True):
        expected, edges = np.histogram(a, bins=40)
        assert (histogram.low, histogram.high) == (edges[0], edges[-1])
        assert np.abs(np.array(histogram.counts) - expected).sum() <= 2  # on an edge, rounding decides


@pytest.mark.parametrize("every", [1, None])
def test_histograms_of_the_last_batch_with_a_weight(every):
    X, y = smooth_data(n=50)
    weight = np.where(np.arange(50) < 48, 1.0, 0.0)
    flow = cr.GradientFlow(every=every)
    cr.MLP([4, 20, 7, 2], seed=1).fit(X, y, epochs=2, batch_size=16, shuffle=False, sample_weight=weight, monitor=flow)
    assert [sum(histogram.counts) for histogram in flow.report().histograms] == [16 * 20, 16 * 7, 16 * 2]


@pytest.mark.parametrize("every", [2, 5, 100])
def test_only_every_so_many_steps(every):
    _, flow, _ = fitted(every=every)
    assert flow.steps.tolist() == list(range(every, 13, every))
    _, whole, _ = fitted()
    assert np.allclose(flow.norm, whole.norm[every - 1 :: every], rtol=1e-12)


def test_the_last_step_of_each_epoch():
    _, flow, _ = fitted(every=None)
    assert flow.steps.tolist() == [4, 8, 12]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_same_figures_for_any_number_of_threads(dtype):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(400, 30)), rng.normal(size=(400, 3))
    results = []
    for threads in (1, 2, 5):
        with cr.num_threads(threads):
            flow = cr.GradientFlow(every=2)
            mlp = cr.MLP([30, 200, 150, 3], hidden_activation="silu", dtype=dtype, seed=0)
            mlp.fit(X, y, epochs=3, batch_size=200, monitor=flow)
            results.append((flow, mlp))
    for flow, mlp in results[1:]:
        assert same_bits(flow._rows()["parameters"], results[0][0]._rows()["parameters"])
        assert same_bits(flow._rows()["layers"], results[0][0]._rows()["layers"])
        assert same_bits(mlp.parameters, results[0][1].parameters)


def test_training_is_what_it_is_without():
    X, y = smooth_data()
    plain, watched = (cr.MLP([4, 20, 2], dtype="float64", seed=0) for _ in range(2))
    plain.fit(X, y, epochs=5)
    watched.fit(X, y, epochs=5, monitor=cr.GradientFlow())
    assert np.allclose(plain.parameters, watched.parameters, rtol=1e-12, atol=0)


def test_fits_add_up_and_networks_must_be_alike():
    X, y = smooth_data()
    flow, mlp = cr.GradientFlow(), cr.MLP([4, 5, 2], seed=0)
    for _ in range(3):
        mlp.fit(X, y, epochs=1, monitor=flow)
    assert flow.steps.tolist() == [1, 2, 3, 4, 5, 6]
    with pytest.raises(ValueError, match=r"monitor has recorded a network of layers \(4, 5, 2\)"):
        cr.MLP([4, 6, 2], seed=0).fit(X, y, epochs=1, monitor=flow)
    with pytest.raises(ValueError, match=r"with relu, identity; this one has \(4, 5, 2\) with tanh, identity"):
        cr.MLP([4, 5, 2], hidden_activation="tanh", seed=0).fit(X, y, epochs=1, monitor=flow)
    with pytest.raises(TypeError, match="monitor is 'flow'"):
        mlp.fit(X, y, epochs=1, monitor="flow")


def test_before_a_fit_it_says_so():
    flow = cr.GradientFlow()
    assert "0 of 0 steps" in str(flow) and "0 of 0 steps" in flow._repr_html_()
    assert np.isnan(flow.smallest_gradient()) and flow.norm.shape == (0, 0) and flow.to_dict()["steps"] == []
    for call in (flow.report, flow.plot, flow.diagnose):
        with pytest.raises(RuntimeError, match="nothing has been recorded yet"):
            call()
    with pytest.raises(ValueError, match="every is 0"):
        cr.GradientFlow(every=0)
    with pytest.raises(AttributeError):
        flow.no_such_figure  # noqa: B018


def test_callbacks_see_it_grow():
    counts = []
    X, y = smooth_data(n=50)
    mlp = cr.MLP([4, 5, 2], seed=0)
    callback = [lambda report: counts.append(len(report.monitor.steps))]
    mlp.fit(X, y, epochs=3, batch_size=16, callbacks=callback, monitor=cr.GradientFlow())
    assert counts == [4, 8, 12]


def test_sparklines():
    _, flow, _ = fitted(epochs=40)
    lines = str(flow).splitlines()
    assert len(lines) == 2 + 3 and max(map(len, lines)) <= 100
    assert all(any(mark in line for mark in "▁▂▃▄▅▆▇█") for line in lines[2:])
    assert f"{flow.norm[-1, 0]:.2e}" in lines[2]
    assert "<table>" in flow._repr_html_()


def test_the_smallest_gradient_is_of_the_last_step():
    _, flow, _ = fitted()
    smallest = flow.norm[:, 0::2].min(axis=1)
    assert smallest.argmin() != len(smallest) - 1
    assert flow.smallest_gradient() == smallest[-1]


class Counted:
    """A record that notes how many steps each copy of it holds."""

    def __init__(self, record):
        self._record, self.copied = record, []

    def __getattr__(self, name):
        return getattr(self._record, name)

    def __len__(self):
        return len(self._record)

    def flows(self, *places):
        rows = self._record.flows(*places)
        self.copied.append(len(rows["recorded"]))
        return rows


def test_the_record_is_copied_once_or_not_at_all(axes, tmp_path):
    """Of many steps it is large, and of another thread's fit it grows meanwhile."""
    pytest.importorskip("pandas", reason="pandas is not installed: data frames are not checked")
    pytest.importorskip("tensorboardX", reason="tensorboardX is not installed: event files are not checked")
    mlp, flow, history = fitted()
    flow._record = Counted(flow._record)
    for calls, copied in (
        ([flow.__repr__], []),
        ([flow.report, flow.diagnose, flow.smallest_gradient], [1, 1, 1]),
        ([flow.to_dict, flow.to_pandas, flow.__str__, flow._repr_html_], [12, 12, 12, 12]),
        ([lambda: flow.plot(axes), history.plot_all], [12, 12]),
    ):
        flow._record.copied.clear()
        for call in calls:
            call()
        assert flow._record.copied == copied
    with cr.TensorBoard(tmp_path) as board:
        flow._record.copied.clear()
        for epoch in (1, 2):
            board(cr.EpochReport(mlp, epoch, 2, 1.0, None, 0.1, flow))
    assert flow._record.copied == [1]


def test_the_bar_shows_the_smallest_gradient(capsys):
    X, y = smooth_data(n=50)
    monitors = []
    callbacks = [lambda report: monitors.append(report.monitor)]
    cr.MLP([4, 5, 2], seed=0).fit(X, y, epochs=2, validation=(X, y), progress=True, callbacks=callbacks)
    shown = capsys.readouterr().err
    assert "loss=" in shown and "val_loss=" in shown and "min_grad=" in shown
    assert monitors == [None, None]  # the bar's own is not the user's


def test_a_refused_fit_leaves_a_monitor_for_any_network():
    X, y = smooth_data(n=50)
    flow = cr.GradientFlow()
    with pytest.raises(ValueError, match="y has 5 rows"):
        cr.MLP([4, 5, 2]).fit(X, y[:5], epochs=1, monitor=flow)
    assert flow.names == []
    cr.MLP([4, 2]).fit(X, y, epochs=1, monitor=flow)
    assert flow.names == ["layers.0.weight", "layers.0.bias"]


def test_dictionary_is_json():
    _, flow, history = fitted()
    numbers = json.loads(json.dumps(flow.to_dict(), allow_nan=False))
    assert numbers["steps"] == flow.steps.tolist() and numbers["norm"] == flow.norm.tolist()
    assert numbers["update_ratio"][0][1] is None
    assert json.loads(json.dumps(history.to_dict()))["loss"] == history.loss
    json.dumps(flow.report().to_dict(), allow_nan=False)
    _, flow, history = ill()
    for numbers in (flow.to_dict(), flow.report(1).to_dict(), history.to_dict()):
        json.dumps(numbers, allow_nan=False)
    assert history.to_dict()["non_finite"]["value"] is None


def test_data_frames():
    pytest.importorskip("pandas", reason="pandas is not installed: data frames are not checked")
    _, flow, history = fitted()
    frame = flow.to_pandas()
    assert frame.loc[(3, "layers.1.weight"), "norm"] == flow.norm[2, 2]
    assert frame.loc[(3, "layers.1.bias"), "delta_norm"] == flow.delta_norm[2, 1]
    assert flow.report().to_pandas().loc["layers.2.bias", "delta_norm"] == flow.delta_norm[-1, 2]
    assert history.to_pandas()["loss"].tolist() == history.loss


def test_plots(axes):
    from matplotlib import pyplot

    _, flow, history = fitted(epochs=100, validation=smooth_data(n=20))
    assert flow.plot(axes) is axes and axes.has_data()
    assert axes.get_xlabel() == "step" and axes.get_title()
    panels = history.plot_all()
    assert len(panels) == 4 + 3 and len({panel.figure for panel in panels}) == 1
    assert all(panel.has_data() and panel.get_title() and panel.get_xlabel() for panel in panels)
    assert len(flow.report().plot_activations()) == 3
    for figure in map(pyplot.figure, pyplot.get_fignums()):
        figure.canvas.draw()
    pyplot.close("all")
    with pytest.raises(ValueError, match="in the middle of a fit"):
        flow.report(0).plot_activations()
    with pytest.raises(ValueError, match="monitor="):
        cr.History().plot_all()
    mlp, X, y = small_net()
    mlp.forward(X)
    mlp.backward(y)
    with pytest.raises(ValueError, match="axes has 1 entries"):
        mlp.gradient_flow().plot_activations([axes])


def test_tensorboard_files(tmp_path):
    pytest.importorskip("tensorboardX", reason="tensorboardX is not installed: event files are not checked")
    from tensorboardX.proto.event_pb2 import Event

    for bad, error in ((3, TypeError), ("", ValueError)):
        with pytest.raises(error, match=r"^log_dir is"):
            cr.TensorBoard(bad)
    with cr.TensorBoard(tmp_path / "run") as board:
        _, flow, history = fitted(callbacks=[board], validation=smooth_data(n=20))
    (path,) = (tmp_path / "run").glob("events*")
    data, at, figures = path.read_bytes(), 0, {}
    while at < len(data):  # length (8 bytes) and its check (4), the event and its check (4)
        size = int.from_bytes(data[at : at + 8], "little")
        event = Event.FromString(data[at + 12 : at + 12 + size])
        at += size + 16
        figures.update({(value.tag, event.step): value.simple_value for value in event.summary.value})
    for epoch in (1, 2, 3):
        assert figures["loss/training", epoch] == pytest.approx(history.loss[epoch - 1], rel=1e-6)
        assert figures["loss/validation", epoch] == pytest.approx(history.validation_loss[epoch - 1], rel=1e-6)
        norm = flow.norm[4 * epoch - 1, 2]
        assert figures["gradient_norm/layers.1.weight", epoch] == pytest.approx(norm, rel=1e-6)


def test_what_a_callback_looks_at_is_not_taken_for_the_last_batch():
    X, y = smooth_data(n=50)
    mlp, flow = cr.MLP([4, 20, 7, 2], seed=1), cr.GradientFlow()
    mlp.forward(X)
    mlp.fit(X, y, epochs=2, batch_size=16, monitor=flow, callbacks=[lambda report: report.mlp.forward(X[:5] * 1000)])
    assert [sum(histogram.counts) for histogram in flow.report().histograms] == [2 * 20, 2 * 7, 2 * 2]
    with pytest.raises(RuntimeError, match="run forward"):
        mlp.activations  # noqa: B018


def test_the_last_step_of_each_epoch_of_an_iterable_of_blocks():
    X, y = smooth_data(n=48)
    flow = cr.GradientFlow(every=None)
    blocks = [(X[i : i + 16], y[i : i + 16]) for i in range(0, 48, 16)]
    cr.MLP([4, 5, 2], seed=0).fit(blocks, epochs=2, batch_size=8, monitor=flow)
    assert flow.steps.tolist() == [6, 12]


def test_steps_that_are_not_finite_are_crossed_out(axes):
    """Their norms, of the finite entries or of what is about to overflow, would hide the others."""
    X, y = smooth_data()
    y[5] = 1e30
    flow = cr.GradientFlow()
    history = smooth_net("float32").fit(X, y, epochs=2, batch_size=16, monitor=flow, on_nonfinite="ignore")
    assert history.steps_left_out == 2 and f"{history}".count("steps_left_out=2") == 1
    flow.plot(axes)
    (crosses,) = axes.get_lines()
    assert sorted(set(crosses.get_xdata())) == flow.steps[~np.isfinite(flow.loss)].tolist()
    assert axes.collections[0].norm.vmax < 1e3
    row = str(flow).splitlines()[2].split()[1]
    assert [mark == "·" for mark in row] == (~np.isfinite(flow.loss)).tolist()


def test_a_history_of_no_epoch_says_so(axes):
    X, y = smooth_data()
    y[5] = 1e300
    history = smooth_net().fit(X, y, epochs=2, on_nonfinite="stop")
    assert "no epoch" in history.plot(axes).texts[0].get_text()


def test_figures_are_listed_and_misspelt_ones_are_not_there():
    flow = cr.GradientFlow()
    assert {"norm", "mean_abs", "dead", "delta_norm"} <= set(dir(flow))
    with pytest.raises(AttributeError, match="'GradientFlow' object has no attribute 'nrom'"):
        _ = flow.nrom


def test_a_step_that_was_not_recorded():
    flow = cr.GradientFlow()
    cr.MLP([2, 1], seed=0).fit(np.ones((4, 2)), np.ones(4), epochs=3, monitor=flow)
    assert flow.report(-3).to_dict() == flow.report(0).to_dict()
    for index in (3, -4):
        with pytest.raises(IndexError, match=f"^index is {index}; 3 steps have been recorded$"):
            flow.report(index)
    with pytest.raises(TypeError, match="index is 'last'"):
        flow.report("last")


def test_rows_of_a_step_that_is_left_out():
    X, y = few_samples()
    bad = X.copy()
    bad[15] = 1e38
    flow = cr.GradientFlow()
    cr.MLP([3, 4, 1], seed=0).fit(bad, y, epochs=1, batch_size=16, shuffle=False, monitor=flow, on_nonfinite="ignore")
    assert [flow.report(i).rows for i in range(4)] == [16] * 4


def test_board_again_without_monitor(tmp_path):
    X, y = few_samples()
    pytest.importorskip("tensorboardX")
    with cr.TensorBoard(tmp_path) as board:
        mlp = cr.MLP([3, 1], seed=0)
        mlp.fit(X, y, epochs=1, callbacks=board, monitor=cr.GradientFlow())
        assert mlp.fit(X, y, epochs=1, callbacks=board).epochs == 1
