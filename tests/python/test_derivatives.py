"""Jacobians, per-sample gradients and Hessian products against torch.func, and against each other."""

import numpy as np
import pytest
from cases import HIDDEN_CASES, OUTPUT_TASKS, TASKS, Task, case_ids, make_problem
from helpers import assert_close, interrupted_soon, same_bits, state
from nets import library_net, small_net

import chainrule as cr

# PyTorch's own, where torch.func is first used.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")

METHODS = {
    "input_gradient": lambda mlp, X, y: mlp.input_gradient(X, 0),
    "jacobian": lambda mlp, X, y: mlp.jacobian(X),
    "jvp": lambda mlp, X, y: mlp.jvp(X, X),
    "per_sample_gradients": lambda mlp, X, y: mlp.per_sample_gradients(X, y),
    "per_sample_gradient_norms": lambda mlp, X, y: mlp.per_sample_gradient_norms(X, y),
    "hvp": lambda mlp, X, y: mlp.hvp(X, y, mlp.parameters),
}
method = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)


class Functional:
    """A reference net as functions of its parameters and inputs, for torch.func."""

    def __init__(self, reference, problem):
        self.torch, self.reference, self.net = reference.torch, reference, problem.net
        self.X = self.tensor(problem.X)
        y = self.tensor(problem.y)
        self.y = y.to(self.X.dtype) if y.is_floating_point() else y
        weight = np.ones(len(problem.X)) if problem.sample_weight is None else problem.sample_weight
        self.weight = self.tensor(weight)
        self.theta = self.tensor(problem.net.parameters)

    def tensor(self, array):
        return self.torch.as_tensor(np.asarray(array))

    def logits(self, theta, X):
        a, at = X, 0
        for layer, (W, b) in enumerate(zip(self.net.weights, self.net.biases, strict=True)):
            weight = theta[at : at + W.size].reshape(W.shape)
            at += W.size
            z = a @ weight + theta[at : at + b.size]
            at += b.size
            a = self.reference.activate(self.net.activation_functions[layer], z)
        return z, a

    def output(self, x):
        """a_L of one sample."""
        return self.logits(self.theta, x[None])[1][0]

    def sample_losses(self, theta, X, y):
        z, _ = self.logits(theta, X)
        return self.reference.sample_losses(self.net.loss, self.net.activation_functions[-1], z, y)

    def loss(self, theta):
        return (self.weight * self.sample_losses(theta, self.X, self.y)).sum() / self.weight.sum()

    def loss_of_one(self, theta, x, y):
        return self.sample_losses(theta, x[None], y[None])[0]


def compare_with_torch(torch_reference, problem):
    func = pytest.importorskip("torch.func", reason="this PyTorch has no torch.func: derivatives are not compared")
    mlp, peer = library_net(problem.net), Functional(torch_reference, problem)
    rng = np.random.default_rng(3)
    V, v = rng.normal(size=problem.X.shape), rng.normal(size=mlp.n_parameters)
    jacobian = func.vmap(func.jacrev(peer.output))(peer.X).numpy()
    assert_close(mlp.jacobian(problem.X), jacobian, 1e-10, "jacobian")
    for o in range(jacobian.shape[1]):
        assert_close(mlp.input_gradient(problem.X, o), jacobian[:, o], 1e-10, "input gradient")
    _, tangents = func.vmap(lambda x, t: func.jvp(peer.output, (x,), (t,)))(peer.X, peer.tensor(V))
    assert_close(mlp.jvp(problem.X, V), tangents.numpy(), 1e-10, "jvp")
    gradients = func.vmap(func.grad(peer.loss_of_one), in_dims=(None, 0, 0))(peer.theta, peer.X, peer.y).numpy()
    assert_close(mlp.per_sample_gradients(problem.X, problem.y), gradients, 1e-10, "per-sample gradients")
    norms = np.linalg.norm(gradients, axis=1)
    assert_close(mlp.per_sample_gradient_norms(problem.X, problem.y), norms, 1e-10, "their norms")
    # Huber's loss has no forward mode there.
    product = func.grad(lambda theta: func.grad(peer.loss)(theta) @ peer.tensor(v))(peer.theta)
    assert_close(mlp.hvp(problem.X, problem.y, v, problem.sample_weight), product.numpy(), 1e-10, "hvp")


@pytest.mark.parametrize("weighted", [False, True], ids=case_ids)
@pytest.mark.parametrize("hidden", HIDDEN_CASES, ids=case_ids)
@pytest.mark.parametrize("task", TASKS, ids=case_ids)
def test_every_activation_and_loss(torch_reference, task, hidden, weighted):
    compare_with_torch(torch_reference, make_problem(task, hidden, (5, 9, 1, 4), 7, weighted))


