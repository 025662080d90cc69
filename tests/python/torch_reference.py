"""The same nets in PyTorch with autograd. Import it only where torch is there."""

import numpy as np
import reference
import torch
from torch.nn import functional

torch.set_num_threads(1)  # the nets are tiny, and the library has threads of its own


def activate(activation, z):
    name, parameter = reference.name_and_parameter(activation)
    if name == "identity":
        return z
    if name == "leaky_relu":
        return functional.leaky_relu(z, parameter)
    if name == "elu":
        return functional.elu(z, parameter)
    if name == "softmax":
        return torch.softmax(z, dim=1)
    elementwise = {"sigmoid": torch.sigmoid, "tanh": torch.tanh, "exp": torch.exp}
    return (elementwise.get(name) or getattr(functional, name))(z)


def sample_losses(loss, activation, z, y):
    """The loss of each sample: the mean over outputs, but for cross-entropy, which has none."""
    name, parameters = reference.name_and_parameter(loss)
    if name == "cross_entropy":
        return functional.cross_entropy(z, y, reduction="none")
    if name == "bce":
        return functional.binary_cross_entropy_with_logits(z, y, reduction="none").mean(dim=1)
    if name == "poisson":
        return functional.poisson_nll_loss(z, y, log_input=True, reduction="none").mean(dim=1)
    a = activate(activation, z)
    if name == "mse":
        return functional.mse_loss(a, y, reduction="none").mean(dim=1)
    if name == "mae":
        return functional.l1_loss(a, y, reduction="none").mean(dim=1)
    if name == "huber":
        return functional.huber_loss(a, y, delta=parameters[0], reduction="none").mean(dim=1)
    tau = torch.tensor(parameters, dtype=a.dtype).repeat(y.shape[1])
    e = y.repeat_interleave(len(parameters), dim=1) - a
    return torch.maximum(tau * e, (tau - 1) * e).mean(dim=1)


class MLP:
    """A copy of a reference net, its parameters as leaves W_1, b_1, W_2, …"""

    def __init__(self, net):
        self.activations, self.loss = net.activation_functions, net.loss
        pairs = zip(net.weights, net.biases, strict=True)
        self.leaves = [torch.tensor(part, requires_grad=True) for pair in pairs for part in pair]

    def logits(self, X):
        a = X
        for layer, activation in enumerate(self.activations):
            z = a @ self.leaves[2 * layer] + self.leaves[2 * layer + 1]
            a = activate(activation, z)
        return z

    def forward(self, X):
        self.X = torch.tensor(np.asarray(X), dtype=self.leaves[0].dtype, requires_grad=True)
        self.z = self.logits(self.X)
        self.output = activate(self.activations[-1], self.z)
        return self.output.detach().numpy()

    def loss_of(self, y, sample_weight=None):
        y = torch.as_tensor(np.asarray(y))
        y = y.to(self.z.dtype) if y.is_floating_point() else y
        value = sample_losses(self.loss, self.activations[-1], self.z, y)
        if sample_weight is None:
            return value.mean()
        weight = torch.as_tensor(np.asarray(sample_weight), dtype=value.dtype)
        return (weight * value).sum() / weight.sum()

    def backward(self, y, sample_weight=None):
        loss = self.loss_of(y, sample_weight)
        self.fill(torch.autograd.grad(loss, [*self.leaves, self.X]))
        return loss.item()

    def pullback(self, grad_output):
        grad_output = torch.as_tensor(np.asarray(grad_output), dtype=self.z.dtype)
        self.fill(torch.autograd.grad(self.output, [*self.leaves, self.X], grad_output))
        return self.input_gradient

    def fill(self, gradients):
        *gradients, input_gradient = [g.numpy() for g in gradients]
        self.weight_gradients, self.bias_gradients = gradients[0::2], gradients[1::2]
        self.input_gradient = input_gradient

    @property
    def parameters(self):
        return np.concatenate([leaf.detach().numpy().ravel() for leaf in self.leaves])

    @property
    def gradient(self):
        return reference.flatten(self.weight_gradients, self.bias_gradients)

    def train_step(self, X, y, optimizer, sample_weight=None, clip_norm=None):
        optimizer.zero_grad()
        self.forward(X)
        loss = self.loss_of(y, sample_weight)
        loss.backward()
        if clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.leaves, clip_norm)
        optimizer.step()
        return loss.item()
