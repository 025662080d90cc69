"""The verdict: right about networks made to have a disease, silent about healthy ones."""

from dataclasses import replace

import numpy as np
import pytest
from nets import few_samples

import chainrule as cr


def problems_of(report):
    return [finding.problem for finding in report.diagnose()]


def report_of(mlp, X, y):
    mlp.forward(X)
    mlp.backward(y)
    return mlp.gradient_flow()


def deep(hidden, init=None, depth=6, scale=1.0, bias=0.0):
    mlp = cr.MLP([32] * (depth + 1) + [1], hidden_activation=hidden, init=init, loss="bce", dtype="float64", seed=0)
    for b in mlp.biases[:-1]:
        b[:] = bias
    rng = np.random.default_rng(0)
    return report_of(mlp, scale * rng.normal(size=(64, 32)), rng.integers(0, 2, size=64))


@pytest.mark.parametrize("depth", [4, 6, 12])
@pytest.mark.parametrize(
    ("hidden", "init"), [("sigmoid", "xavier"), ("tanh", cr.Normal(0.01)), ("relu", cr.Normal(0.02))]
)
def test_vanishing(hidden, init, depth):
    report = deep(hidden, init, depth)
    (finding,) = report.diagnose()
    assert finding.problem == "vanishing" and finding.layers == [f"layers.{i}" for i in range(depth + 1)]
    rate = (report.layers[0].delta_norm / report.layers[-1].delta_norm) ** (1 / depth)
    ratio = report.parameters[0].norm / report.parameters[-2].norm
    assert f"a factor of {rate:.2g} a layer" in finding.figures and f"{ratio:.1e}" in finding.figures
    assert "Xavier" in finding.cure and "He" in finding.cure
    assert "vanishing" in str(report) and "vanishing" in report._repr_html_()


@pytest.mark.parametrize("depth", [10, 20])
def test_exploding(depth):
    assert problems_of(deep("relu", cr.Normal(0.5), depth)) == ["exploding"]
    assert "exploding" in problems_of(deep("identity", cr.Normal(0.5), depth))


def test_dead_units():
    report = deep("relu", bias=-100.0)
    (finding,) = report.diagnose()
    assert finding.problem == "dead units" and finding.layers[0] == "layers.0"
    assert "100% of layers.0" in finding.figures and "leaky_relu" in finding.cure


@pytest.mark.parametrize("hidden", ["sigmoid", "tanh"])
def test_saturated_units(hidden):
    assert "saturated units" in problems_of(deep(hidden, depth=1, scale=100.0))
    assert "saturated units" in problems_of(deep(hidden, cr.Normal(5.0)))


def test_not_finite():
    mlp = cr.MLP([4, 5, 3], seed=0)
    mlp.forward(np.ones((2, 4)))
    mlp.backward(np.ones((2, 3)))
    mlp.weight_gradients[0][1, 2] = np.nan
    mlp.bias_gradients[1][0] = np.inf
    (finding,) = mlp.gradient_flow().diagnose()
    assert finding.problem == "not finite" and finding.layers == ["layers.0", "layers.1"]
    assert "layers.0.weight (1 NaN, 0 Inf)" in finding.figures and "layers.1.bias (0 NaN, 1 Inf)" in finding.figures


@pytest.mark.parametrize("depth", [1, 4, 10, 20])
@pytest.mark.parametrize("hidden", ["tanh", "relu", "gelu", "selu", "silu"])
def test_silent_on_healthy_networks(hidden, depth):
    assert deep(hidden, depth=depth).diagnose() == [] or (hidden, depth) == ("silu", 20)


@pytest.mark.parametrize("seed", range(5))
def test_silent_on_xor_once_trained(seed):
    X, y = np.array([[0, 0], [0, 1], [1, 0], [1, 1]]), np.array([0, 1, 1, 0])
    mlp = cr.MLP([2, 4, 1], hidden_activation="sigmoid", loss="bce", dtype="float64", seed=seed)
    flow = cr.GradientFlow(every=100)
    mlp.fit(X, y, epochs=5000, optimizer=cr.SGD(lr=0.5), monitor=flow)
    assert report_of(mlp, X, y).diagnose() == []
    assert all(flow.report(i).diagnose() == [] for i in range(len(flow.steps)))


@pytest.mark.parametrize("hidden", ["relu", "tanh", "sigmoid"])
def test_silent_on_digits(hidden):
    datasets = pytest.importorskip("sklearn.datasets", reason="scikit-learn is not installed: no digits")
    X, y = datasets.load_digits(return_X_y=True)
    mlp = cr.MLP([64, 256, 10], hidden_activation=hidden, loss="cross_entropy", seed=0)
    flow = cr.GradientFlow(every=20)
    mlp.fit(X / 16, y, epochs=10, monitor=flow)
    assert report_of(mlp, X / 16, y).diagnose() == []
    assert all(flow.report(i).diagnose() == [] for i in range(len(flow.steps)))


