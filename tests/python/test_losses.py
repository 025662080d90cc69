"""Losses: forms of targets, weights, extremes. Values and gradients against the reference are in test_backprop."""

import numpy as np
import pytest
from cases import TASKS, case_ids, make_problem
from helpers import assert_close, same_bits
from nets import library_net

import chainrule as cr

ROWS = 9


def identity_net(width, loss, output_activation="identity", dtype="float64"):
    """Outputs (or logits) equal inputs."""
    mlp = cr.MLP([width, width], loss=loss, output_activation=output_activation, dtype=dtype, seed=0)
    mlp.weights[0][:], mlp.biases[0][:] = np.eye(width), 0
    return mlp


def deltas_of(mlp, X, y, **settings):
    mlp.forward(X)
    loss = mlp.backward(y, **settings)
    return loss, mlp.deltas[-1].copy()


class TestValuesByHand:
    def test_mse_and_mae_are_means_over_samples_and_outputs(self):
        a, y = np.array([[1.0, 2.0], [3.0, 5.0]]), np.array([[0.0, 4.0], [3.0, 4.0]])
        assert identity_net(2, "mse").evaluate(a, y) == pytest.approx((1 + 4 + 0 + 1) / 4, rel=1e-15)
        assert identity_net(2, "mae").evaluate(a, y) == pytest.approx((1 + 2 + 0 + 1) / 4, rel=1e-15)

    def test_huber_is_quadratic_then_linear(self):
        loss, delta = deltas_of(identity_net(1, cr.Huber(delta=2.0)), [[1.0], [5.0], [-7.0]], [0.0, 0.0, 0.0])
        assert loss == pytest.approx((0.5 + 2 * (5 - 1) + 2 * (7 - 1)) / 3, rel=1e-15)
        assert delta[:, 0] == pytest.approx([1 / 3, 2 / 3, -2 / 3], rel=1e-15)

    def test_bce_of_logit_zero_is_log_two(self):
        assert identity_net(1, "bce").evaluate([[0.0], [0.0]], [0, 1]) == pytest.approx(np.log(2), rel=1e-15)

    def test_cross_entropy_is_a_mean_over_samples(self):
        uniform = np.zeros((4, 5))
        assert identity_net(5, "cross_entropy").evaluate(uniform, [0, 1, 4, 4]) == pytest.approx(np.log(5), rel=1e-15)

    def test_poisson_is_rate_minus_y_log_rate(self):
        loss = identity_net(1, "poisson").evaluate([[0.0], [1.0]], [3, 2])
        assert loss == pytest.approx((1 - 0 + np.e - 2) / 2, rel=1e-15)

    def test_quantile_weighs_the_two_sides(self):
        mlp = identity_net(2, cr.Quantile([0.1, 0.9]))
        loss, delta = deltas_of(mlp, [[0.0, 0.0]], [2.0])
        assert loss == pytest.approx((0.1 * 2 + 0.9 * 2) / 2, rel=1e-15)
        assert delta[0] == pytest.approx([-0.05, -0.45], rel=1e-15)

    def test_quantile_columns_are_target_major(self):
        mlp = identity_net(4, cr.Quantile([0.1, 0.9]))
        _, delta = deltas_of(mlp, [[0.0, 0.0, 0.0, 0.0]], [[1.0, -1.0]])
        assert delta[0] * 4 == pytest.approx([-0.1, -0.9, 0.9, 0.1], rel=1e-14)


@pytest.mark.parametrize("loss", ["mae", "huber", "quantile"])
def test_slope_at_zero_error_is_zero(loss):
    _, delta = deltas_of(identity_net(1, loss), [[1.0], [2.0]], [1.0, 2.0])
    assert np.all(delta == 0)


