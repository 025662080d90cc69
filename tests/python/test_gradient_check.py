"""check_gradients: central differences against backprop, and the cost of both."""

import numpy as np
import pytest
from cases import TASKS, case_ids, make_problem
from helpers import state
from nets import library_net, small_net

import chainrule as cr


@pytest.mark.parametrize("task", TASKS, ids=case_ids)
@pytest.mark.parametrize("hidden", ["sigmoid", "tanh", "relu", "gelu", "elu"])
def test_backprop_agrees_with_central_differences(hidden, task):
    problem = make_problem(task, hidden, (4, 6), 9, weighted=True)
    report = library_net(problem.net).check_gradients(problem.X, problem.y, sample_weight=problem.sample_weight)
    assert 0 < report.max_relative_error < 1e-6


def test_report_has_a_row_for_every_parameter():
    mlp, X, y = small_net((4, 6, 5, 3), hidden_activation="tanh")
    report = mlp.check_gradients(X, y)
    assert [row.name for row in report.parameters] == [name for name, _ in mlp.named_parameters()]
    assert report.max_relative_error == max(row.relative_error for row in report.parameters)
    assert all(row.name in str(report) for row in report.parameters)


def test_cost_is_two_forward_passes_a_parameter_against_one_backward():
    mlp, X, y = small_net((10, 20, 3))
    report = mlp.check_gradients(X, y)
    assert report.forward_passes == 2 * mlp.n_parameters
    assert 0 < report.backprop_seconds < report.differences_seconds


def test_a_single_precision_net_is_checked_in_double_precision():
    """Single-precision differences would be off by percents."""
    mlp, X, y = small_net((4, 6, 3), dtype="float32", hidden_activation="tanh")
    assert mlp.check_gradients(X, y).max_relative_error < 1e-6


def test_it_changes_nothing():
    mlp, X, y = small_net()
    mlp.forward(2 * X)
    mlp.backward(y)
    before = state(mlp)
    mlp.check_gradients(X, y)
    assert state(mlp) == before


def test_it_needs_no_forward():
    mlp, X, y = small_net()
    assert mlp.check_gradients(X, y).max_relative_error < 1e-6


@pytest.mark.parametrize("value", [0.0, 1e-9], ids=["all zero", "nearly zero"])
def test_vanishing_gradients_are_no_error(value):
    """Dead units have gradient zero and difference zero: that is agreement, not 0/0."""
    mlp = cr.MLP([3, 4, 2], hidden_activation="relu", dtype="float64", seed=0)
    mlp.parameters[:] = value
    mlp.biases[0][:] = -1.0
    report = mlp.check_gradients(np.ones((5, 3)), np.ones((5, 2)))
    assert report.max_relative_error < 1e-6
    assert all(np.isfinite(row.relative_error) for row in report.parameters)


def test_a_gradient_that_is_not_finite_is_never_right():
    mlp, X, y = small_net()
    mlp.parameters[0] = np.nan
    report = mlp.check_gradients(X, y)
    assert np.isnan(report.max_relative_error)
    assert np.isnan([row.relative_error for row in report.parameters]).all()