@pytest.mark.parametrize("why", ["sixty sigmoids", "no weights"])
def test_gradients_that_are_exactly_zero_have_vanished(why):
    rng = np.random.default_rng(0)
    if why == "no weights":
        mlp = cr.MLP([8, 8, 8, 1], hidden_activation="tanh", seed=0)
        mlp.parameters[:] = 0
    else:
        mlp = cr.MLP([8] * 61 + [1], hidden_activation="sigmoid", seed=0)
    report = report_of(mlp, rng.normal(size=(16, 8)), rng.normal(size=(16, 1)))
    (finding,) = report.diagnose()
    assert report.parameters[0].norm == 0
    assert finding.problem == "vanishing" and finding.layers[0] == "layers.0"
    assert "exactly zero for all 16 rows in layers.0 to" in finding.figures


@pytest.mark.parametrize("rows", [1, 5])
@pytest.mark.parametrize("seed", range(10))
def test_silent_on_the_few_rows_that_end_an_epoch(seed, rows):
    rng = np.random.default_rng(seed)
    flow = cr.GradientFlow()
    X = rng.normal(size=(64 + rows, 5))
    mlp = cr.MLP([5, 256, 16, 1], seed=seed)
    mlp.biases[0] -= 2.0  # as after some training: units that are zero for most samples
    mlp.fit(X, X[:, :1], epochs=1, batch_size=32, monitor=flow)
    assert flow.report().rows == rows
    assert flow.report().layers[0].dead > 0.5
    assert "dead units" not in [finding.problem for finding in flow.diagnose()]


@pytest.mark.parametrize("hidden", ["tanh", "relu"])
@pytest.mark.parametrize(("loss", "outputs"), [("mse", 1), ("mse", 2), ("huber", 1)])
def test_silent_on_constants_that_are_fitted(hidden, loss, outputs):
    X = np.random.default_rng(0).normal(size=(500, 8))
    mlp = cr.MLP([8, 16, outputs], hidden_activation=hidden, loss=loss, seed=0)
    mlp.fit(X, np.ones((500, outputs)), epochs=160, optimizer=cr.SGD(lr=0.05, momentum=0.9))
    assert problems_of(report_of(mlp, X, np.ones((500, outputs)))) == []


XOR = np.array([[0, 0], [0, 1], [1, 0], [1, 1]]), np.array([0, 1, 1, 0])


@pytest.mark.parametrize("optimizer", [lambda: cr.Adam(lr=0.01), lambda: cr.SGD(lr=0.5)], ids=["adam", "sgd"])
@pytest.mark.parametrize("sizes", [[2, 4, 1], [2, 8, 1], [2, 4, 4, 1]], ids=str)
@pytest.mark.parametrize("hidden", ["tanh", "sigmoid", "relu"])
def test_silent_on_whatever_has_learned_xor(hidden, sizes, optimizer):
    """Its units are saturated by then, and little δ is left: it is certain."""
    learned = 0
    for seed in range(5):
        mlp = cr.MLP(sizes, hidden_activation=hidden, loss="bce", dtype="float64", seed=seed)
        history = mlp.fit(*XOR, epochs=3000, batch_size=4, optimizer=optimizer())
        if history.loss[-1] < 0.1:
            learned += 1
            assert report_of(mlp, *XOR).diagnose() == []
    assert learned >= 2


def test_a_perfect_fit_is_none_that_nothing_reaches():
    """What is left of δ_L then is rounding, and may be zero in the layers before."""
    mlp = cr.MLP([2, 2, 1], hidden_activation="tanh", dtype="float64", seed=0)
    mlp.parameters[:] = 0
    mlp.biases[1][:] = 1
    report = report_of(mlp, XOR[0], np.full(4, 1 - 2**-52))
    assert report.layers[1].delta_norm > 0 == report.layers[0].delta_norm
    assert "vanishing" not in problems_of(report)
    mlp.biases[1][:] = 0
    assert "vanishing" in problems_of(report_of(mlp, XOR[0], np.ones(4)))


def test_stuck_but_not_vanishing():
    """At a stationary point δ_1 may be small while dL/dW is not: one hidden layer makes no chain of factors."""
    for seed in (2, 7, 8, 9):
        mlp = cr.MLP([2, 4, 1], loss="bce", seed=seed)
        mlp.fit(*XOR, epochs=2000, batch_size=4, optimizer=cr.SGD(lr=0.5))
        assert "vanishing" not in problems_of(report_of(mlp, *XOR))


