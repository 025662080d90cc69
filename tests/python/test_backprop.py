"""Forward, backward and pullback against the reference, float64: every activation × loss × depth, weights or not."""

import importlib.util

import numpy as np
import pytest
import reference
from cases import HIDDEN_CASES, TASKS, WIDE, case_ids, make_problem, parity_cases, parity_problem
from helpers import assert_all_close, assert_close, central_differences, relative_error, same_bits
from nets import library_net, small_net


def compare_with_reference(problem):
    tolerance = 1e-12
    net, mlp = problem.net, library_net(problem.net)
    expected_output = net.forward(problem.X)
    expected_loss = net.backward(problem.Y, problem.sample_weight)

    assert_close(mlp.predict(problem.X), expected_output, tolerance, "predict")
    assert_close(mlp.evaluate(problem.X, problem.y, problem.sample_weight), expected_loss, tolerance, "evaluate")
    assert_close(mlp.forward(problem.X), expected_output, tolerance, "output")
    assert_close(mlp.backward(problem.y, problem.sample_weight), expected_loss, tolerance, "loss")
    assert_all_close(mlp.activations, net.activations, tolerance, "activations")
    assert_all_close(mlp.pre_activations, net.pre_activations, tolerance, "pre_activations")
    assert_all_close(mlp.deltas, net.deltas, tolerance, "deltas")
    assert_all_close(mlp.weight_gradients, net.weight_gradients, tolerance, "dL/dW")
    assert_all_close(mlp.bias_gradients, net.bias_gradients, tolerance, "dL/db")

    grad_output = np.random.default_rng(5).normal(size=expected_output.shape)
    assert_close(mlp.pullback(grad_output), net.pullback(grad_output), tolerance, "dL/dX")
    assert_all_close(mlp.deltas, net.deltas, tolerance, "deltas of pullback")
    assert_all_close(mlp.weight_gradients, net.weight_gradients, tolerance, "dL/dW of pullback")
    assert_all_close(mlp.bias_gradients, net.bias_gradients, tolerance, "dL/db of pullback")


@pytest.mark.parametrize(("task", "hidden", "depth", "weighted"), list(parity_cases()), ids=case_ids)
def test_every_activation_loss_and_depth(task, hidden, depth, weighted):
    compare_with_reference(parity_problem(task, hidden, depth, weighted))


@pytest.mark.parametrize(("sizes", "n"), WIDE, ids=str)
@pytest.mark.parametrize("task", TASKS, ids=case_ids)
def test_wide_layers(task, sizes, n):
    compare_with_reference(make_problem(task, "gelu", sizes, n, weighted=True))


@pytest.mark.parametrize("n", [*range(1, 41), 63, 64, 65, 127, 129, 300])
def test_every_batch_size(n):
    compare_with_reference(make_problem(TASKS[0], "tanh", (6, 11), n, weighted=False))


@pytest.mark.parametrize("width", [*range(1, 36), 63, 64, 65, 127, 128, 129])
def test_every_layer_width(width):
    compare_with_reference(make_problem(TASKS[0], "sigmoid", (width, width + 1, width), 9, weighted=False))


def test_a_hundred_layers():
    compare_with_reference(make_problem(TASKS[0], "selu", (3,) * 100, 5, weighted=False))


@pytest.mark.parametrize("task", TASKS, ids=case_ids)
@pytest.mark.parametrize("hidden", HIDDEN_CASES, ids=case_ids)
def test_gradient_equals_central_differences_of_the_library_s_own_loss(task, hidden):
    problem = make_problem(task, hidden, (4, 6), 5, weighted=True)
    mlp = library_net(problem.net)
    mlp.forward(problem.X)
    mlp.backward(problem.y, problem.sample_weight)
    gradient, theta = mlp.gradient.copy(), mlp.parameters.copy()

    def loss_at(vector):
        mlp.parameters[:] = vector
        return mlp.evaluate(problem.X, problem.y, problem.sample_weight)

    assert_close(gradient, central_differences(loss_at, theta), 1e-7)


@pytest.mark.parametrize("loss", ["bce", "poisson", "mse", "mae"])
def test_pullback_of_the_loss_gradient_gives_backward_s_gradients(loss):
    """A loss of the user's own: dL/da_L by hand, then pullback, gives what backward gives."""
    task = next(task for task in TASKS if task.loss_name == loss)
    problem = make_problem(task, "tanh", (4, 6), 9, weighted=False)
    mlp = library_net(problem.net)
    a, y = mlp.forward(problem.X), problem.Y
    mlp.backward(problem.y)
    gradient = mlp.gradient.copy()
    grad_output = {
        "bce": lambda: (a - y) / (a * (1 - a)),
        "poisson": lambda: 1 - y / a,
        "mse": lambda: 2 * (a - y),
        "mae": lambda: np.sign(a - y),
    }[loss]() / a.size
    mlp.pullback(grad_output)
    assert_close(mlp.gradient, gradient, 1e-12)