@pytest.mark.parametrize("task", OUTPUT_TASKS, ids=case_ids)
def test_every_output_activation(torch_reference, task):
    compare_with_torch(torch_reference, make_problem(task, "tanh", (5, 7), 6, True))


@pytest.mark.parametrize("sizes", [(5,), (2, 40), (70, 33, 100), (300, 260)], ids=str)
@pytest.mark.parametrize("task", [TASKS[0], TASKS[6], Task("mse", "tanh", "real", width=17)], ids=case_ids)
def test_shapes(torch_reference, task, sizes):
    compare_with_torch(torch_reference, make_problem(task, "silu", sizes, 33, True))


def test_hessian_products_are_symmetric_and_are_differences_of_gradients():
    mlp, X, y = small_net((4, 6, 3), hidden_activation="gelu")
    u, v = np.random.default_rng(0).normal(size=(2, mlp.n_parameters))
    assert mlp.hvp(X, y, u) @ v == pytest.approx(mlp.hvp(X, y, v) @ u, rel=1e-12)

    def gradient(theta):
        mlp.parameters[:] = theta
        mlp.forward(X)
        mlp.backward(y)
        return mlp.gradient.copy()

    theta, h = mlp.parameters.copy(), 1e-5
    differences = (gradient(theta + h * v) - gradient(theta - h * v)) / (2 * h)
    mlp.parameters[:] = theta
    assert_close(mlp.hvp(X, y, v), differences, 1e-8)


def test_many_rows_go_in_blocks():
    mlp = cr.MLP([3, 40, 40, 2], hidden_activation="tanh", dtype="float64", seed=0)
    rng = np.random.default_rng(0)
    X, V = rng.normal(size=(2, 30_000, 3))
    y, w = rng.normal(size=(30_000, 2)), rng.uniform(size=30_000)
    w[:20_000] = 0  # whole blocks
    rows = np.arange(0, 30_000, 1457)
    assert np.array_equal(mlp.jacobian(X)[rows], mlp.jacobian(X[rows]))
    assert np.array_equal(mlp.jvp(X, V)[rows], mlp.jvp(X[rows], V[rows]))
    assert np.array_equal(mlp.input_gradient(X, 1)[rows], mlp.jacobian(X)[rows, 1])
    gradients = mlp.per_sample_gradients(X, y)
    assert_close(gradients[rows], mlp.per_sample_gradients(X[rows], y[rows]), 1e-14)
    assert_close(mlp.per_sample_gradient_norms(X, y), np.linalg.norm(gradients, axis=1), 1e-13)
    mlp.forward(X)
    mlp.backward(y)
    assert_close(gradients.mean(axis=0), mlp.gradient, 1e-12)
    v = rng.normal(size=mlp.n_parameters)
    parts = [mlp.hvp(X[part], y[part], v, w[part]) * w[part].sum() for part in (slice(25_000), slice(25_000, None))]
    assert_close(mlp.hvp(X, y, v, w), sum(parts) / w.sum(), 1e-12)


LONG_CALLS = {  # of tens of thousands of rows, in a dozen blocks and more
    "jacobian": lambda mlp, X, y: mlp.jacobian(X),
    "input_gradient": lambda mlp, X, y: mlp.input_gradient(X, 0),
    "jvp": lambda mlp, X, y: mlp.jvp(X, X),
    "per_sample_gradient_norms": lambda mlp, X, y: mlp.per_sample_gradient_norms(X, y),
    "hvp": lambda mlp, X, y: mlp.hvp(X, y, mlp.parameters),
}


@pytest.mark.parametrize("name", LONG_CALLS)
def test_an_interrupt_ends_a_long_call_and_changes_nothing(name):
    mlp = cr.MLP([50, 300, 300, 2], hidden_activation="tanh", seed=0)
    X, y = np.ones((40000, 50), np.float32), np.zeros((40000, 2), np.float32)
    expected = LONG_CALLS[name](mlp, X[:5], y[:5])
    before = state(mlp)
    with interrupted_soon():
        LONG_CALLS[name](mlp, X, y)
    assert state(mlp) == before
    np.testing.assert_array_equal(LONG_CALLS[name](mlp, X[:5], y[:5]), expected)


