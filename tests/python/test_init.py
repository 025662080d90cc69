"""Initial weights: their distributions, per layer, and what the seed fixes."""

import numpy as np
import pytest
from helpers import same_bits

import chainrule as cr

FAN_IN, FAN_OUT = 300, 400
RELU_FAMILY = ("relu", "leaky_relu", "elu", "selu", "gelu", "silu", "softplus")


def weights_of(init, **settings):
    return cr.MLP([FAN_IN, FAN_OUT], init=init, dtype="float64", seed=11, **settings).weights[0]


def assert_normal(W, std):
    """Mean, variance, skewness and kurtosis within five standard errors."""
    n = W.size
    z = W.ravel() / std
    assert abs(z.mean()) <= 5 / np.sqrt(n)
    assert abs((z**2).mean() - 1) <= 5 * np.sqrt(2 / n)
    assert abs((z**3).mean()) <= 5 * np.sqrt(15 / n)
    assert abs((z**4).mean() - 3) <= 5 * np.sqrt(96 / n)


@pytest.mark.parametrize(
    ("init", "std"),
    [
        ("he", np.sqrt(2 / FAN_IN)),
        ("xavier", np.sqrt(2 / (FAN_IN + FAN_OUT))),
        ("lecun", np.sqrt(1 / FAN_IN)),
        ("normal", 0.01),
        (cr.Normal(std=0.3), 0.3),
    ],
    ids=["he", "xavier", "lecun", "normal", "Normal(std=0.3)"],
)
def test_normal_distributions(init, std):
    assert_normal(weights_of(init), std)


@pytest.mark.parametrize(
    ("init", "bound"), [("uniform", 0.05), (cr.Uniform(bound=0.7), 0.7)], ids=["uniform", "Uniform(bound=0.7)"]
)
def test_uniform_distributions(init, bound):
    u = np.sort(weights_of(init).ravel()) / bound
    assert u[0] >= -1 and u[-1] < 1
    distance = np.abs((u + 1) / 2 - (np.arange(u.size) + 0.5) / u.size).max()
    assert distance <= 2.0 / np.sqrt(u.size), "Kolmogorov distance from the uniform distribution"


def test_neighbours_are_not_correlated():
    W = weights_of("normal") / 0.01
    bound = 5 / np.sqrt(W.size)
    assert abs((W[:, 1:] * W[:, :-1]).mean()) <= bound
    assert abs((W[1:] * W[:-1]).mean()) <= bound
    assert len(np.unique(W)) == W.size


def test_layers_of_one_shape_get_different_weights():
    mlp = cr.MLP([50, 50, 50], seed=0)
    correlation = np.corrcoef(mlp.weights[0].ravel(), mlp.weights[1].ravel())[0, 1]
    assert abs(correlation) <= 5 / 50


@pytest.mark.parametrize("activation", ["identity", "sigmoid", "tanh", *RELU_FAMILY])
def test_default_follows_each_layer_s_own_activation(activation):
    mlp = cr.MLP([FAN_IN, FAN_OUT, 200], hidden_activation=activation, dtype="float64", seed=2)
    hidden_std = np.sqrt(2 / FAN_IN) if activation in RELU_FAMILY else np.sqrt(2 / (FAN_IN + FAN_OUT))
    assert_normal(mlp.weights[0], hidden_std)
    assert_normal(mlp.weights[1], np.sqrt(2 / (FAN_OUT + 200)))


def test_default_of_mixed_layers():
    mlp = cr.MLP(
        [300, 400, 350, 2], hidden_activation=["tanh", "relu"], output_activation="relu", dtype="float64", seed=2
    )
    assert_normal(mlp.weights[0], np.sqrt(2 / 700))
    assert_normal(mlp.weights[1], np.sqrt(2 / 400))
    assert_normal(mlp.weights[2], np.sqrt(2 / 350))


@pytest.mark.parametrize("init", [None, "he", "xavier", "lecun", "normal", "uniform"], ids=str)
def test_biases_start_at_zero(init):
    mlp = cr.MLP([5, 7, 3], init=init, seed=0)
    assert all(np.all(b == 0) for b in mlp.biases)
    assert all(np.all(W != 0) for W in mlp.weights)


@pytest.mark.parametrize("init", [None, "uniform"], ids=str)
class TestSeed:
    def net(self, init, seed, dtype="float32"):
        return cr.MLP([20, 30, 2], init=init, dtype=dtype, seed=seed)

    def test_one_seed_gives_one_start(self, init):
        assert same_bits(self.net(init, 7).parameters, self.net(init, 7).parameters)

    def test_seeds_differ(self, init):
        starts = {self.net(init, seed).parameters.tobytes() for seed in (0, 1, 2, 2**32, 2**32 + 1, 2**63, 2**64 - 1)}
        assert len(starts) == 7

    def test_no_seed_differs_each_time(self, init):
        assert len({self.net(init, None).parameters.tobytes() for _ in range(4)}) == 4

    def test_float32_weights_are_float64_weights_rounded(self, init):
        single, double = self.net(init, 7), self.net(init, 7, "float64")
        assert single.parameters.dtype == np.float32 and double.parameters.dtype == np.float64
        assert same_bits(single.parameters, double.parameters.astype(np.float32))

    def test_numpy_integers_are_seeds(self, init):
        assert same_bits(self.net(init, np.int64(7)).parameters, self.net(init, 7).parameters)
        assert self.net(init, np.uint8(7)).seed == 7

    def test_numpy_s_global_generator_plays_no_part(self, init):
        before = np.random.get_state(legacy=False)["state"]
        start = self.net(init, 7).parameters.copy()
        self.net(init, None)
        after = np.random.get_state(legacy=False)["state"]
        assert np.array_equal(before["key"], after["key"]) and before["pos"] == after["pos"]
        np.random.default_rng().normal(size=10)
        assert same_bits(self.net(init, 7).parameters, start)


def test_seed_is_the_same_in_another_process(run_python):
    code = "import chainrule as cr; print(cr.MLP([20, 30, 2], seed=7).parameters.tobytes().hex())"
    assert run_python("-c", code).stdout.strip() == cr.MLP([20, 30, 2], seed=7).parameters.tobytes().hex()
