"""The gradient-flow report against what NumPy says of the gradient views."""

import pickle

import numpy as np
import pytest
from nets import few_samples, small_net, smooth_data, smooth_net

import chainrule as cr


def report_of(mlp, X, y):
    mlp.forward(X)
    mlp.backward(y)
    return mlp.gradient_flow()


def deep_net(activation, seed=0, depth=6):
    """The seed's net: six hidden layers of 32 units, one output, BCE."""
    mlp = cr.MLP([32, *[32] * depth, 1], hidden_activation=activation, loss="bce", dtype="float64", seed=seed)
    rng = np.random.default_rng(seed)
    return mlp, rng.normal(size=(16, 32)), rng.integers(0, 2, size=16)


def test_rows_are_the_parameters_statistics():
    mlp, X, y = small_net((4, 6, 5, 3), hidden_activation="tanh")
    report = report_of(mlp, X, y)
    assert [row.name for row in report.parameters] == [name for name, _ in mlp.named_parameters()]
    for row, (_, gradient) in zip(report.parameters, mlp.named_gradients(), strict=True):
        assert row.mean_abs == pytest.approx(np.abs(gradient).mean(), rel=1e-12)
        assert row.max_abs == pytest.approx(np.abs(gradient).max(), rel=1e-12)
        assert not row.nan and not row.inf


def test_rows_of_layers():
    mlp, X, y = small_net((4, 6, 5, 3), hidden_activation=["tanh", "relu"])
    report = report_of(mlp, X, y)
    assert [row.activation for row in report.layers] == ["tanh", "relu", "identity"]
    assert len({row.name for row in report.layers}) == 3
    for row, delta in zip(report.layers, mlp.deltas, strict=True):
        assert row.delta_norm == pytest.approx(np.linalg.norm(delta), rel=1e-12)


@pytest.mark.parametrize(("activation", "low", "high"), [("sigmoid", 0.01, 0.99), ("tanh", -0.98, 0.98)])
def test_saturated_share_of_outputs_near_an_end(activation, low, high):
    mlp, X, y = small_net((4, 30, 3), hidden_activation=activation)
    mlp.weights[0][:] *= {"sigmoid": 12, "tanh": 4}[activation]
    report = report_of(mlp, X, y)
    a = mlp.activations[1]
    expected = np.mean((a < low) | (a > high))
    assert 0.05 < expected < 0.95
    assert report.layers[0].saturated == pytest.approx(expected, rel=1e-12)
    assert report.layers[0].dead is None and report.layers[1].saturated is None


def test_dead_share_of_units_that_are_zero_on_the_whole_batch():
    mlp, X, y = small_net((4, 40, 3), hidden_activation="relu")
    mlp.biases[0][:10] = -100
    mlp.biases[0][10:20] = 100
    report = report_of(mlp, X, y)
    expected = np.mean(np.all(mlp.activations[1] == 0, axis=0))
    assert 10 / 40 <= expected <= 30 / 40
    assert report.layers[0].dead == pytest.approx(expected, rel=1e-12)
    assert report.layers[0].saturated is None and report.layers[1].dead is None


def test_nan_and_infinity_are_seen():
    mlp, X, y = small_net((4, 5, 3))
    mlp.forward(X)
    mlp.backward(y)
    mlp.weight_gradients[0][1, 2] = np.nan
    mlp.bias_gradients[1][0] = -np.inf
    rows = {row.name: row for row in mlp.gradient_flow().parameters}
    assert [bool(rows[name].nan) for name in rows] == [True, False, False, False]
    assert [bool(rows[name].inf) for name in rows] == [False, False, False, True]
    text = str(mlp.gradient_flow()).lower()
    assert "nan" in text and "inf" in text


def test_gradients_vanish_in_a_deep_sigmoid_net_and_not_in_its_cures():
    def shrinkage(activation):
        rows = {row.name: row.mean_abs for row in report_of(*deep_net(activation)).parameters}
        return rows["layers.0.weight"] / rows["layers.6.weight"]

    assert shrinkage("sigmoid") < 2e-3
    assert shrinkage("tanh") > 5e-2
    assert shrinkage("relu") > 5e-2


