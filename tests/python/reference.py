"""A multi-layer perceptron by explicit backpropagation in plain NumPy: what the library is measured against.

Samples are rows: a_0 = X, z_l = a_{l-1} W_l + b_l, a_l = σ_l(z_l), δ_l = dL/dz_l. Everything keeps the dtype of the
parameters, so the same code gives the float64 truth and NumPy's own float32 error. Branches look at the real part
only, so that complex numbers pass through and the complex step can check every derivative (GELU's erf apart).
An activation is a name or a pair (name, parameter); a loss is a name or a pair (name, parameters).
"""

import math

import numpy as np

SELU_SCALE = 1.0507009873554804934193349852946
SELU_ALPHA = 1.6732632423543772848170429916717
DEFAULT_PARAMETERS = {"leaky_relu": 0.01, "elu": 1.0, "huber": (1.0,), "quantile": (0.5,)}


def name_and_parameter(spec):
    return (spec, DEFAULT_PARAMETERS.get(spec)) if isinstance(spec, str) else spec


# Activations: value σ(z), and slope σ'(z).


def sigmoid(z):
    decay = np.exp(np.where(z.real >= 0, -z, z))
    return np.where(z.real >= 0, 1, decay) / (1 + decay)


def ramp(z):
    return np.where(z.real > 0, z, 0 * z)


def softplus_above_ramp(z):
    return np.log1p(np.exp(np.where(z.real > 0, -z, z)))


def elu(z, alpha):
    return np.where(z.real > 0, z, alpha * np.expm1(np.where(z.real > 0, 0 * z, z)))


def elu_slope(z, alpha):
    return np.where(z.real > 0, 1 + 0 * z, alpha * np.exp(np.where(z.real > 0, 0 * z, z)))


def erf(z):
    return np.vectorize(math.erf, otypes=[float])(z).astype(z.dtype)


def normal_density(z):
    return np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)


def softmax(z):
    weight = np.exp(z - z.real.max(axis=1, keepdims=True))
    return weight / weight.sum(axis=1, keepdims=True)


VALUES = {
    "identity": lambda z, _: z,
    "sigmoid": lambda z, _: sigmoid(z),
    "tanh": lambda z, _: np.tanh(z),
    "relu": lambda z, _: ramp(z),
    "leaky_relu": lambda z, slope: np.where(z.real > 0, z, slope * z),
    "elu": elu,
    "selu": lambda z, _: SELU_SCALE * elu(z, SELU_ALPHA),
    "gelu": lambda z, _: 0.5 * z * (1 + erf(z / math.sqrt(2))),
    "silu": lambda z, _: z * sigmoid(z),
    "softplus": lambda z, _: ramp(z) + softplus_above_ramp(z),
    "exp": lambda z, _: np.exp(z),
    "softmax": lambda z, _: softmax(z),
}
SLOPES = {
    "identity": lambda z, _: np.ones_like(z),
    "sigmoid": lambda z, _: sigmoid(z) * sigmoid(-z),
    "tanh": lambda z, _: 1 - np.tanh(z) ** 2,
    "relu": lambda z, _: np.where(z.real > 0, 1 + 0 * z, 0 * z),
    "leaky_relu": lambda z, slope: np.where(z.real > 0, 1 + 0 * z, slope + 0 * z),
    "elu": elu_slope,
    "selu": lambda z, _: SELU_SCALE * elu_slope(z, SELU_ALPHA),
    "gelu": lambda z, _: 0.5 * (1 + erf(z / math.sqrt(2))) + z * normal_density(z),
    "silu": lambda z, _: sigmoid(z) * (1 + z * sigmoid(-z)),
    "softplus": lambda z, _: sigmoid(z),
    "exp": lambda z, _: np.exp(z),
}
OUTPUT_ONLY = ("exp", "softmax")
HIDDEN = tuple(name for name in VALUES if name not in OUTPUT_ONLY)


def activate(activation, z):
    name, parameter = name_and_parameter(activation)
    return VALUES[name](z, parameter)


def pull_through(activation, z, grad_a):
    """dL/dz from dL/da: an element-wise product, but for softmax, whose Jacobian is diag(a) - a aᵀ."""
    name, parameter = name_and_parameter(activation)
    if name == "softmax":
        a = softmax(z)
        return a * (grad_a - (grad_a * a).sum(axis=1, keepdims=True))
    return grad_a * SLOPES[name](z, parameter)


# Losses: each gives the loss of every sample, (n,), and its gradient with respect to its first argument, (n, d).


def mse(a, y):
    return ((a - y) ** 2).mean(axis=1), 2 * (a - y) / a.shape[1]


def mae(a, y):
    sign = np.sign((a - y).real)
    return (sign * (a - y)).mean(axis=1), sign / a.shape[1]


def huber(a, y, delta):
    e, sign = a - y, np.sign((a - y).real)
    near = np.abs(e.real) <= delta
    value = np.where(near, 0.5 * e * e, delta * (sign * e - 0.5 * delta))
    return value.mean(axis=1), np.where(near, e, delta * sign) / a.shape[1]