class TestFormsOfTargets:
    @pytest.mark.parametrize("loss", ["mse", "mae", "huber", "bce", "poisson", "quantile"])
    def test_a_column_may_come_as_one_dimension(self, loss):
        X = np.linspace(-1, 1, 2 * ROWS).reshape(ROWS, 2)
        y = np.linspace(0, 1, ROWS)
        mlp = cr.MLP([2, 3, 1], loss=loss, seed=0)
        flat, flat_delta = deltas_of(mlp, X, y)
        column, column_delta = deltas_of(mlp, X, y[:, None])
        assert flat == column == mlp.evaluate(X, y) == mlp.evaluate(X, y.tolist())
        assert same_bits(flat_delta, column_delta)

    @pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int32", "int64", "uint64", ">i4"])
    def test_classes_of_any_integer_dtype(self, dtype):
        mlp, X = cr.MLP([2, 4], loss="cross_entropy", dtype="float64", seed=0), np.eye(2)[[0, 1, 0, 1]]
        labels = np.array([3, 0, 1, 1])
        expected, expected_delta = deltas_of(mlp, X, labels)
        loss, delta = deltas_of(mlp, X, labels.astype(dtype))
        assert loss == expected and same_bits(delta, expected_delta)

    @pytest.mark.parametrize(
        "form",
        [lambda y: y[:, None], list, lambda y: np.eye(4)[y], lambda y: np.eye(4, dtype=int)[y]],
        ids=["column", "list", "one-hot", "one-hot integers"],
    )
    def test_classes_as_labels_or_one_hot(self, form):
        mlp, X = cr.MLP([2, 4], loss="cross_entropy", dtype="float64", seed=0), np.eye(2)[[0, 1, 0, 1]]
        labels = np.array([3, 0, 1, 1])
        expected, expected_delta = deltas_of(mlp, X, labels)
        loss, delta = deltas_of(mlp, X, form(labels))
        assert_close(loss, expected, 1e-15)
        assert_close(delta, expected_delta, 1e-15)

    def test_probabilities_need_not_sum_to_one(self):
        mlp, z = identity_net(3, "cross_entropy"), np.array([[0.5, -1.0, 2.0]])
        y = np.array([[0.2, 0.0, 0.5]])
        log_p = z - np.log(np.exp(z).sum())
        loss, delta = deltas_of(mlp, z, y)
        assert loss == pytest.approx(-(y * log_p).sum(), rel=1e-14)
        assert_close(delta, np.exp(log_p) * y.sum() - y, 1e-14)

    @pytest.mark.parametrize("dtype", ["bool", "int64", "float32", "uint8"])
    def test_bce_takes_truth_values_and_integers(self, dtype):
        mlp, X = cr.MLP([2, 1], loss="bce", dtype="float64", seed=0), np.eye(2)[[0, 1, 0]]
        y = np.array([1, 0, 0])
        assert mlp.evaluate(X, y.astype(dtype)) == mlp.evaluate(X, y.astype("float64"))

    def test_two_outputs_of_a_classifier_take_two_forms_of_the_same_targets(self):
        """A column of labels of a two-class net is not mistaken for anything else."""
        mlp, X = cr.MLP([2, 2], loss="cross_entropy", dtype="float64", seed=0), np.eye(2)
        assert mlp.evaluate(X, [[1], [0]]) == mlp.evaluate(X, [1, 0])
        assert_close(mlp.evaluate(X, [[0.0, 1.0], [1.0, 0.0]]), mlp.evaluate(X, [1, 0]), 1e-15)


class TestSampleWeights:
    @pytest.mark.parametrize("task", TASKS, ids=case_ids)
    def test_only_ratios_matter(self, task):
        problem = make_problem(task, "tanh", (4, 5), 7, weighted=True)
        mlp = library_net(problem.net)
        one, one_delta = deltas_of(mlp, problem.X, problem.y, sample_weight=problem.sample_weight)
        other, other_delta = deltas_of(mlp, problem.X, problem.y, sample_weight=1000 * problem.sample_weight)
        assert_close(other, one, 1e-14)
        assert_close(other_delta, one_delta, 1e-14)

    @pytest.mark.parametrize("task", TASKS, ids=case_ids)
    def test_equal_weights_are_no_weights(self, task):
        problem = make_problem(task, "tanh", (4, 5), 7, weighted=False)
        mlp = library_net(problem.net)
        plain, plain_delta = deltas_of(mlp, problem.X, problem.y)
        weighted, weighted_delta = deltas_of(mlp, problem.X, problem.y, sample_weight=np.full(7, 0.3))
        assert_close(weighted, plain, 1e-14)
        assert_close(weighted_delta, plain_delta, 1e-14)

    @pytest.mark.parametrize("task", TASKS, ids=case_ids)
    def test_integer_weights_are_repeated_rows(self, task):
        problem = make_problem(task, "tanh", (4, 5), 7, weighted=False)
        mlp = library_net(problem.net)
        times = np.array([1, 0, 3, 2, 1, 5, 0])
        mlp.forward(problem.X)
        weighted = mlp.backward(problem.y, sample_weight=times)
        gradient = mlp.gradient.copy()
        mlp.forward(np.repeat(problem.X, times, axis=0))
        repeated = mlp.backward(np.repeat(problem.y, times, axis=0))
        assert_close(weighted, repeated, 1e-13)
        assert_close(gradient, mlp.gradient, 1e-13)

    def test_a_row_of_weight_zero_has_no_delta(self):
        mlp = cr.MLP([2, 3, 1], seed=0)
        _, delta = deltas_of(mlp, np.ones((3, 2)), [1.0, 5.0, 2.0], sample_weight=[1, 0, 2])
        assert np.all(delta[1] == 0) and np.all(delta[[0, 2]] != 0)