def test_backward_twice_gives_the_same_gradient_and_does_not_add_up():
    mlp, X, y = small_net()
    mlp.forward(X)
    first_loss = mlp.backward(y)
    first = mlp.gradient.copy()
    assert np.any(first)
    assert mlp.backward(y) == first_loss
    assert same_bits(mlp.gradient, first)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_backward_with_lr_applies_plain_gradient_descent(dtype):
    mlp, X, y = small_net(dtype=dtype)
    twin = mlp.copy()
    mlp.forward(X)
    twin.forward(X)
    assert mlp.backward(y, lr=0.25) == twin.backward(y)
    expected = twin.parameters - twin.dtype.type(0.25) * twin.gradient
    assert_close(mlp.parameters, expected, 4 * np.finfo(dtype).eps)
    assert_close(mlp.gradient, twin.gradient, 4 * np.finfo(dtype).eps)
    assert not same_bits(mlp.parameters, twin.parameters)


def test_backward_uses_the_last_forward():
    mlp, X, y = small_net()
    mlp.forward(X)
    mlp.forward(2 * X[:3])
    mlp.backward(y[:3])
    gradient = mlp.gradient.copy()
    assert [len(a) for a in mlp.activations] == [3, 3, 3]
    twin = mlp.copy()
    twin.forward(2 * X[:3])
    twin.backward(y[:3])
    assert same_bits(twin.gradient, gradient)


def test_gradient_of_a_batch_is_the_weighted_mean_of_its_rows():
    mlp, X, y = small_net(hidden_activation="gelu")
    weight = np.arange(1.0, 8.0)
    rows = []
    for i in range(7):
        mlp.forward(X[i : i + 1])
        mlp.backward(y[i : i + 1])
        rows.append(mlp.gradient.copy())
    mlp.forward(X)
    mlp.backward(y, sample_weight=weight)
    assert_close(mlp.gradient, weight @ np.array(rows) / weight.sum(), 1e-12)


def test_rows_of_predict_do_not_depend_on_their_batch():
    """Each row takes its own way through the net: cutting the batch elsewhere changes rounding at most."""
    mlp, _, _ = small_net((30, 50, 3))
    X = np.random.default_rng(0).normal(size=(101, 30))
    whole = mlp.predict(X)
    for n in (1, 2, 7, 50, 100):
        assert_close(mlp.predict(X[:n]), whole[:n], 1e-13)


class TestFloat32:
    """Error against the float64 result with the same float32 parameters: at most 1.5 times a peer's own error."""

    SIZES = (33, 100, 40)
    NETS = 15

    @staticmethod
    def by_library(problem):
        mlp = library_net(problem.net)
        output = mlp.forward(problem.X)
        mlp.backward(problem.y)
        return output, mlp.gradient

    @staticmethod
    def by_numpy(problem):
        output = problem.net.forward(problem.X)
        problem.net.backward(problem.Y)
        return output, problem.net.gradient

    @staticmethod
    def by_torch(problem):
        import torch_reference

        peer = torch_reference.MLP(problem.net)
        output = peer.forward(problem.X)
        peer.backward(problem.y)
        return output, peer.gradient

    @staticmethod
    def in_double_precision(problem):
        net = problem.net
        net = reference.MLP(
            [W.astype(float) for W in net.weights],
            [b.astype(float) for b in net.biases],
            net.activation_functions,
            net.loss,
        )
        output = net.forward(problem.X)
        net.backward(problem.Y)
        return output, net.gradient

    @pytest.mark.parametrize("task", [TASKS[0], TASKS[4], TASKS[6]], ids=case_ids)
    @pytest.mark.parametrize("hidden", HIDDEN_CASES, ids=case_ids)
    def test_error_is_no_larger_than_a_peer_s(self, hidden, task):
        """The medians over many nets of the errors of output and gradient."""
        peers = [self.by_numpy, *([self.by_torch] if importlib.util.find_spec("torch") else [])]
        errors = []
        for seed in range(self.NETS):
            problem = make_problem(task, hidden, self.SIZES, 70, weighted=False, seed=seed, dtype=np.float32)
            truths = self.in_double_precision(problem)
            for run in (self.by_library, *peers):
                results = run(problem)
                assert all(result.dtype == np.float32 for result in results)
                errors.append([relative_error(a, truth) for a, truth in zip(results, truths, strict=True)])
        library, *others = np.median(np.reshape(errors, (self.NETS, 1 + len(peers), 2)), axis=0)
        assert np.all(np.min(others, axis=0) > 1e-9)
        ratio = library / np.max(others, axis=0)
        assert np.all(ratio <= 1.5), f"output {ratio[0]:.2f}, gradient {ratio[1]:.2f}"

    @pytest.mark.parametrize("task", TASKS, ids=case_ids)
    def test_every_loss_to_float32_rounding(self, task):
        problem = make_problem(task, "tanh", (5, 7), 13, weighted=True, dtype=np.float32)
        mlp = library_net(problem.net)
        net = make_problem(task, "tanh", (5, 7), 13, weighted=True).net
        net.parameters = problem.net.parameters.astype(float)
        assert_close(mlp.forward(problem.X), net.forward(problem.X.astype(float)), 2e-6)
        assert_close(
            mlp.backward(problem.y, problem.sample_weight), net.backward(problem.Y, problem.sample_weight), 2e-6
        )
        assert_close(mlp.gradient, net.gradient, 2e-6)
