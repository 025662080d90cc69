"""The MLP class: construction, properties, text, and the textbook loop."""

import numpy as np
import pytest
from helpers import same_bits
from nets import small_net

import chainrule as cr


def test_defaults():
    mlp = cr.MLP([4, 8, 6, 3])
    assert mlp.layer_sizes == (4, 8, 6, 3)
    assert mlp.n_layers == 3
    assert mlp.n_parameters == 4 * 8 + 8 + 8 * 6 + 6 + 6 * 3 + 3
    assert mlp.dtype == np.dtype("float32") and isinstance(mlp.dtype, np.dtype)
    assert mlp.loss.name == "mse"
    assert [activation.name for activation in mlp.hidden_activations] == ["relu", "relu"]
    assert isinstance(mlp.hidden_activations, tuple)
    assert mlp.output_activation.name == "identity"


def test_a_net_without_hidden_layers():
    mlp = cr.MLP([3, 2], dtype="float64", seed=5)
    assert mlp.n_layers == 1 and mlp.hidden_activations == () and mlp.seed == 5
    X = np.arange(6.0).reshape(2, 3)
    np.testing.assert_allclose(mlp.predict(X), X @ mlp.weights[0], rtol=1e-14)


@pytest.mark.parametrize("dtype", ["float32", "float64", np.float32, np.float64, np.dtype("float64"), float])
def test_dtypes(dtype):
    mlp = cr.MLP([2, 3], dtype=dtype)
    assert mlp.dtype == np.dtype(dtype) and mlp.parameters.dtype == np.dtype(dtype)


@pytest.mark.parametrize("sizes", [[2, 3, 1], (2, 3, 1), np.array([2, 3, 1]), range(1, 4)], ids=str)
def test_sizes_are_any_sequence_of_integers(sizes):
    assert cr.MLP(sizes).layer_sizes == tuple(int(size) for size in sizes)


def test_settings_are_readable_back():
    mlp = cr.MLP(
        [2, 3, 4, 2],
        hidden_activation=[cr.ELU(alpha=0.5), "tanh"],
        output_activation="softplus",
        loss=cr.Huber(delta=2.0),
        init=cr.Uniform(bound=0.2),
        seed=9,
    )
    assert mlp.hidden_activations[0] == cr.ELU(alpha=0.5) and mlp.hidden_activations[1].name == "tanh"
    assert mlp.output_activation.name == "softplus"
    assert mlp.loss.name == "huber"
    assert mlp.seed == 9
    assert np.abs(mlp.parameters).max() <= 0.2


def test_repr_shows_architecture_and_parameter_count():
    mlp = cr.MLP([784, 128, 10], hidden_activation="tanh", loss="cross_entropy", seed=0)
    text = repr(mlp)
    for part in ("784", "128", "10", "tanh", "softmax", "cross_entropy", "float32"):
        assert part in text
    assert "101770" in text.replace(",", "").replace("_", "").replace(" ", "")


def test_notebooks_show_a_table():
    html = cr.MLP([784, 128, 10], hidden_activation="tanh", seed=0)._repr_html_()
    assert html.count("<table") == html.count("</table>") >= 1
    assert "784" in html and "128" in html and "tanh" in html
    assert "101770" in html.replace(",", "").replace("_", "").replace(" ", "")


def test_networks_compare_by_identity():
    mlp = cr.MLP([2, 3], seed=0)
    assert mlp == mlp
    assert mlp != cr.MLP([2, 3], seed=0)
    assert len({mlp, mlp.copy()}) == 2


def test_no_unknown_attribute_is_set_by_mistake():
    with pytest.raises(TypeError, match=r"hidden_activations"):
        cr.MLP([2, 3], hidden_activations="relu")


class TestTextbookLoop:
    """The textbook's loop: forward(X), backward(y, lr=0.5) on XOR."""

    X = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    y = np.array([0, 1, 1, 0])

    def train(self, dtype, seed=0, epochs=5000):
        mlp = cr.MLP([2, 4, 1], hidden_activation="sigmoid", loss="bce", dtype=dtype, seed=seed)
        losses = []
        for _ in range(epochs):
            mlp.forward(self.X)
            losses.append(mlp.backward(self.y, lr=0.5))
        return mlp, losses

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_xor_is_learnt(self, dtype):
        mlp, losses = self.train(dtype)
        assert losses[0] > 0.6 and losses[-1] < 0.1
        assert mlp.predict(self.X).round().ravel().tolist() == [0, 1, 1, 0]

    def test_it_is_reproducible(self):
        one, losses = self.train("float64", epochs=200)
        other, again = self.train("float64", epochs=200)
        assert losses == again and same_bits(one.parameters, other.parameters)
        assert losses != self.train("float64", seed=1, epochs=200)[1]

    def test_fit_and_step_take_the_same_steps(self):
        by_hand, losses = self.train("float64", epochs=50)
        by_fit, _ = self.train("float64", epochs=0)
        history = by_fit.fit(self.X, self.y, epochs=50, batch_size=4, optimizer=cr.SGD(lr=0.5), shuffle=False)
        by_step, _ = self.train("float64", epochs=0)
        optimizer = cr.SGD(lr=0.5)
        stepped = [by_step.step(self.X, self.y, optimizer) for _ in range(50)]
        np.testing.assert_allclose(history.loss, losses, rtol=1e-12)
        np.testing.assert_allclose(stepped, losses, rtol=1e-12)
        np.testing.assert_allclose(by_fit.parameters, by_hand.parameters, rtol=1e-11)
        np.testing.assert_allclose(by_step.parameters, by_hand.parameters, rtol=1e-11)


def test_forward_gives_what_predict_gives():
    mlp, X, _ = small_net((20, 33, 3))
    np.testing.assert_allclose(mlp.forward(X), mlp.predict(X), rtol=1e-13)


def test_losses_are_python_floats():
    mlp, X, y = small_net(dtype="float32")
    mlp.forward(X)
    losses = [mlp.backward(y), mlp.evaluate(X, y), mlp.step(X, y, cr.SGD())]
    assert all(type(loss) is float for loss in losses)
    np.testing.assert_allclose(losses, losses[0], rtol=1e-6)


def test_evaluate_is_not_training():
    mlp, X, y = small_net()
    before = mlp.parameters.copy()
    assert mlp.evaluate(X, y) == mlp.evaluate(X, y)
    assert same_bits(mlp.parameters, before)


def test_a_large_batch_is_evaluated_as_its_rows():
    mlp, _, _ = small_net()
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(10_000, 4)), rng.normal(size=(10_000, 3))
    out = np.vstack([mlp.predict(part) for part in np.array_split(X, 7)])
    assert mlp.evaluate(X, y) == pytest.approx(np.mean((out - y) ** 2), rel=1e-12)


def test_every_public_name_of_the_class_is_documented():
    public = [name for name in dir(cr.MLP) if not name.startswith("_")]
    assert {"forward", "backward", "pullback", "predict", "evaluate", "step", "fit", "copy", "save", "load"} <= set(
        public
    )
    assert [name for name in public if not (getattr(cr.MLP, name).__doc__ or "").strip()] == []