class TestExtremes:
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    @pytest.mark.parametrize("output", ["logits", "probabilities"])
    @pytest.mark.parametrize("loss", ["bce", "cross_entropy"])
    def test_every_finite_logit_has_a_finite_loss_and_delta(self, loss, output, dtype):
        probabilities = {"bce": "sigmoid", "cross_entropy": "softmax"}[loss]
        mlp = identity_net(2, loss, probabilities if output == "probabilities" else "identity", dtype)
        big = 0.1 * np.finfo(dtype).max
        z = np.array([[big, -big], [-big, big], [1e3, -1e3], [-1e3, 1e3], [0, 0]])
        for y in (np.tile([0.0, 1.0], (5, 1)), np.tile([1.0, 0.0], (5, 1))):
            loss_value, delta = deltas_of(mlp, z, y)
            assert np.isfinite(loss_value) and loss_value >= 0
            assert np.all(np.isfinite(delta))

    def test_wrong_and_certain_costs_the_logit(self):
        assert identity_net(1, "bce").evaluate([[800.0]], [0]) == pytest.approx(800.0, rel=1e-15)
        assert identity_net(2, "cross_entropy").evaluate([[800.0, 0.0]], [1]) == pytest.approx(800.0, rel=1e-15)

    def test_right_and_certain_keeps_its_tiny_loss(self):
        """log(a) would round to 0: the loss comes from the logits."""
        assert identity_net(1, "bce").evaluate([[50.0]], [1]) == pytest.approx(np.exp(-50.0), rel=1e-12)
        assert identity_net(1, "bce", "sigmoid").evaluate([[50.0]], [1]) == pytest.approx(np.exp(-50.0), rel=1e-12)

    def test_delta_of_a_saturated_wrong_answer_is_not_zero(self):
        _, delta = deltas_of(identity_net(1, "bce", "sigmoid"), [[800.0], [-800.0]], [0, 1])
        assert delta[:, 0] == pytest.approx([0.5, -0.5], rel=1e-15)


@pytest.mark.parametrize("task", TASKS, ids=case_ids)
def test_evaluate_equals_backward_s_loss(task):
    problem = make_problem(task, "relu", (4, 5), 23, weighted=True)
    mlp = library_net(problem.net)
    mlp.forward(problem.X)
    assert_close(
        mlp.evaluate(problem.X, problem.y, problem.sample_weight), mlp.backward(problem.y, problem.sample_weight), 1e-14
    )
    assert isinstance(mlp.backward(problem.y), float) and isinstance(mlp.evaluate(problem.X, problem.y), float)


@pytest.mark.parametrize("name", ["mse", "mae", "huber", "bce", "cross_entropy", "poisson", "quantile"])
def test_loss_of_a_net_has_a_name(name):
    assert cr.MLP([2, 3], loss=name, seed=0).loss.name == name


def test_loss_names_mean_their_defaults():
    X, y = np.linspace(-3, 3, 10).reshape(5, 2), np.linspace(-2, 5, 5)
    for name, default in [("huber", cr.Huber(delta=1.0)), ("quantile", cr.Quantile([0.5]))]:
        by_name, by_object = cr.MLP([2, 1], loss=name, seed=0), cr.MLP([2, 1], loss=default, seed=0)
        assert by_name.evaluate(X, y) == by_object.evaluate(X, y)


@pytest.mark.parametrize(
    ("loss", "allowed"),
    [
        ("bce", {"sigmoid", "identity"}),
        ("cross_entropy", {"softmax", "identity"}),
        ("poisson", {"exp", "identity"}),
        ("mse", None),
        ("mae", None),
        ("huber", None),
        ("quantile", None),
    ],
)
def test_output_activations_that_a_loss_allows(loss, allowed):
    names = [
        "identity",
        "sigmoid",
        "tanh",
        "relu",
        "leaky_relu",
        "elu",
        "selu",
        "gelu",
        "silu",
        "softplus",
        "exp",
        "softmax",
    ]
    refused = []
    for name in names:
        try:
            mlp = cr.MLP([2, 3], loss=loss, output_activation=name, seed=0)
        except ValueError as error:
            assert "output_activation" in str(error) and loss in str(error)
            refused.append(name)
        else:
            assert mlp.output_activation.name == name
    assert refused == ([] if allowed is None else [name for name in names if name not in allowed])


def test_one_quantile_as_a_number():
    assert cr.Quantile(0.9) == cr.Quantile([0.9])
    with pytest.raises(ValueError, match=r"quantiles\[0\] is 2; expected a number strictly between 0 and 1"):
        cr.Quantile(2)
    with pytest.raises(TypeError, match=r"quantiles is '0\.5'"):
        cr.Quantile("0.5")
