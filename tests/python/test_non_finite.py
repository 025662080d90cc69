"""Where the NaN came from."""

import json
import pickle

import numpy as np
import pytest
from helpers import state
from nets import few_samples, smooth_data

import chainrule as cr

DTYPES = pytest.mark.parametrize("dtype", ["float32", "float64"])


def huge(dtype):
    """So large that its square overflows."""
    return np.sqrt(np.finfo(dtype).max) * 4


def net(dtype, hidden="tanh", sizes=(4, 6, 5, 2)):
    return cr.MLP(sizes, hidden_activation=hidden, dtype=dtype, seed=0)


def where(mlp, X, y, **settings):
    before = mlp.parameters.tobytes()
    with pytest.raises(cr.NonFiniteError) as caught:
        mlp.fit(X, y, **{"epochs": 1, "batch_size": 16, "shuffle": False, **settings})
    assert mlp.parameters.tobytes() == before
    return caught.value.where


@DTYPES
@pytest.mark.parametrize("clip_norm", [None, 1.0])
def test_overflow_of_the_loss(dtype, clip_norm):
    X, y = smooth_data()
    y[21, 1] = huge(dtype)
    mlp, optimizer = net(dtype), cr.SGD(lr=0.0)
    found = where(mlp, X, y, optimizer=optimizer, clip_norm=clip_norm)
    assert (found.tensor, found.cause, found.layer, found.row) == ("loss", "overflow", 3, 21)
    assert (found.epoch, found.batch, found.step) == (1, 2, 2) and found.loss == np.inf
    assert optimizer.t == 1


@DTYPES
def test_overflow_of_a_layer_is_told_from_what_it_passes_on(dtype):
    X, y = smooth_data()
    mlp = net(dtype, "relu")
    mlp.weights[1][:] = huge(dtype) / 4
    mlp.weights[2][:] = 1 / huge(dtype)
    X[40, :] *= np.finfo(dtype).max ** 0.5
    found = where(mlp, X, y, optimizer=cr.SGD(lr=0.0))
    assert (found.tensor, found.cause, found.layer, found.row) == ("z", "overflow", 2, 40)
    assert found.batch == 3
    assert "z_2 is" in str(found) and "layers.1" in str(found) and "sample 40" in str(found)


@DTYPES
def test_bad_weight(dtype):
    X, y = smooth_data()
    mlp = net(dtype)
    mlp.weights[1][3, 2] = np.nan
    mlp.biases[2][1] = np.inf
    found = where(mlp, X, y)
    assert (found.tensor, found.cause, found.layer) == ("layers.1.weight", "bad weight", 2)
    assert (found.row, found.column) == (3, 2) and np.isnan(found.value)


@DTYPES
def test_gradient_overflows_and_the_loss_does_not(dtype):
    """Through a chain of identities whose product of weights is moderate, δ grows beyond all bounds."""
    big = np.finfo(dtype).max ** 0.3
    X, y = np.full((20, 1), 1e-3), np.full((20, 1), 5.0)
    mlp = cr.MLP([1, 1, 1, 1, 1, 1], hidden_activation="identity", dtype=dtype)
    for W, value in zip(mlp.weights, [1 / big**2, 1 / big**2, big, big, big * big], strict=True):
        W[:] = value
    found = where(mlp, X, y)
    assert (found.tensor, found.cause) == ("delta", "overflow") and np.isfinite(found.loss)
    assert "the gradient stopped being finite" in str(found)


@DTYPES
def test_only_the_sum_of_products_overflows(dtype):
    """a and δ are finite and their product is not; the loss is."""
    big = np.finfo(dtype).max ** 0.6
    X, y = np.full((8, 1), 1.0), np.full((8, 1), big**0.5)
    mlp = cr.MLP([1, 1, 1], hidden_activation="identity", dtype=dtype)
    mlp.weights[0][:] = big
    mlp.weights[1][:] = 0
    y[:] = big ** (0.4 / 0.6 * 1.2)
    found = where(mlp, X, y)
    assert (found.tensor, found.cause) == ("layers.1.weight gradient", "overflow") and np.isfinite(found.loss)


def test_large_but_finite_numbers_train_on():
    X, y = np.full((8, 1), 1e10), np.full((8, 1), 1e10)
    mlp = cr.MLP([1, 1], dtype="float32", seed=0)
    twin = mlp.copy()
    optimizer = cr.SGD(lr=1e-30)
    loss = mlp.step(X, y, optimizer)
    twin.forward(X)
    assert loss == twin.backward(y, lr=1e-30) and optimizer.t == 1
    assert np.array_equal(mlp.parameters, twin.parameters)


def test_rows_are_those_of_the_data_when_shuffled():
    X, y = smooth_data(n=200)
    y[137] = 1e200
    with pytest.raises(cr.NonFiniteError) as caught:
        net("float64").fit(X, y, epochs=1, batch_size=16)
    assert caught.value.where.row == 137


