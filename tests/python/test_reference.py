"""The reference itself: central differences, the complex step, and PyTorch. None of these needs the library."""

import numpy as np
import pytest
import reference
from cases import (
    BATCHES,
    HIDDEN_CASES,
    OPTIMIZERS,
    OUTPUT_TASKS,
    SIZES,
    TASKS,
    WIDE,
    case_ids,
    make_problem,
    optimizer_id,
    parity_cases,
    parity_problem,
)
from helpers import assert_all_close, assert_close, central_differences

CHECKED = [(task, hidden) for task in TASKS for hidden in HIDDEN_CASES] + [(task, "tanh") for task in OUTPUT_TASKS]


def loss_at(problem, theta):
    activations, loss = problem.net.activation_functions, problem.net.loss
    net = reference.MLP(
        [W.astype(theta.dtype) for W in problem.net.weights],
        [b.astype(theta.dtype) for b in problem.net.biases],
        activations,
        loss,
    )
    net.parameters = theta
    net.forward(problem.X)
    return net.backward(problem.Y, problem.sample_weight)


@pytest.mark.parametrize(("task", "hidden"), CHECKED, ids=case_ids)
def test_gradient_equals_central_differences(task, hidden):
    problem = make_problem(task, hidden, SIZES[3], BATCHES[3], weighted=True)
    problem.net.forward(problem.X)
    problem.net.backward(problem.Y, problem.sample_weight)
    differences = central_differences(lambda theta: loss_at(problem, theta), problem.net.parameters)
    assert_close(problem.net.gradient, differences, 1e-7)


# erf takes no complex numbers: central differences alone check GELU
@pytest.mark.parametrize(
    ("task", "hidden"), [case for case in CHECKED if "gelu" not in (case[0].output, case[1])], ids=case_ids
)
def test_gradient_equals_the_complex_step(task, hidden):
    problem = make_problem(task, hidden, SIZES[3], BATCHES[3], weighted=True)
    problem.net.forward(problem.X)
    problem.net.backward(problem.Y, problem.sample_weight)
    theta = problem.net.parameters.astype(complex)
    step = 1e-40
    exact = np.array([loss_at(problem, theta + 1j * step * unit).imag / step for unit in np.eye(theta.size)])
    assert_close(problem.net.gradient, exact, 1e-13)


@pytest.mark.parametrize("output", reference.VALUES)
def test_input_gradient_equals_central_differences(output):
    problem = make_problem(TASKS[0], "tanh", (4, 6), 5, weighted=False)
    net = problem.net
    net.activation_functions[-1] = output
    grad_output = np.random.default_rng(1).normal(size=(5, 3))
    net.forward(problem.X)
    grad_X = net.pullback(grad_output)
    differences = central_differences(
        lambda x: float((net.forward(x.reshape(problem.X.shape)) * grad_output).sum()), problem.X.ravel()
    )
    assert_close(grad_X.ravel(), differences, 1e-7)


@pytest.mark.parametrize(
    ("task", "hidden", "depth", "weighted"), [case for case in parity_cases() if case[3]], ids=case_ids
)
def test_net_equals_torch(torch_reference, task, hidden, depth, weighted):
    compare_with_torch(torch_reference, parity_problem(task, hidden, depth, weighted))


@pytest.mark.parametrize(("sizes", "n"), WIDE, ids=lambda value: str(value))
@pytest.mark.parametrize("task", TASKS, ids=case_ids)
def test_wide_net_equals_torch(torch_reference, task, sizes, n):
    compare_with_torch(torch_reference, make_problem(task, "relu", sizes, n, weighted=True))


