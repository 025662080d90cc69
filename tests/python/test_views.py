"""Views: zero-copy in both directions, one flat layout, alive for as long as anybody holds them."""

import gc

import numpy as np
import pytest
import reference
from helpers import assert_close, same_bits
from nets import small_net

import chainrule as cr


def address(view):
    return view.__array_interface__["data"][0]


def trained_net(layer_sizes=(4, 5, 3), dtype="float64"):
    mlp, X, y = small_net(layer_sizes, dtype=dtype)
    mlp.forward(X)
    mlp.backward(y)
    return mlp, X, y


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("layer_sizes", [(4, 5, 3), (1, 1), (3, 7, 1, 5, 2), (33, 100, 17)], ids=str)
@pytest.mark.parametrize("kind", ["parameters", "gradient"])
def test_flat_vector_is_w1_b1_w2_b2_without_gaps(layer_sizes, dtype, kind):
    mlp, _, _ = trained_net(layer_sizes, dtype)
    flat = getattr(mlp, kind)
    weights, biases = (mlp.weights, mlp.biases) if kind == "parameters" else (mlp.weight_gradients, mlp.bias_gradients)
    assert flat.dtype == dtype and flat.ndim == 1 and flat.flags.c_contiguous
    assert flat.size == mlp.n_parameters == sum(W.size + b.size for W, b in zip(weights, biases, strict=True))
    assert address(flat) % 64 == 0
    offset = 0
    for layer, (W, b) in enumerate(zip(weights, biases, strict=True)):
        assert W.shape == (layer_sizes[layer], layer_sizes[layer + 1]) and b.shape == (layer_sizes[layer + 1],)
        assert W.dtype == b.dtype == dtype and W.flags.c_contiguous and b.flags.c_contiguous
        for part in (W, b):
            assert address(part) == address(flat) + offset * flat.itemsize
            offset += part.size
    assert same_bits(flat, reference.flatten(weights, biases))


@pytest.mark.parametrize("kind", ["parameters", "gradient"])
def test_each_access_is_the_same_memory(kind):
    mlp, _, _ = trained_net()
    assert address(getattr(mlp, kind)) == address(getattr(mlp, kind))
    assert np.shares_memory(mlp.weights[0], mlp.parameters) and np.shares_memory(mlp.bias_gradients[1], mlp.gradient)
    assert not np.shares_memory(mlp.parameters, mlp.gradient)


def test_views_are_writable_arrays():
    mlp, _, _ = trained_net()
    for view in (mlp.parameters, mlp.gradient, *mlp.weights, *mlp.biases, *mlp.weight_gradients, *mlp.bias_gradients):
        assert type(view) is np.ndarray and view.flags.writeable and view.flags.aligned and not view.flags.owndata


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_writing_weights_changes_predictions(dtype):
    mlp, X, _ = small_net((4, 5, 3), dtype=dtype, hidden_activation="tanh")
    rng = np.random.default_rng(0)
    W1, b1, W2, b2 = (rng.normal(size=shape).astype(dtype) for shape in [(4, 5), 5, (5, 3), 3])
    mlp.weights[0][:], mlp.biases[0][:], mlp.weights[1][:], mlp.biases[1][:] = W1, b1, W2, b2
    assert same_bits(mlp.parameters, np.concatenate([W1.ravel(), b1, W2.ravel(), b2]))
    net = reference.MLP([W1, W2], [b1, b2], ["tanh", "identity"])
    tolerance = 1e-6 if dtype == "float32" else 1e-13
    assert_close(mlp.predict(X), net.forward(X), tolerance)
    assert_close(mlp.forward(X), net.forward(X), tolerance)