def quantile(a, y, *quantiles):
    """Output columns are target-major: target 0 at every quantile, then target 1 …"""
    tau = np.tile(np.asarray(quantiles, a.dtype), y.shape[1])
    e = np.repeat(y, len(quantiles), axis=1) - a
    slope = np.where(e.real > 0, tau, np.where(e.real < 0, tau - 1, 0 * tau))
    return (slope * e).mean(axis=1), -slope / a.shape[1]


def bce_of_logits(z, y):
    return (ramp(z) - y * z + softplus_above_ramp(z)).mean(axis=1), (sigmoid(z) - y) / z.shape[1]


def cross_entropy_of_logits(z, y):
    shifted = z - z.real.max(axis=1, keepdims=True)
    log_probability = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return -(y * log_probability).sum(axis=1), softmax(z) * y.sum(axis=1, keepdims=True) - y


def poisson_of_log_rate(z, y):
    return (np.exp(z) - y * z).mean(axis=1), (np.exp(z) - y) / z.shape[1]


OF_OUTPUTS = {"mse": mse, "mae": mae, "huber": huber, "quantile": quantile}
OF_LOGITS = {"bce": bce_of_logits, "cross_entropy": cross_entropy_of_logits, "poisson": poisson_of_log_rate}
LOSSES = (*OF_OUTPUTS, *OF_LOGITS)


def sample_losses(loss, activation, z, y):
    """Loss of each sample, (n,), and the gradient of each with respect to its row of z_L, (n, d_L)."""
    name, parameters = name_and_parameter(loss)
    if name in OF_LOGITS:
        return OF_LOGITS[name](z, y)
    value, grad_a = OF_OUTPUTS[name](activate(activation, z), y, *(parameters or ()))
    return value, pull_through(activation, z, grad_a)


class MLP:
    """The network: weights W_1…W_L of shape (d_{layer-1}, d_l), biases of shape (d_l,), one activation a layer."""

    def __init__(self, weights, biases, activations, loss="mse"):
        self.weights = [np.array(W) for W in weights]
        self.biases = [np.array(b) for b in biases]
        self.activation_functions = list(activations)
        self.loss = loss

    def forward(self, X):
        self.activations = [np.asarray(X, self.weights[0].dtype)]
        self.pre_activations = []
        for W, b, activation in zip(self.weights, self.biases, self.activation_functions, strict=True):
            self.pre_activations.append(self.activations[-1] @ W + b)
            self.activations.append(activate(activation, self.pre_activations[-1]))
        return self.activations[-1]

    def backward(self, y, sample_weight=None):
        """The loss; fills deltas and gradients. y is (n, d) with one-hot rows for classes."""
        z = self.pre_activations[-1]
        y = np.asarray(y, z.dtype)
        weight = np.ones(len(z), z.dtype) if sample_weight is None else np.asarray(sample_weight, z.dtype)
        share = weight / weight.sum()
        value, gradient = sample_losses(self.loss, self.activation_functions[-1], z, y)
        self.sweep_back(share[:, None] * gradient)
        return (share * value).sum()

    def pullback(self, grad_output):
        """dL/dX from dL/da_L; fills deltas and gradients."""
        self.sweep_back(pull_through(self.activation_functions[-1], self.pre_activations[-1], grad_output))
        return self.input_gradient()

    def input_gradient(self):
        return self.deltas[0] @ self.weights[0].T

    def sweep_back(self, delta):
        self.deltas = [delta]
        for layer in range(len(self.weights) - 1, 0, -1):
            grad_a = self.deltas[0] @ self.weights[layer].T
            self.deltas.insert(
                0, pull_through(self.activation_functions[layer - 1], self.pre_activations[layer - 1], grad_a)
            )
        self.weight_gradients = [a.T @ d for a, d in zip(self.activations, self.deltas, strict=False)]
        self.bias_gradients = [d.sum(axis=0) for d in self.deltas]

    @property
    def parameters(self):
        return flatten(self.weights, self.biases)

    @parameters.setter
    def parameters(self, vector):
        start = 0
        for layer, (W, b) in enumerate(zip(self.weights, self.biases, strict=True)):
            self.weights[layer] = vector[start : start + W.size].reshape(W.shape).copy()
            start += W.size
            self.biases[layer] = vector[start : start + b.size].copy()
            start += b.size

    @property
    def gradient(self):
        return flatten(self.weight_gradients, self.bias_gradients)


def flatten(weights, biases):
    """W_1, b_1, W_2, b_2, … as one vector."""
    return np.concatenate([part.ravel() for pair in zip(weights, biases, strict=True) for part in pair])


# Optimizers: update(θ, g) gives the next θ.


class SGD:
    def __init__(self, lr=1e-3, momentum=0, nesterov=False, weight_decay=0):
        self.lr, self.momentum, self.nesterov, self.weight_decay = lr, momentum, nesterov, weight_decay
        self.velocity = None

    def update(self, theta, g):
        g = g + self.weight_decay * theta
        if self.momentum:
            self.velocity = g if self.velocity is None else self.momentum * self.velocity + g
            g = g + self.momentum * self.velocity if self.nesterov else self.velocity
        return theta - self.lr * g