def compare_with_torch(torch_reference, problem):
    net, peer = problem.net, torch_reference.MLP(problem.net)
    assert_close(net.forward(problem.X), peer.forward(problem.X), 1e-13, "output")
    loss = net.backward(problem.Y, problem.sample_weight)
    assert_close(loss, peer.backward(problem.y, problem.sample_weight), 1e-13, "loss")
    assert_all_close(net.weight_gradients, peer.weight_gradients, 1e-12, "dL/dW")
    assert_all_close(net.bias_gradients, peer.bias_gradients, 1e-12, "dL/db")
    assert_close(net.input_gradient(), peer.input_gradient, 1e-12, "dL/dX")


@pytest.mark.parametrize("clip_norm", [None, 0.05], ids=["", "clipped"])
@pytest.mark.parametrize(("name", "settings"), OPTIMIZERS, ids=optimizer_id)
def test_optimizer_equals_torch(torch_reference, name, settings, clip_norm):
    problem = make_problem(TASKS[0], "tanh", (5, 7), 13, weighted=False)
    peer = torch_reference.MLP(problem.net)
    torch_optimizer = getattr(torch_reference.torch.optim, name)(peer.leaves, **settings)
    optimizer = getattr(reference, name)(**settings)
    rates = reference.constant(optimizer.lr, 10, 1)
    losses = reference.train(problem.net, problem.X, problem.Y, optimizer, rates, 13, clip_norm=clip_norm)
    for loss in losses:
        assert_close(loss, peer.train_step(problem.X, problem.y, torch_optimizer, clip_norm=clip_norm), 1e-12)
    assert_close(problem.net.parameters, peer.parameters, 1e-12)


SCHEDULES = {
    "step": (
        reference.step_decay,
        lambda lrs, sgd: lrs.StepLR(sgd, step_size=3, gamma=0.4),
        dict(step_size=3, gamma=0.4),
    ),
    "exponential": (reference.exponential_decay, lambda lrs, sgd: lrs.ExponentialLR(sgd, gamma=0.9), dict(gamma=0.9)),
    "cosine": (
        reference.cosine_decay,
        lambda lrs, sgd: lrs.CosineAnnealingLR(sgd, T_max=12, eta_min=0.01),
        dict(eta_min=0.01),
    ),
    "warmup": (
        reference.warmup,
        lambda lrs, sgd: lrs.LinearLR(sgd, start_factor=0.2, end_factor=1.0, total_iters=12),
        dict(warm_epochs=3, start_factor=0.2),
    ),
    "one_cycle": (
        reference.one_cycle,
        lambda lrs, sgd: lrs.OneCycleLR(sgd, max_lr=0.3, total_steps=48, cycle_momentum=False),
        dict(),
    ),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedule_equals_torch(torch_reference, name):
    ours, build, settings = SCHEDULES[name]
    per_step = name in ("warmup", "one_cycle")
    torch = torch_reference.torch
    sgd = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.3)
    schedule = build(torch.optim.lr_scheduler, sgd)
    rates = np.zeros((12, 4))
    for epoch in range(12):
        for step in range(4):
            rates[epoch, step] = sgd.param_groups[0]["lr"]
            sgd.step()
            if per_step and (epoch, step) != (11, 3):
                schedule.step()
        if not per_step:
            schedule.step()
    assert_close(ours(0.3, 12, 4, **settings), rates, 1e-12)


def test_plateau_equals_torch(torch_reference):
    torch = torch_reference.torch
    sgd = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.3)
    peer = torch.optim.lr_scheduler.ReduceLROnPlateau(sgd, factor=0.5, patience=1, threshold=1e-2, min_lr=0.1)
    ours = reference.Plateau(0.3, factor=0.5, patience=1, threshold=1e-2, min_lr=0.1)
    rates = []
    for loss in [1.0, 0.9, 0.899, 0.898, 0.8, 0.9, 0.9, 0.9, 0.7, 0.75, 0.75, 0.75]:
        peer.step(loss)
        assert ours.after(loss) == pytest.approx(sgd.param_groups[0]["lr"], rel=1e-15)
        rates.append(ours.lr)
    assert rates[0] == 0.3 and rates[-1] == 0.1 and len(set(rates)) == 3