@pytest.mark.parametrize("loss", [1e25, np.nan])
def test_a_loss_that_is_not_finite(loss):
    rng = np.random.default_rng(0)
    y = rng.normal(size=64)
    flow = cr.GradientFlow()
    mlp = cr.MLP([8, 16, 16, 1], seed=0)
    if np.isnan(loss):
        mlp.biases[2][0] = np.nan
    else:
        y[5] = loss
    mlp.fit(rng.normal(size=(64, 8)), y, epochs=3, on_nonfinite="stop", monitor=flow)
    assert problems_of(flow.report()) == ["not finite"]
    assert flow.report().to_dict()["loss"] is None


def test_an_output_that_is_saturated_for_good():
    """Inputs that nobody scaled, and a loss whose gradient vanishes with σ'."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 5)) * 300 + 500
    mlp = cr.MLP([5, 32, 1], output_activation="sigmoid", loss="mse", seed=0)
    mlp.fit(X, X[:, 0] > 500, epochs=30)
    report = report_of(mlp, X, X[:, 0] > 500)
    (finding,) = report.diagnose()
    assert report.loss > 0.1 and report.layers[1].delta_norm < 1e-4
    assert finding.problem == "saturated units" and finding.layers == ["layers.1"]
    assert "bce" in finding.cure


@pytest.mark.parametrize("seed", range(5))
def test_weights_of_unit_variance_explode(seed):
    rng = np.random.default_rng(seed)
    mlp = cr.MLP([4, *[32] * 4, 1], init=cr.Normal(1.0), seed=seed)
    assert problems_of(report_of(mlp, rng.normal(size=(64, 4)), rng.normal(size=64))) == ["exploding"]


@pytest.mark.parametrize("loss", ["mse", "bce"])
def test_several_outputs_that_are_the_means_of_their_targets_have_not_learned(loss):
    """A network that collapsed: its outputs differ from each other, but not from row to row."""
    rng = np.random.default_rng(0)
    X = rng.random(64) * (rng.random((300, 64)) < 0.5)
    sizes = [64, 32, 16, 8, 8, 16, 32, 64]
    mlp = cr.MLP(sizes, hidden_activation="sigmoid", output_activation="sigmoid", loss=loss, seed=0)
    mlp.fit(X, X, epochs=20)
    assert "vanishing" in problems_of(report_of(mlp, X, X))


@pytest.mark.parametrize("loss", ["mae", "huber"])
def test_losses_whose_delta_is_bounded_say_nothing_of_the_error(loss):
    rng = np.random.default_rng(0)
    X = 300 * rng.normal(size=(200, 10))
    mlp = cr.MLP([10, 32, 32, 1], hidden_activation="tanh", loss=loss, seed=0)
    y = 100 * rng.normal(size=200)
    mlp.fit(X, y, epochs=30, optimizer=cr.Adam(lr=0.01))
    assert "saturated units" in problems_of(report_of(mlp, X, y))


@pytest.mark.parametrize("size", [1.0, 1e-3])
def test_a_pullback_says_nothing_of_the_error(size):
    mlp = cr.MLP([4, 16, 16, 1], hidden_activation="tanh", seed=0)
    mlp.forward(1000 * np.random.default_rng(0).normal(size=(64, 4)))
    mlp.pullback(np.full((64, 1), size))
    assert "saturated units" in problems_of(mlp.gradient_flow())


def test_dead_relu_outputs_are_not_saturated():
    X, y = few_samples()
    mlp = cr.MLP([3, 4, 1], hidden_activation="tanh", output_activation="relu", seed=0)
    mlp.biases[1][:] = -100
    mlp.forward(X)
    mlp.backward(y)
    assert [f.problem for f in mlp.gradient_flow().diagnose()] == ["dead units"]


def test_a_loss_alone_is_not_finite():
    X, y = few_samples()
    [found] = replace(report_of(cr.MLP([3, 8, 1], seed=0), X, y), loss=np.inf).diagnose()
    assert found.problem == "not finite" and found.layers == ["layers.1"] and found.figures == "the loss is inf"


def test_huber_of_small_errors_is_half_their_square():
    X, y = few_samples()
    r = report_of(cr.MLP([3, 8, 1], hidden_activation="tanh", loss=cr.Huber(1.0), seed=0), X, y)
    hidden, output = r.layers
    r = replace(r, layers=[replace(hidden, saturated=0.9), replace(output, activation_variance=0.25)])
    assert [f.problem for f in replace(r, loss=0.02).diagnose()] == ["saturated units"]  # an error of 0.2, of 0.5
    assert replace(r, loss=0.002).diagnose() == []