def test_writing_one_number_between_uses_is_seen_by_all_of_them():
    """Whatever the engine packs or keeps, a written weight counts from the next call on."""
    mlp, X, y = trained_net((33, 40, 3))
    optimizer = cr.SGD(lr=0.01)

    def everything():
        twin = mlp.copy()
        results = [mlp.predict(X), mlp.forward(X), np.array(mlp.backward(y)), mlp.gradient.copy(), mlp.pullback(y)]
        fresh = [twin.predict(X), twin.forward(X), np.array(twin.backward(y)), twin.gradient.copy(), twin.pullback(y)]
        assert all(same_bits(a, b) for a, b in zip(results, fresh, strict=True))
        return results

    before = everything()
    for write in (
        lambda: mlp.weights[0].__setitem__((32, 39), 5.0),
        lambda: mlp.weights[1].__setitem__((0, 2), -4.0),
        lambda: mlp.biases[0].__setitem__(0, 3.0),
        lambda: mlp.parameters.__setitem__(-1, 2.0),
        lambda: mlp.parameters.__imul__(0.5),
    ):
        write()
        after = everything()
        assert not same_bits(after[0], before[0])
        before = after
        mlp.step(X, y, optimizer)
        before = everything()


def test_training_shows_in_views_that_are_already_held():
    mlp, X, y = trained_net()
    W, flat, gradient = mlp.weights[1], mlp.parameters, mlp.gradient
    old_W, old_gradient = W.copy(), gradient.copy()
    mlp.step(X, y, cr.SGD(lr=0.5))
    assert not same_bits(W, old_W)
    mlp.fit(X, y, epochs=2)
    assert same_bits(W, mlp.weights[1]) and same_bits(flat, mlp.parameters)
    mlp.forward(2 * X)
    mlp.backward(y)
    assert same_bits(gradient, mlp.gradient) and not same_bits(gradient, old_gradient)
    assert address(flat) == address(mlp.parameters)


def test_named_views():
    mlp, _, _ = trained_net((2, 3, 4, 1))
    names = [f"layers.{layer}.{part}" for layer in range(3) for part in ("weight", "bias")]
    assert [name for name, _ in mlp.named_parameters()] == names
    assert [name for name, _ in mlp.named_gradients()] == names
    views = dict(mlp.named_parameters())
    views["layers.1.weight"][:] = 3.0
    assert np.all(mlp.weights[1] == 3.0)
    for layer in range(3):
        assert address(views[f"layers.{layer}.weight"]) == address(mlp.weights[layer])
        assert address(views[f"layers.{layer}.bias"]) == address(mlp.biases[layer])
        assert address(dict(mlp.named_gradients())[f"layers.{layer}.weight"]) == address(mlp.weight_gradients[layer])


def test_lists_are_the_caller_s_own():
    """Changing the list changes nothing; only writing into an array does."""
    mlp, X, _ = trained_net()
    before = mlp.predict(X)
    mlp.weights[0] = np.zeros((4, 5))
    mlp.biases.clear()
    assert len(mlp.biases) == 2
    assert same_bits(mlp.predict(X), before)


@pytest.mark.parametrize("name", ["parameters", "weights", "biases", "gradient", "activations", "dtype", "layer_sizes"])
def test_properties_cannot_be_assigned(name):
    mlp, _, _ = trained_net()
    before = mlp.parameters.copy()
    with pytest.raises(AttributeError):
        setattr(mlp, name, None)
    assert same_bits(mlp.parameters, before)


EVERY_VIEW = {
    "parameters": lambda mlp: [mlp.parameters],
    "gradient": lambda mlp: [mlp.gradient],
    "weights": lambda mlp: mlp.weights,
    "biases": lambda mlp: mlp.biases,
    "weight_gradients": lambda mlp: mlp.weight_gradients,
    "bias_gradients": lambda mlp: mlp.bias_gradients,
    "activations": lambda mlp: mlp.activations,
    "pre_activations": lambda mlp: mlp.pre_activations,
    "deltas": lambda mlp: mlp.deltas,
    "named_parameters": lambda mlp: [view for _, view in mlp.named_parameters()],
    "slice": lambda mlp: [mlp.weights[0][::2, 1:].T],
}


@pytest.mark.parametrize("kind", EVERY_VIEW)
def test_views_outlive_their_network(kind):
    mlp, _, _ = trained_net((40, 50, 30))
    views = EVERY_VIEW[kind](mlp)
    copies = [view.copy() for view in views]
    del mlp
    gc.collect()
    others = [trained_net((40, 50, 30)) for _ in range(20)]  # would reuse freed memory
    assert len(others) == 20
    assert all(same_bits(view, kept) for view, kept in zip(views, copies, strict=True))
    for view in views:
        if view.flags.writeable:
            view[...] = 1
            assert np.all(view == 1)


