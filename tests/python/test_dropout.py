"""Dropout and sparse input of the class `MLP`; the C++ tests have their mathematics."""

import copy
import pickle

import numpy as np
import pytest
from helpers import same_bits
from nets import smooth_data

import chainrule as cr


def test_dropout_is_on_in_training_and_off_in_prediction():
    X, y = smooth_data()
    mlp = cr.MLP([4, 50, 20, 2], dropout=[0.5, 0.1], seed=0, dtype="float64")
    assert mlp.dropout == (0.5, 0.1)
    assert "dropout=[0.5, 0.1]" in repr(mlp)
    assert not same_bits(mlp.forward(X), mlp.forward(X))
    assert same_bits(mlp.predict(X), mlp.predict(X))
    assert mlp.evaluate(X, y) == mlp.evaluate(X, y)
    assert mlp.check_gradients(X, y).max_relative_error < 1e-5
    mlp.forward(X)
    loss = mlp.backward(y)
    assert loss != mlp.evaluate(X, y)


def test_dropout_survives_pickle_and_copy_and_repeats_with_the_seed():
    X, y = smooth_data()
    mlp = cr.MLP([4, 50, 2], dropout=0.3, seed=5)
    twins = [mlp.copy(), pickle.loads(pickle.dumps(mlp)), cr.MLP([4, 50, 2], dropout=0.3, seed=5)]
    mlp.fit(X, y, epochs=3)
    for twin in twins:
        twin.fit(X, y, epochs=3)
        assert same_bits(twin.parameters, mlp.parameters)


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda mlp: pickle.loads(pickle.dumps(mlp))])
def test_the_masks_of_a_loop_of_steps_go_on_in_a_duplicate(duplicate):
    X, y = smooth_data(30)
    mlp, optimizer = cr.MLP([4, 50, 2], dropout=0.5, seed=5), cr.SGD()
    first = mlp.step(X, y, optimizer)
    twin = duplicate(mlp)
    assert mlp.step(X, y, cr.SGD()) == twin.step(X, y, cr.SGD()) != first


@pytest.mark.parametrize(
    ("dropout", "message"),
    [
        (1.0, r"dropout is 1.0 \(float\); expected a number in \[0, 1\)"),
        (-0.1, "expected a number in"),
        ([0.1], "dropout has 1 entries; expected 2, one per hidden layer"),
    ],
)
def test_dropout_out_of_range(dropout, message):
    with pytest.raises(ValueError, match=message):
        cr.MLP([4, 5, 5, 2], dropout=dropout)
    with pytest.raises(TypeError, match="dropout is 'half'"):
        cr.MLP([4, 5, 5, 2], dropout="half")


def test_sparse_input_everywhere():
    scipy_sparse = pytest.importorskip("scipy.sparse", reason="SciPy is not installed: sparse input is not checked")
    X, y = smooth_data()
    X[X < 1] = 0
    sparse = scipy_sparse.csr_matrix(X)
    one, other = (cr.MLP([4, 6, 2], seed=0, dtype="float64") for _ in range(2))
    assert same_bits(one.forward(X), other.forward(sparse))
    assert same_bits(other.activations[0], X)
    optimizers = [cr.Adam(), cr.Adam()]
    assert one.step(X, y, optimizers[0]) == pytest.approx(other.step(sparse, y, optimizers[1]), rel=1e-12)
    histories = [mlp.fit(data, y, epochs=3, validation=(data, y)) for mlp, data in ((one, X), (other, sparse.tocsc()))]
    np.testing.assert_allclose(histories[0].validation_loss, histories[1].validation_loss, rtol=1e-10)
    np.testing.assert_allclose(other.predict(sparse), one.predict(X), atol=1e-10)


def test_bad_sparse_input():
    scipy_sparse = pytest.importorskip("scipy.sparse", reason="SciPy is not installed: sparse input is not checked")
    mlp = cr.MLP([4, 6, 2])
    good = scipy_sparse.csr_matrix(np.eye(4))
    with pytest.raises(ValueError, match="X has 3 columns; this network takes 4"):
        mlp.predict(good[:, :3])
    with pytest.raises(ValueError, match="X has no rows"):
        mlp.predict(good[:0])
    for name, value in (("indices", 17), ("indices", -1), ("indptr", 99)):
        broken = good.copy()
        broken.has_sorted_indices = True
        getattr(broken, name)[1] = value
        with pytest.raises(ValueError, match="X is no valid CSR matrix"):
            mlp.predict(broken)
    nan = good.copy()
    nan.data[2] = np.nan
    with pytest.raises(ValueError, match="X holds nan"):
        mlp.fit(nan, np.zeros((4, 2)), epochs=1)
    with pytest.raises(TypeError, match="expected real numbers"):
        mlp.predict(good.astype(complex))
    unsorted = scipy_sparse.csr_matrix((np.ones(3), np.array([2, 0, 1]), np.array([0, 3])), shape=(1, 4))
    np.testing.assert_array_equal(mlp.predict(unsorted), mlp.predict(unsorted.toarray()))


def test_dropout_next_to_1_lets_some_through():
    mlp = cr.MLP([1, 64, 1], hidden_activation="identity", dropout=0.999999, seed=0)
    mlp.weights[0][:], mlp.biases[0][:], mlp.weights[1][:] = 0, 1, 1
    a = mlp.forward(np.ones((20000, 1)))
    assert np.isfinite(a).all() and a.max() == 65536