def test_stop():
    X, y = smooth_data()
    y[40] = 1e200
    mlp, twin = net("float64"), net("float64")
    settings = {"batch_size": 16, "shuffle": False}
    history = mlp.fit(X, y, epochs=5, on_nonfinite="stop", **settings)
    assert history.stopped_early and history.epochs == 0 and history.steps_left_out == 1
    assert history.non_finite.row == 40 and history.non_finite.step == 3
    twin.fit(X[:32], y[:32], epochs=1, **settings)
    assert np.array_equal(mlp.parameters, twin.parameters)


def test_ignore_leaves_the_step_out():
    X, y = smooth_data()
    mlp, twin = net("float64"), net("float64")
    bad = y.copy()
    bad[40] = 1e200
    settings = {"batch_size": 16, "shuffle": False}
    history = mlp.fit(X, bad, epochs=3, on_nonfinite="ignore", **settings)
    keep = np.r_[0:32, 48:64]
    other = twin.fit(X[keep], y[keep], epochs=3, **settings)
    assert history.steps_left_out == 3 and history.non_finite.epoch == 1 and history.epochs == 3
    assert np.array_equal(mlp.parameters, twin.parameters) and history.loss == other.loss
    assert history.to_dict()["non_finite"]["row"] == 40


@DTYPES
def test_single_step(dtype):
    X, y = smooth_data()
    y[5] = huge(dtype)
    mlp, optimizer = net(dtype), cr.Adam()
    before = state(mlp)
    with pytest.raises(FloatingPointError, match="the loss became inf: loss is inf at sample 5; it overflowed"):
        mlp.step(X, y, optimizer)
    assert state(mlp) == before and optimizer.t == 0


def test_the_error_can_be_pickled():
    X, y = smooth_data()
    y[5] = 1e200
    with pytest.raises(cr.NonFiniteError) as caught:
        net("float64").fit(X, y, epochs=1)
    again = pickle.loads(pickle.dumps(caught.value))
    assert again.where == caught.value.where and str(again) == str(caught.value)


@pytest.mark.parametrize("given", ["stopp", "RAISE"])
def test_unknown_name(given):
    X, y = smooth_data()
    with pytest.raises(ValueError, match="on_nonfinite: unknown name"):
        net("float64").fit(X, y, epochs=1, on_nonfinite=given)
    with pytest.raises(TypeError, match="on_nonfinite is None"):
        net("float64").fit(X, y, epochs=1, on_nonfinite=None)


def test_the_error_has_the_attributes_of_its_place():
    X, y = smooth_data()
    y[3] = 1e300
    with pytest.raises(cr.NonFiniteError) as caught:
        net("float64").fit(X, y, epochs=1, shuffle=False)
    error = caught.value
    for name, value in vars(error.where).items():
        assert getattr(error, name) is value
        assert name in dir(error)
    assert not hasattr(error, "rows")
    text = json.dumps(error.where.to_dict(), allow_nan=False)
    assert json.loads(text)["row"] == error.row == 3


def test_what_drops_out_makes_the_rest_overflow():
    mlp = cr.MLP([1, 256, 1], dropout=0.99, dtype="float32", seed=0)
    mlp.weights[0][:] = 1e37
    with pytest.raises(cr.NonFiniteError) as info:
        mlp.fit(np.ones((8, 1)), np.ones(8), epochs=1)
    assert (info.value.tensor, info.value.layer, info.value.cause) == ("a", 1, "overflow")


@pytest.mark.parametrize("outputs", [1, 3])
def test_a_sample_without_weight_is_none_however_steep_its_loss(outputs):
    mlp = cr.MLP([1, outputs], loss="poisson", dtype="float32", seed=0)
    mlp.weights[0][:] = 1
    same = mlp.copy()
    mlp.fit([[1.0], [200.0]], np.ones((2, outputs)), sample_weight=[1.0, 0.0], epochs=3, shuffle=False)
    same.fit([[1.0]], np.ones((1, outputs)), epochs=3)
    np.testing.assert_array_equal(mlp.parameters, same.parameters)


def test_batch_of_a_later_epoch():
    X, y = few_samples()
    mlp = cr.MLP([3, 4, 1], seed=0)

    def spoil(report):
        mlp.weights[1][:] = 1e38

    with pytest.raises(cr.NonFiniteError) as caught:
        mlp.fit(X, y, epochs=2, batch_size=16, shuffle=False, callbacks=[spoil])
    assert (caught.value.epoch, caught.value.batch, caught.value.step) == (2, 1, 5)


def test_a_bad_weight_did_not_overflow():
    X, y = few_samples()
    mlp = cr.MLP([3, 4, 1], seed=0)
    mlp.weights[1][0] = np.nan
    with pytest.raises(cr.NonFiniteError) as caught:
        mlp.step(X, y, cr.SGD(0.1))
    assert caught.value.cause == "bad weight" and "overflowed" not in str(caught.value)