class TestTape:
    def test_shapes_and_meaning(self):
        mlp, X, y = small_net((4, 6, 5, 3), hidden_activation=["sigmoid", "gelu"])
        out = mlp.forward(X)
        loss = mlp.backward(y)
        assert [a.shape for a in mlp.activations] == [(7, 4), (7, 6), (7, 5), (7, 3)]
        assert [z.shape for z in mlp.pre_activations] == [(7, 6), (7, 5), (7, 3)]
        assert [delta.shape for delta in mlp.deltas] == [(7, 6), (7, 5), (7, 3)]
        assert all(view.dtype == mlp.dtype for view in (*mlp.activations, *mlp.pre_activations, *mlp.deltas))
        assert same_bits(mlp.activations[0], X) and same_bits(mlp.activations[-1], out)
        assert loss == pytest.approx(np.mean((out - y) ** 2), rel=1e-14)
        for layer in range(3):
            a, z, delta = mlp.activations[layer], mlp.pre_activations[layer], mlp.deltas[layer]
            assert_close(z, a @ mlp.weights[layer] + mlp.biases[layer], 1e-14)
            assert_close(mlp.weight_gradients[layer], a.T @ delta, 1e-14)
            assert_close(mlp.bias_gradients[layer], delta.sum(axis=0), 1e-14)

    def test_activations_and_deltas_are_views(self):
        mlp, _, _ = trained_net()
        for name in ("activations", "deltas"):
            first, again = getattr(mlp, name), getattr(mlp, name)
            assert [address(view) for view in first] == [address(view) for view in again]
            assert not any(view.flags.owndata for view in first)

    def test_views_of_a_small_batch_survive_a_large_one(self):
        """The tape grows: an old view keeps its rows or shows the new batch's first ones, never freed memory."""
        mlp, _, _ = trained_net()
        old = mlp.activations + mlp.deltas
        copies = [view.copy() for view in old]
        rng = np.random.default_rng(1)
        X_large, y_large = rng.normal(size=(3000, 4)), rng.normal(size=(3000, 3))
        mlp.forward(X_large)
        mlp.backward(y_large)
        new = [view[:7] for view in mlp.activations + mlp.deltas]
        assert all(
            same_bits(view, kept) or same_bits(view, now) for view, kept, now in zip(old, copies, new, strict=True)
        )

    def test_predict_and_evaluate_leave_the_tape_alone(self):
        mlp, X, y = trained_net()
        tape = [view.copy() for view in mlp.activations + mlp.pre_activations + mlp.deltas]
        gradient = mlp.gradient.copy()
        mlp.predict(2 * X[:3])
        mlp.evaluate(3 * X, y)
        mlp.predict(np.ones((500, 4)))
        now = mlp.activations + mlp.pre_activations + mlp.deltas
        assert all(same_bits(view, kept) for view, kept in zip(now, tape, strict=True))
        assert same_bits(mlp.gradient, gradient)

    def test_caches_before_they_exist(self):
        mlp, X, y = small_net()
        for name in ("activations", "pre_activations", "deltas", "gradient", "weight_gradients", "bias_gradients"):
            with pytest.raises(RuntimeError, match=r"(?i)forward|backward"):
                getattr(mlp, name)
        mlp.forward(X)
        assert len(mlp.activations) == 3
        for name in ("deltas", "gradient"):
            with pytest.raises(RuntimeError, match=r"(?i)backward"):
                getattr(mlp, name)
        mlp.backward(y)
        assert len(mlp.deltas) == 2


def test_views_take_part_in_numpy_s_arithmetic():
    """L-BFGS of SciPy, an all-reduce, weight averaging: all of them are work on the flat vectors."""
    mlp, X, y = trained_net()
    average = np.mean([mlp.parameters, 3 * mlp.parameters], axis=0)
    np.multiply(mlp.parameters, 2, out=mlp.parameters)
    assert_close(mlp.parameters, average, 1e-15)
    before = mlp.evaluate(X, y)
    mlp.parameters[:] /= 2
    mlp.forward(X)
    mlp.backward(y)
    mlp.parameters[...] -= 0.01 * mlp.gradient
    assert mlp.evaluate(X, y) != before
