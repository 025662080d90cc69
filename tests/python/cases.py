"""The nets and data that parity tests share. Nothing here needs the library: it is for the reference alone."""

import itertools
from dataclasses import dataclass

import numpy as np
import reference


@dataclass(frozen=True)
class Task:
    """A loss with an output activation, a width and the kind of targets that it takes."""

    loss: object
    output: object
    targets: str
    width: int = 3

    @property
    def loss_name(self):
        return reference.name_and_parameter(self.loss)[0]

    @property
    def id(self):
        return f"{self.loss_name}-{reference.name_and_parameter(self.output)[0]}-{self.targets}"


TASKS = (
    Task("mse", "identity", "real"),
    Task("mae", "identity", "real"),
    Task(("huber", (0.6,)), "identity", "real"),
    Task(("quantile", (0.1, 0.5, 0.9)), "identity", "pair", width=6),
    Task("bce", "sigmoid", "unit"),
    Task("bce", "identity", "unit"),
    Task("cross_entropy", "softmax", "class", width=4),
    Task("cross_entropy", "identity", "class", width=4),
    Task("cross_entropy", "softmax", "mass", width=4),
    Task("poisson", "exp", "count"),
    Task("poisson", "identity", "count"),
)
# The losses that take any output activation, with each of them.
OUTPUT_TASKS = tuple(
    Task(loss, output, "pair" if loss_name == "quantile" else "real", width=6 if loss_name == "quantile" else 3)
    for loss_name, loss in {
        "mse": "mse",
        "mae": "mae",
        "huber": ("huber", (0.6,)),
        "quantile": ("quantile", (0.2, 0.5, 0.7)),
    }.items()
    for output in reference.VALUES
    if output != "identity"
)
OPTIMIZERS = (
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "weight_decay": 0.05}),
    ("SGD", {"lr": 0.1, "momentum": 0.9}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.05}),
    ("SGD", {"lr": 0.1, "momentum": 0.8, "nesterov": True}),
    ("SGD", {"lr": 0.1, "momentum": 0.8, "nesterov": True, "weight_decay": 0.05}),
    ("RMSprop", {}),
    ("RMSprop", {"weight_decay": 0.05}),
    ("RMSprop", {"momentum": 0.9}),
    ("RMSprop", {"centered": True}),
    ("RMSprop", {"lr": 0.03, "alpha": 0.9, "eps": 1e-3}),
    ("RMSprop", {"lr": 0.005, "momentum": 0.7, "centered": True, "weight_decay": 0.05}),
    ("Adam", {}),
    ("Adam", {"weight_decay": 0.05}),
    ("Adam", {"lr": 0.05, "betas": (0.8, 0.95), "eps": 1e-4}),
    ("AdamW", {}),
    ("AdamW", {"lr": 0.05, "weight_decay": 0.3}),
    ("AdamW", {"weight_decay": 0, "betas": (0.7, 0.9)}),
)
HIDDEN_CASES = (*reference.HIDDEN, ("leaky_relu", 0.3), ("elu", 0.7))
SIZES = {1: (5,), 2: (5, 7), 3: (5, 7, 6), 4: (5, 9, 1, 4)}
BATCHES = {1: 1, 2: 40, 3: 7, 4: 13}
WIDE = (((33, 100), 70), ((257, 33), 17), ((100, 257, 33), 70))


def activation_id(activation):
    name, parameter = reference.name_and_parameter(activation)
    return name if isinstance(activation, str) else f"{name}({parameter})"


def case_ids(value):
    """Ids for parametrised arguments: tasks, activations and flags."""
    if isinstance(value, Task):
        return value.id
    if isinstance(value, bool):
        return "weighted" if value else "plain"
    if isinstance(value, tuple) and value and isinstance(value[0], str):
        return activation_id(value)
    return None


def optimizer_id(value):
    if isinstance(value, dict):
        return ",".join(f"{name}={setting}" for name, setting in value.items()) or "defaults"
    return value


def parity_cases():
    """(task, hidden activation, depth, weighted): every activation × loss × depth 1–4 × with and without weights."""
    for weighted in (False, True):
        for task in TASKS:
            yield task, "identity", 1, weighted
            for depth in (2, 3, 4):
                for hidden in HIDDEN_CASES:
                    yield task, hidden, depth, weighted
        for task in OUTPUT_TASKS:
            yield task, "tanh", 2, weighted


def random_net(rng, sizes, hidden, task, dtype=np.float64):
    """A reference net with weights of unit gain and small biases."""
    shapes = list(itertools.pairwise(sizes))
    weights = [(rng.normal(size=shape) / np.sqrt(shape[0])).astype(dtype) for shape in shapes]
    biases = [(0.3 * rng.normal(size=shape[1])).astype(dtype) for shape in shapes]
    return reference.MLP(weights, biases, [hidden] * (len(shapes) - 1) + [task.output], task.loss)


def random_targets(rng, task, n):
    """(y as a user passes it, y as the reference takes it)."""
    if task.targets == "real":
        y = rng.normal(size=(n, task.width))
    elif task.targets == "pair":
        y = rng.normal(size=(n, 2))
    elif task.targets == "unit":
        y = rng.uniform(size=(n, task.width)) * (rng.uniform(size=(n, task.width)) < 0.7)
    elif task.targets == "class":
        y = rng.integers(task.width, size=n)
        return y, np.eye(task.width)[y]
    elif task.targets == "mass":
        y = rng.uniform(size=(n, task.width))
    elif task.targets == "count":
        y = rng.poisson(2.0, size=(n, task.width)).astype(float)
    else:
        raise ValueError(task.targets)
    return y, y


@dataclass
class Problem:
    """A net and a batch: X, y (the user's form), Y (the reference's form), sample weights or None."""

    net: reference.MLP
    X: np.ndarray
    y: np.ndarray
    Y: np.ndarray
    sample_weight: np.ndarray | None


def make_problem(task, hidden, sizes, n, weighted, seed=0, dtype=np.float64):
    rng = np.random.default_rng([seed, n, len(sizes), int(weighted)])
    net = random_net(rng, (*sizes, task.width), hidden, task, dtype)
    X = rng.normal(size=(n, sizes[0])).astype(dtype)
    y, Y = random_targets(rng, task, n)
    if y.dtype.kind == "f":
        y = Y = y.astype(dtype)
    weight = rng.uniform(0.1, 3.0, size=n).astype(dtype) if weighted else None
    return Problem(net, X, y, Y, weight)


def parity_problem(task, hidden, depth, weighted):
    return make_problem(task, hidden, SIZES[depth], BATCHES[depth], weighted)
