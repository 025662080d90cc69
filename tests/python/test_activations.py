"""Activations one value at a time, through a 1-1 network with W = 1 and b = 0: σ by predict, σ' by pullback."""

import numpy as np
import pytest
import reference
from cases import HIDDEN_CASES, OPTIMIZERS, TASKS, case_ids
from helpers import relative_error, same_bits
from nets import library_activation

import chainrule as cr
from chainrule import _core, c_export, optimizers

ELEMENTWISE = (*HIDDEN_CASES, "exp")
DTYPES = ("float32", "float64")


def unit_net(activation, dtype="float64"):
    mlp = cr.MLP([1, 1], output_activation=library_activation(activation), loss="mse", dtype=dtype, seed=0)
    mlp.parameters[:] = [1, 0]
    return mlp


def values(activation, z, dtype="float64"):
    return unit_net(activation, dtype).predict(np.asarray(z, dtype)[:, None])[:, 0]


def slopes(activation, z, dtype="float64"):
    mlp = unit_net(activation, dtype)
    mlp.forward(np.asarray(z, dtype)[:, None])
    return mlp.pullback(np.ones((len(z), 1), dtype))[:, 0]


def ulps(actual, exact):
    """Distance in units of the last place of actual's dtype; exact is in a wider one."""
    return np.abs(actual.astype(exact.dtype) - exact) / np.spacing(np.abs(exact).astype(actual.dtype))


def wide(z):
    """The same numbers with at least ten more bits, to compute the truth in."""
    wider = np.float64 if z.dtype == np.float32 else np.longdouble
    if np.finfo(wider).nmant < np.finfo(z.dtype).nmant + 10:
        pytest.skip("no floating-point type wider than float64 on this platform")
    return z.astype(wider)


def spread(dtype, low, high):
    """Random numbers in [low, high], small ones of every magnitude, both zeros."""
    rng = np.random.default_rng(3)
    small = 10.0 ** rng.uniform(-30, 0, size=500) * rng.choice([-1, 1], size=500)
    z = np.concatenate([rng.uniform(low, high, size=4000), small, [0.0, -0.0]]).astype(dtype)
    return z[(z >= low) & (z <= high)]


@pytest.mark.parametrize("activation", ELEMENTWISE, ids=case_ids)
def test_values(activation):
    z = np.concatenate([np.linspace(-6, 6, 241), 10.0 ** np.arange(-20, 1), -(10.0 ** np.arange(-20, 1))])
    assert relative_error(values(activation, z), reference.activate(activation, z)) <= 1e-14


@pytest.mark.parametrize("activation", ELEMENTWISE, ids=case_ids)
def test_slopes(activation):
    name, parameter = reference.name_and_parameter(activation)
    z = np.concatenate([np.linspace(-6, 6, 241) + 1e-3, [10.0, 15.0, -15.0]])
    assert relative_error(slopes(activation, z), reference.SLOPES[name](z, parameter)) <= 1e-14


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("activation", "bound", "low", "high"),
    [("exp", 1, -80, 80), ("tanh", 2, -20, 20), ("sigmoid", 3, -80, 80)],
    ids=["exp", "tanh", "sigmoid"],
)
def test_units_in_the_last_place(activation, bound, low, high, dtype):
    z = spread(dtype, low, high)
    x = wide(z)
    exact = {"exp": np.exp, "tanh": np.tanh, "sigmoid": lambda x: 1 / (1 + np.exp(-x))}[activation](x)
    worst = ulps(values(activation, z, dtype), exact).max()
    assert worst <= bound


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("activation", "at_minus_infinity", "at_infinity"),
    [
        ("sigmoid", 0, 1),
        ("tanh", -1, 1),
        ("relu", 0, np.inf),
        ("elu", -1, np.inf),
        ("softplus", 0, np.inf),
        ("exp", 0, np.inf),
    ],
)
def test_limits(activation, at_minus_infinity, at_infinity, dtype):
    """z overflows to ±inf although X and W are finite."""
    mlp = unit_net(activation, dtype)
    mlp.parameters[:] = [np.finfo(dtype).max, 0]
    a = mlp.predict(np.array([[-10.0], [10.0]]))[:, 0]
    assert a.tolist() == [at_minus_infinity, at_infinity]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", HIDDEN_CASES, ids=case_ids)
def test_finite_numbers_give_finite_values_and_slopes(activation, dtype):
    largest = 0.1 * np.finfo(dtype).max
    tiny = np.finfo(dtype).smallest_subnormal
    z = np.array([-largest, -1e4, -100, -30, -tiny, 0, tiny, 30, 100, 1e4, largest], dtype)
    assert np.all(np.isfinite(values(activation, z, dtype)))
    assert np.all(np.isfinite(slopes(activation, z, dtype)))


@pytest.mark.parametrize(
    ("activation", "slope"),
    [
        ("relu", 0.0),
        ("leaky_relu", 0.01),
        (("leaky_relu", 0.3), 0.3),
        ("elu", 1.0),
        (("elu", 0.7), 0.7),
        ("selu", reference.SELU_SCALE * reference.SELU_ALPHA),
        ("gelu", 0.5),
        ("silu", 0.5),
        ("softplus", 0.5),
        ("sigmoid", 0.25),
        ("tanh", 1.0),
    ],
    ids=case_ids,
)
def test_slope_at_zero_follows_pytorch_s_convention(activation, slope):
    assert slopes(activation, [0.0, -0.0]) == pytest.approx([slope, slope], rel=1e-15)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
