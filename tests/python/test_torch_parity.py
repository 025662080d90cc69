"""The library against PyTorch's autograd in float64: every activation × loss × depth, weights or not."""

import numpy as np
import pytest
from cases import TASKS, WIDE, case_ids, make_problem, parity_cases, parity_problem
from helpers import assert_all_close, assert_close
from nets import library_net

pytest.importorskip("torch", reason="PyTorch is not installed: parity with it is not checked")


def compare_with_torch(torch_reference, problem):
    mlp, peer = library_net(problem.net), torch_reference.MLP(problem.net)
    assert_close(mlp.forward(problem.X), peer.forward(problem.X), 1e-12, "output")
    loss = mlp.backward(problem.y, problem.sample_weight)
    assert_close(loss, peer.backward(problem.y, problem.sample_weight), 1e-12, "loss")
    assert_all_close(mlp.weight_gradients, peer.weight_gradients, 1e-12, "dL/dW")
    assert_all_close(mlp.bias_gradients, peer.bias_gradients, 1e-12, "dL/db")

    grad_output = np.random.default_rng(5).normal(size=mlp.activations[-1].shape)
    peer.forward(problem.X)
    assert_close(mlp.pullback(grad_output), peer.pullback(grad_output), 1e-12, "dL/dX")
    assert_close(mlp.gradient, peer.gradient, 1e-12, "gradient of pullback")


@pytest.mark.parametrize(("task", "hidden", "depth", "weighted"), list(parity_cases()), ids=case_ids)
def test_every_activation_loss_and_depth(torch_reference, task, hidden, depth, weighted):
    compare_with_torch(torch_reference, parity_problem(task, hidden, depth, weighted))


@pytest.mark.parametrize(("sizes", "n"), WIDE, ids=str)
@pytest.mark.parametrize("task", TASKS, ids=case_ids)
def test_wide_layers(torch_reference, task, sizes, n):
    compare_with_torch(torch_reference, make_problem(task, "relu", sizes, n, weighted=True))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_torch_tensors_are_array_like(torch_reference, dtype):
    torch = torch_reference.torch
    problem = make_problem(TASKS[0], "relu", (5, 7), 13, weighted=True)
    mlp = library_net(problem.net)
    X, y, weight = (
        torch.tensor(part, dtype=getattr(torch, dtype)) for part in (problem.X, problem.y, problem.sample_weight)
    )
    mlp.forward(X)
    loss = mlp.backward(y, sample_weight=weight)
    expected = mlp.evaluate(X.numpy(), y.numpy(), sample_weight=weight.numpy())
    assert_close(loss, expected, 1e-14)