def test_same_bits_whatever_was_called_before():
    """A call that takes more rows at a time leaves a larger tape, which makes no other blocks."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(2000, 16)), rng.normal(size=(2000, 1))
    mlp = cr.MLP([16, 256, 256, 1], seed=0)
    v = rng.normal(size=mlp.n_parameters)
    fresh = mlp.hvp(X, y, v)
    mlp.jvp(X[:900], X[:900])
    assert same_bits(mlp.hvp(X, y, v), fresh)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@method
def test_same_bits_for_any_number_of_threads(method, dtype):
    mlp = cr.MLP([20, 130, 90, 6], hidden_activation="silu", dtype=dtype, seed=1)
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(700, 20)), rng.normal(size=(700, 6))
    results = []
    for threads in (1, 2, 5):
        with cr.num_threads(threads):
            results.append(method(mlp, X, y))
    assert results[0].dtype == dtype
    assert results[0].tobytes() == results[1].tobytes() == results[2].tobytes()


@method
def test_float32_follows_float64(method):
    mlp, X, y = small_net((4, 30, 3), hidden_activation="softplus", dtype="float32")
    twin = cr.MLP([4, 30, 3], hidden_activation="softplus", dtype="float64")
    twin.parameters[:] = mlp.parameters
    assert_close(method(mlp, X, y), method(twin, X.astype(np.float32), y.astype(np.float32)), 2e-6)


@method
def test_what_forward_and_backward_kept_stays(method):
    mlp, X, y = small_net()
    mlp.forward(X)
    mlp.backward(y)
    before = state(mlp)
    method(mlp, 2 * X, y)
    assert state(mlp) == before


@method
def test_bad_input(method):
    mlp, X, y = small_net()
    with pytest.raises(ValueError, match="X has 3 columns; this network takes 4"):
        method(mlp, X[:, :3], y)
    with pytest.raises(ValueError, match="X holds nan at row 0, column 0"):
        method(mlp, np.full_like(X, np.nan), y)
    with pytest.raises(TypeError, match="X has dtype"):
        method(mlp, X.astype(str), y)


def test_bad_directions_outputs_and_targets():
    mlp, X, y = small_net()
    with pytest.raises(ValueError, match="V has 6 rows; X has 7"):
        mlp.jvp(X, X[1:])
    with pytest.raises(ValueError, match=r"v has shape \(3,\); expected \(43,\)"):
        mlp.hvp(X, y, [1, 2, 3])
    with pytest.raises(ValueError, match="v holds inf"):
        mlp.hvp(X, y, np.full(mlp.n_parameters, np.inf))
    with pytest.raises(ValueError, match="output is missing; this network has 3 outputs"):
        mlp.input_gradient(X)
    with pytest.raises(ValueError, match="output is 3"):
        mlp.input_gradient(X, 3)
    with pytest.raises(TypeError, match="output"):
        mlp.input_gradient(X, 0.5)
    for call in (mlp.per_sample_gradients, mlp.per_sample_gradient_norms):
        with pytest.raises(ValueError, match="y has 6 rows; X has 7"):
            call(X, y[1:])


def test_one_output_needs_no_name():
    mlp, X, _ = small_net((4, 5, 1))
    assert np.array_equal(mlp.input_gradient(X), mlp.jacobian(X)[:, 0])


def test_sparse_inputs_give_what_dense_ones_do():
    sparse = pytest.importorskip("scipy.sparse", reason="sparse inputs are SciPy's")
    rng = np.random.default_rng(0)
    dense = np.where(rng.random(size=(40, 12)) < 0.1, rng.normal(size=(40, 12)), 0.0)
    V = rng.normal(size=dense.shape)
    mlp = cr.MLP([12, 5, 3], hidden_activation="tanh", dtype="float64", seed=0)
    for X in (sparse.csr_matrix(dense), sparse.csc_array(dense)):
        assert same_bits(mlp.jacobian(X), mlp.jacobian(dense))
        assert same_bits(mlp.input_gradient(X, 1), mlp.input_gradient(dense, 1))
        assert same_bits(mlp.jvp(X, V), mlp.jvp(dense, V))
    with pytest.raises(ValueError, match=r"X has shape \(3,\); expected two dimensions"):
        mlp.predict(sparse.coo_array(np.ones(3)).tocsr())


def test_curvature_of_gelu_where_z_squared_overflows():
    mlp = cr.MLP([1, 1, 1], hidden_activation="gelu", seed=0)
    mlp.parameters[:] = 1, 0, 0.01, 0
    assert np.isfinite(mlp.hvp([[2e19]], [[0.5]], [0, 1, 0, 0])).all()


def test_norms_where_large_activations_meet_a_dead_layer():
    mlp = cr.MLP([1, 1, 1], hidden_activation="relu", dtype="float64", seed=0)
    mlp.parameters[:] = -1, 0, 1, 0
    assert mlp.per_sample_gradient_norms([[1e155]], [[0.5]]).tolist() == [1]
