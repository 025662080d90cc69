"""Networks of the library that hold the same parameters as a reference net."""

import numpy as np

import chainrule as cr


def library_activation(activation):
    if isinstance(activation, str):
        return activation
    name, parameter = activation
    return cr.LeakyReLU(negative_slope=parameter) if name == "leaky_relu" else cr.ELU(alpha=parameter)


def library_loss(loss):
    if isinstance(loss, str):
        return loss
    name, parameters = loss
    return cr.Huber(delta=parameters[0]) if name == "huber" else cr.Quantile(list(parameters))


def library_net(net, seed=0):
    """The library's copy of a reference net."""
    *hidden, output = [library_activation(activation) for activation in net.activation_functions]
    mlp = cr.MLP(
        [len(net.weights[0]), *(len(b) for b in net.biases)],
        hidden_activation=hidden or "relu",
        output_activation=output,
        loss=library_loss(net.loss),
        dtype=net.weights[0].dtype,
        seed=seed,
    )
    mlp.parameters[:] = net.parameters
    return mlp


def small_net(layer_sizes=(4, 5, 3), *, dtype="float64", seed=1, **settings):
    """A network and a batch of seven rows that fits it."""
    mlp = cr.MLP(list(layer_sizes), dtype=dtype, seed=seed, **settings)
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(7, layer_sizes[0]))
    name = settings.get("loss", "mse")
    if name == "cross_entropy":
        y = rng.integers(layer_sizes[-1], size=7)
    elif name == "bce":
        y = rng.uniform(size=(7, layer_sizes[-1]))
    else:
        y = rng.normal(size=(7, layer_sizes[-1]))
    return mlp, X, y


def few_samples():
    """X (64, 3) and y (64,), a regression problem."""
    X = np.random.default_rng(0).normal(size=(64, 3))
    return X, X[:, 0] - X[:, 1] ** 2


def smooth_data(n=64, d_in=4, d_out=2, seed=0):
    """A regression problem that a small net can learn."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d_in))
    return X, np.sin(X @ rng.normal(size=(d_in, d_out)))


def smooth_net(dtype="float64", **settings):
    """A network for that data."""
    return cr.MLP([4, 16, 2], hidden_activation="tanh", dtype=dtype, seed=3, **settings)