def test_delta_norms_shrink_towards_the_input():
    norms = [row.delta_norm for row in report_of(*deep_net("sigmoid")).layers]
    assert len(norms) == 7 and norms == sorted(norms)


def test_text_is_a_table_with_every_parameter():
    mlp, X, y = deep_net("sigmoid")
    lines = str(report_of(mlp, X, y)).splitlines()
    for name, _ in mlp.named_parameters():
        assert sum(name in line for line in lines) == 1
    assert max(map(len, lines)) <= 120


def test_dictionary_has_the_same_numbers():
    report = report_of(*deep_net("tanh"))
    numbers = report.to_dict()
    assert [row["name"] for row in numbers["parameters"]] == [row.name for row in report.parameters]
    assert [row["mean_abs"] for row in numbers["parameters"]] == [row.mean_abs for row in report.parameters]
    assert [row["max_abs"] for row in numbers["parameters"]] == [row.max_abs for row in report.parameters]
    assert [row["delta_norm"] for row in numbers["layers"]] == [row.delta_norm for row in report.layers]
    assert [row["saturated"] for row in numbers["layers"]] == [row.saturated for row in report.layers]


def test_a_report_is_a_snapshot():
    mlp, X, y = small_net()
    report = report_of(mlp, X, y)
    before = report.to_dict()
    mlp.gradient[:] = 0
    mlp.forward(3 * X)
    mlp.backward(y)
    assert report.to_dict() == before != mlp.gradient_flow().to_dict()


def test_it_needs_a_backward():
    mlp, X, _ = small_net()
    mlp.forward(X)
    with pytest.raises(RuntimeError, match=r"(?i)backward"):
        mlp.gradient_flow()


def test_plot(axes):
    report = report_of(*deep_net("sigmoid"))
    report.plot(ax=axes)
    assert axes.has_data()


def test_the_loss_of_the_pass():
    X, y = smooth_data()
    mlp = smooth_net()
    mlp.forward(X)
    loss = mlp.backward(y)
    report = mlp.gradient_flow()
    assert report.loss == loss == report.to_dict()["loss"]
    assert f"64 rows, loss {loss:.6g}" in str(report)
    mlp.pullback(np.ones((64, 2)))
    assert mlp.gradient_flow().loss is None
    flow = cr.GradientFlow(every=2)
    history = mlp.fit(X, y, epochs=4, batch_size=64, monitor=flow)
    assert flow.loss.tolist() == history.loss[1::2] == flow.to_dict()["loss"]
    assert flow.report(0).loss == history.loss[1]
    assert pickle.loads(pickle.dumps(flow)).loss.tolist() == flow.loss.tolist()


def test_table_shows_shares():
    X, y = few_samples()
    mlp = cr.MLP([3, 4, 1], hidden_activation="relu", seed=0)
    mlp.biases[0][:2] = -1e3
    mlp.forward(X)
    mlp.backward(y)
    report = mlp.gradient_flow()
    row = next(line for line in str(report).splitlines() if line.startswith("layers.0 "))
    assert row.split()[2:4] == ["-", f"{report.layers[0].dead:.1%}"] == ["-", "50.0%"]


def test_nan_units_are_not_dead():
    X, y = few_samples()
    mlp = cr.MLP([3, 4, 1], seed=0)
    mlp.weights[0][:, 1] = np.nan
    mlp.biases[0][0] = -1e3
    mlp.forward(X)
    mlp.backward(y)
    assert mlp.gradient_flow().layers[0].dead == 0.25


def test_norm_of_a_delta_whose_squares_underflow():
    X, _ = few_samples()
    mlp = cr.MLP([3, 4, 1], hidden_activation="tanh", seed=0)
    mlp.forward(X)
    mlp.pullback(np.full((64, 1), 1e-30))
    norms = [np.linalg.norm(delta.astype(np.float64)) for delta in mlp.deltas]
    assert [layer.delta_norm for layer in mlp.gradient_flow().layers] == pytest.approx(norms, rel=1e-6)