class RMSprop:
    def __init__(self, lr=1e-2, alpha=0.99, eps=1e-8, weight_decay=0, momentum=0, centered=False):
        self.lr, self.alpha, self.eps, self.weight_decay = lr, alpha, eps, weight_decay
        self.momentum, self.centered = momentum, centered
        self.square = self.mean = self.velocity = 0.0

    def update(self, theta, g):
        g = g + self.weight_decay * theta
        self.square = self.alpha * self.square + (1 - self.alpha) * g * g
        variance = self.square
        if self.centered:
            self.mean = self.alpha * self.mean + (1 - self.alpha) * g
            variance = self.square - self.mean**2
        self.velocity = self.momentum * self.velocity + g / (np.sqrt(variance) + self.eps)
        return theta - self.lr * self.velocity


class Adam:
    decoupled = False

    def __init__(self, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0):
        self.lr, self.betas, self.eps, self.weight_decay = lr, betas, eps, weight_decay
        self.t, self.mean, self.square = 0, 0.0, 0.0

    def update(self, theta, g):
        self.t += 1
        beta1, beta2 = self.betas
        if self.decoupled:
            theta = theta - self.lr * self.weight_decay * theta
        else:
            g = g + self.weight_decay * theta
        self.mean = beta1 * self.mean + (1 - beta1) * g
        self.square = beta2 * self.square + (1 - beta2) * g * g
        mean, square = self.mean / (1 - beta1**self.t), self.square / (1 - beta2**self.t)
        return theta - self.lr * mean / (np.sqrt(square) + self.eps)


class AdamW(Adam):
    decoupled = True

    def __init__(self, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-2):
        super().__init__(lr, betas, eps, weight_decay)


def clip(g, max_norm):
    """PyTorch's clip_grad_norm_, its 1e-6 included."""
    return g * min(1.0, max_norm / (np.linalg.norm(g) + 1e-6))


# Schedules: the learning rate of every step, (epochs, steps per epoch).


def constant(lr, epochs, steps):
    return np.full((epochs, steps), lr)


def per_epoch(rates, steps):
    return np.repeat(np.asarray(rates, float)[:, None], steps, axis=1)


def step_decay(lr, epochs, steps, step_size=10, gamma=0.1):
    return per_epoch([lr * gamma ** (epoch // step_size) for epoch in range(epochs)], steps)


def exponential_decay(lr, epochs, steps, gamma=0.95):
    return per_epoch([lr * gamma**epoch for epoch in range(epochs)], steps)


def cosine_between(start, end, share):
    return end + (start - end) * (1 + np.cos(np.pi * share)) / 2


def cosine_decay(lr, epochs, steps, eta_min=0.0):
    return per_epoch(cosine_between(lr, eta_min, np.arange(epochs) / epochs), steps)


def warmup(lr, epochs, steps, warm_epochs=5, start_factor=0.1):
    share = np.minimum(np.arange(epochs * steps) / (warm_epochs * steps), 1)
    return (lr * (start_factor + (1 - start_factor) * share)).reshape(epochs, steps)


def one_cycle(lr, epochs, steps, pct_start=0.3, div_factor=25.0, final_div_factor=1e4):
    i, total = np.arange(epochs * steps), epochs * steps
    peak, last = pct_start * total - 1, total - 1
    rising = cosine_between(lr / div_factor, lr, i / peak)
    falling = cosine_between(lr, lr / div_factor / final_div_factor, (i - peak) / (last - peak))
    return np.where(i <= peak, rising, falling).reshape(epochs, steps)


class Plateau:
    """The rate of the next epoch, from the loss of each."""

    def __init__(self, lr, factor=0.1, patience=10, threshold=1e-4, min_lr=0.0):
        self.lr, self.factor, self.patience, self.threshold, self.min_lr = lr, factor, patience, threshold, min_lr
        self.best, self.bad = math.inf, 0

    def after(self, loss):
        if loss < self.best * (1 - self.threshold):
            self.best, self.bad = loss, 0
        else:
            self.bad += 1
        if self.bad > self.patience:
            self.lr, self.bad = max(self.lr * self.factor, self.min_lr), 0
        return self.lr


def train(net, X, y, optimizer, rates, batch_size, sample_weight=None, clip_norm=None):
    """Mini-batches in the order of the rows; rates is (epochs, steps). Returns the loss of each epoch: the mean of its
    steps' losses (each before its update), by rows."""
    epoch_losses = []
    for epoch_rates in rates:
        total = 0.0
        for start, lr in zip(range(0, len(X), batch_size), epoch_rates, strict=True):
            rows = slice(start, start + batch_size)
            net.forward(X[rows])
            loss = net.backward(y[rows], None if sample_weight is None else sample_weight[rows])
            total += loss * len(X[rows])
            optimizer.lr = lr
            net.parameters = optimizer.update(
                net.parameters, net.gradient if clip_norm is None else clip(net.gradient, clip_norm)
            )
        epoch_losses.append(total / len(X))
    return epoch_losses