def test_softmax_rows_sum_to_one_for_any_logits(loss, dtype):
    mlp = cr.MLP([5, 5], output_activation="softmax", loss=loss, dtype=dtype, seed=0)
    mlp.weights[0][:], mlp.biases[0][:] = np.eye(5), 0
    z = np.array([[1e4, 0, -1e4, 3, 2], [-1e30, -1e30, -1e30, -1e30, -1e30], [1e30, 1e30, 0, 0, 0], [1, 2, 3, 4, 5]])
    a = mlp.predict(z)
    assert np.all(a >= 0)
    np.testing.assert_allclose(a.sum(axis=1), 1, rtol=8 * np.finfo(dtype).eps)
    np.testing.assert_allclose(a[1], 0.2, rtol=8 * np.finfo(dtype).eps)
    np.testing.assert_allclose(a[2], [0.5, 0.5, 0, 0, 0], rtol=8 * np.finfo(dtype).eps)


def test_softmax_does_not_feel_a_shift():
    mlp = cr.MLP([3, 3], output_activation="softmax", dtype="float64", seed=0)
    mlp.weights[0][:] = np.eye(3)
    z = np.array([[1.0, 2.0, 4.0], [0.5, 0.25, -3.0]])
    mlp.biases[0][:] = 0
    plain = mlp.predict(z)
    mlp.biases[0][:] = 64
    np.testing.assert_allclose(mlp.predict(z), plain, rtol=1e-14)


def test_each_hidden_layer_has_its_own_activation():
    mlp = cr.MLP([2, 3, 4, 5, 1], hidden_activation=["relu", cr.ELU(alpha=0.5), "tanh"], dtype="float64", seed=0)
    assert [activation.name for activation in mlp.hidden_activations] == ["relu", "elu", "tanh"]
    assert mlp.output_activation.name == "identity"
    net = reference.MLP(mlp.weights, mlp.biases, ["relu", ("elu", 0.5), "tanh", "identity"])
    X = np.random.default_rng(0).normal(size=(6, 2))
    assert relative_error(mlp.predict(X), net.forward(X)) <= 1e-13


@pytest.mark.parametrize(
    ("loss", "name"),
    [
        ("mse", "identity"),
        ("mae", "identity"),
        ("huber", "identity"),
        ("quantile", "identity"),
        ("bce", "sigmoid"),
        ("cross_entropy", "softmax"),
        ("poisson", "exp"),
    ],
)
def test_output_activation_follows_the_loss(loss, name):
    assert cr.MLP([2, 3, 4], loss=loss, seed=0).output_activation.name == name


@pytest.mark.parametrize(
    ("name", "default"), [("leaky_relu", lambda: cr.LeakyReLU()), ("elu", lambda: cr.ELU())], ids=["leaky_relu", "elu"]
)
def test_a_name_means_the_default_parameter(name, default):
    X = np.linspace(-3, 3, 8).reshape(4, 2)
    by_name = cr.MLP([2, 3, 1], hidden_activation=name, seed=0)
    by_object = cr.MLP([2, 3, 1], hidden_activation=default(), seed=0)
    assert by_name.hidden_activations == by_object.hidden_activations
    assert same_bits(by_name.predict(X), by_object.predict(X))


def test_activations_are_values():
    assert cr.ELU(alpha=0.5) == cr.ELU(alpha=0.5) != cr.ELU(alpha=0.6)
    assert cr.LeakyReLU(negative_slope=0.2).parameter == 0.2
    assert len({cr.ELU(alpha=0.5), cr.ELU(alpha=0.5), cr.LeakyReLU(negative_slope=0.5)}) == 2
    assert "0.5" in repr(cr.ELU(alpha=0.5))


def test_repr_makes_the_same_again():
    for made in (cr.LeakyReLU(0.123456789), cr.ELU(1 / 3), cr.Huber(1e-7), cr.Normal(1 / 7), cr.Uniform(2 / 3)):
        assert eval(f"cr.{made!r}") == made


def test_every_activation_and_loss_is_known_to_the_tests_and_to_the_other_formats():
    assert set(_core.activation_names) == set(reference.VALUES)
    assert set(_core.loss_names) == set(reference.LOSSES) == {task.loss_name for task in TASKS}
    assert {kind.lower() for kind, _ in OPTIMIZERS} == set(optimizers.OPTIMIZERS)
    assert set(_core.activation_names) == set(c_export.VALUES) | {"identity", "softmax"}
    assert set(_core.loss_names) == set(c_export.LOSSES) | {"cross_entropy"}


@pytest.mark.parametrize("name", sorted(set(_core.activation_names) - {"identity"}))
def test_every_activation_goes_to_other_formats_and_back(tmp_path, name):
    mlp = cr.MLP([2, 3], output_activation={"leaky_relu": cr.LeakyReLU(), "elu": cr.ELU()}.get(name, name), seed=0)
    pytest.importorskip("onnx", reason="onnx is not installed: activations are not taken there")
    mlp.to_onnx(tmp_path / "net.onnx")
    assert cr.MLP.from_onnx(tmp_path / "net.onnx").output_activation == mlp.output_activation
    if name != "exp":  # which PyTorch has no module for
        pytest.importorskip("torch", reason="PyTorch is not installed: activations are not taken there")
        assert cr.MLP.from_torch(mlp.to_torch()).output_activation == mlp.output_activation
