"""The multi-layer perceptron."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from itertools import pairwise
from typing import Any, TypeGuard

import numpy as np
import numpy.typing as npt

from chainrule import _core, activations, c_export, derivatives, gradient_check, gradient_flow, losses, serialization
from chainrule import fit as fitting
from chainrule._arguments import integer, known_name, real, shown
from chainrule._core import Activation, Init, Loss
from chainrule._names import parameter_names
from chainrule._table import Table
from chainrule._types import FloatArray, Self, TorchModule, TorchSequential
from chainrule.activations import ActivationLike, as_activation, as_hidden_activations
from chainrule.c_export import Footprint
from chainrule.gradient_flow import GradientFlowReport
from chainrule.initializers import ZEROS, InitLike, as_init, default_init
from chainrule.losses import LossLike, as_loss
from chainrule.optimizers import SGD, Optimizer

MODELS: dict[str, type[_core.ModelFloat32 | _core.ModelFloat64]] = {
    "float32": _core.ModelFloat32,
    "float64": _core.ModelFloat64,
}


class MLP:
    """A multi-layer perceptron, trained by explicit backpropagation.

    With samples as rows, ``a_0 = X`` and for each layer l = 1 ... L::

        z_l = a_{l-1} W_l + b_l        W_l is (d_{l-1}, d_l), b_l is (d_l,)
        a_l = σ_l(z_l)                 z_l and a_l are (n, d_l)

    and the chain rule gives the gradient of the loss from the last layer to the first, with ``δ_l = dL/dz_l``::

        dL/dW_l = a_{l-1}ᵀ δ_l         dL/db_l = Σ_rows δ_l
        δ_{l-1} = (δ_l W_lᵀ) ⊙ σ'_{l-1}(z_{l-1})

    Every one of these arrays is open to look at.

    Parameters
    ----------
    layer_sizes : sequence of int
        ``[d_0, d_1, ..., d_L]``: the number of inputs, the units of each hidden layer, the number of outputs. At least
        two entries, each at least 1.
    hidden_activation : str or activation, or a sequence of one per hidden layer, default "relu"
        "identity", "sigmoid", "tanh", "relu", "leaky_relu", "elu", "selu", "gelu" (exact, by the normal distribution),
        "silu", "softplus", or an object with a parameter: `LeakyReLU`, `ELU`.
    output_activation : str or activation, optional
        One of those, or "exp" or "softmax". By default it follows the loss: "sigmoid" for "bce", "softmax" for
        "cross_entropy", "exp" for "poisson", "identity" for the others. These three losses also take "identity": then
        the outputs are the logits (log rates for "poisson") and the loss is the same.
    loss : str or loss, default "mse"
        "mse", "mae", "huber", "bce", "cross_entropy", "poisson", "quantile", or an object with parameters: `Huber`,
        `Quantile`. See Notes.
    init : str or initialiser, optional
        Where the weights start: "he", N(0, 2/d_{l-1}); "xavier", N(0, 2/(d_{l-1} + d_l)); "lecun", N(0, 1/d_{l-1});
        "normal", "uniform", or an object with a parameter: `Normal`, `Uniform`. By default "he" for layers whose
        activation is of the ReLU family (relu, leaky_relu, elu, selu, gelu, silu, softplus) and "xavier" for the
        others. Biases start at zero.
    dtype : {"float32", "float64"} or NumPy dtype, default "float32"
        Of the parameters, and of all that is computed from them.
    seed : int, optional
        In [0, 2**64). Decides the initial weights, the order of the samples in `fit` and what drops out. By default a
        new one is drawn from the operating system; the attribute `seed` tells which.
    dropout : float, or a sequence of one per hidden layer, default 0
        Share p, in [0, 1), of a layer's units that each training step leaves out, sample by sample: what goes on to the
        next layer is ``a_l ⊙ m_l``, with m_l 0 for those and ``1 / (1 - p)`` for the others. 1 - p counts in steps of
        2⁻¹⁶. `forward`, `step` and `fit` drop units; `predict`, `evaluate` and `check_gradients` do not.

    Attributes
    ----------
    layer_sizes : tuple of int
        ``(d_0, ..., d_L)``.
    n_layers : int
        L, the number of weight layers.
    n_parameters : int
        Length of `parameters`.
    dtype : numpy.dtype
        float32 or float64.
    loss : Loss
        With `name` and `parameters`.
    hidden_activations : tuple of Activation
        σ_1 ... σ_{L-1}, each with `name` and `parameter`.
    output_activation : Activation
        σ_L.
    init : Init or None
        What was given, with `name` and `parameter`; None for the default.
    seed : int
        What was given, or drawn.
    dropout : tuple of float
        One share per hidden layer.

    Raises
    ------
    ValueError, TypeError
        For an argument out of range or of another kind; the message names it.
    MemoryError
        If the parameters do not fit into memory.

    Notes
    -----
    Losses are means over the n samples, and over the outputs too except for "cross_entropy". With a prediction a and
    a target y for each output, and ``e = a - y``:

    =============  =========================================================  ==================================
    loss           cost                                                       y
    =============  =========================================================  ==================================
    mse            e²                                                         any number
    mae            abs(e)                                                     any number
    huber          e²/2 where abs(e) <= delta, else delta (abs(e) - delta/2)  any number
    bce            -y ln a - (1 - y) ln(1 - a)                                in [0, 1]
    cross_entropy  -Σ_j y_j ln a_j, over a row                                labels 0 ... d_L - 1, or rows >= 0
    poisson        a - y ln a                                                 >= 0
    quantile       max(-τ e, (1 - τ) e)                                       any number
    =============  =========================================================  ==================================

    The logarithms are never taken of a: bce, cross_entropy and poisson are computed from z_L, so that they are exact
    for any finite z_L. Their gradient is ``δ_L = (a_L - y)/n``, divided by d_L too where the loss is a mean over the
    outputs; for cross_entropy this takes rows of y that sum to 1, and in general ``δ_L = (a_L Σ_j y_j - y)/n``.

    Where sample weights w are given, the mean over samples becomes ``Σ_i w_i (...) / Σ_i w_i``.

    Everywhere below, ``X`` is an array-like of shape (n, d_0), of any real dtype, order or stride, or a sparse matrix
    of SciPy's, of which no more than the rows of a batch are ever made dense. ``y`` is an array-like of shape (n, d_L);
    with one output, y may be (n,) too. For cross_entropy y holds n integer labels, in shape (n,) or (n, 1), or n rows
    of d_L probabilities (one-hot or any others >= 0). For `Quantile` y is (n, t) with t targets.
    ``sample_weight`` is (n,), finite, >= 0, with a sum above zero.

    The arrays that the properties return are views of the network's own memory, in its dtype. Assign in place:
    ``mlp.weights[0][:] = W``. They stay valid, and keep that memory alive, after the network is deleted.

    What `forward` keeps and what `backward` adds to it lasts until the next `forward`, `step` or `fit`, which use the
    same memory; until there is a new gradient, asking for one is a RuntimeError.

    Any method that meets a bad argument raises ValueError or TypeError, naming the argument, and changes nothing.

    References
    ----------
    Rumelhart, Hinton, Williams: Learning representations by back-propagating errors. Nature 323, 1986.
    Srivastava et al.: Dropout: a simple way to prevent neural networks from overfitting. JMLR 15, 2014.

    Examples
    --------
    >>> import chainrule as cr
    >>> mlp = cr.MLP([2, 4, 1], hidden_activation="sigmoid", loss="bce", dtype="float64", seed=0)
    >>> mlp
    MLP(2-4-1, hidden_activation='sigmoid', output_activation='sigmoid', loss='bce', dtype=float64, 17 parameters)
    >>> X, y = [[0, 0], [0, 1], [1, 0], [1, 1]], [0, 1, 1, 0]
    >>> for _ in range(5000):
    ...     a = mlp.forward(X)
    ...     loss = mlp.backward(y, lr=0.5)
    >>> mlp.predict(X).round().ravel().tolist()
    [0.0, 1.0, 1.0, 0.0]
    """

    _model: _core.ModelFloat32 | _core.ModelFloat64
    _init: Init | None

    def __init__(
        self,
        layer_sizes: Sequence[int] | npt.NDArray[np.integer[Any]],
        *,
        hidden_activation: ActivationLike | Sequence[ActivationLike] = "relu",
        output_activation: ActivationLike | None = None,
        loss: LossLike = "mse",
        init: InitLike | None = None,
        dtype: npt.DTypeLike = "float32",
        seed: int | None = None,
        dropout: float | Sequence[float] = 0.0,
    ) -> None:
        sizes = _as_layer_sizes(layer_sizes)
        loss = as_loss(loss)
        output_activation = loss.default_output if output_activation is None else output_activation
        layers = [
            *as_hidden_activations(hidden_activation, len(sizes) - 2),
            as_activation("output_activation", output_activation),
        ]
        given_init = None if init is None or init is ZEROS else as_init(init)
        inits = [] if init is ZEROS else [given_init or default_init(activation) for activation in layers]
        name = _as_dtype_name(dtype)
        _check_addressable(sizes, np.dtype(name).itemsize)
        seed = secrets.randbits(64) if seed is None else integer("seed", seed, 0, 2**64 - 1)
        self._model = MODELS[name](sizes, layers, loss, inits, seed, _as_dropout(dropout, len(sizes) - 2))
        self._init = given_init

    @property
    def layer_sizes(self) -> tuple[int, ...]:
        """``(d_0, d_1, ..., d_L)``."""
        return tuple(self._model.layer_sizes)

    @property
    def n_layers(self) -> int:
        """L, the number of weight layers."""
        return len(self._model.layer_sizes) - 1

    @property
    def n_parameters(self) -> int:
        """Number of weights and biases: ``Σ_l (d_{l-1} + 1) d_l``."""
        return self._model.n_parameters

    @property
    def dtype(self) -> np.dtype[Any]:
        """float32 or float64."""
        return self._model.parameters.dtype

    @property
    def loss(self) -> Loss:
        """The loss, with `name` and `parameters`; a `Huber` or `Quantile` as such."""
        return losses.with_class(self._model.loss)

    @property
    def hidden_activations(self) -> tuple[Activation, ...]:
        """σ_1 ... σ_{L-1}, each with `name` and `parameter`; a `LeakyReLU` or `ELU` as such."""
        return tuple(map(activations.with_class, self._model.activations[:-1]))

    @property
    def output_activation(self) -> Activation:
        """σ_L, with `name` and `parameter`; a `LeakyReLU` or `ELU` as such."""
        return activations.with_class(self._model.activations[-1])

    @property
    def init(self) -> Init | None:
        """The initialiser that was given; None for the default, He or Xavier by each layer's activation."""
        return self._init

    @property
    def seed(self) -> int:
        """Seed of the initial weights, of the order of the samples in `fit` and of what drops out."""
        return self._model.seed

    @property
    def dropout(self) -> tuple[float, ...]:
        """Share of the units that a training step leaves out, one per hidden layer."""
        return tuple(self._model.dropout)

    @property
    def weights(self) -> list[FloatArray]:
        """W_1 ... W_L: views of shape (d_{l-1}, d_l), writable, ``weights[0]`` being W_1."""
        return self._model.weights()

    @property
    def biases(self) -> list[FloatArray]:
        """b_1 ... b_L: views of shape (d_l,), writable, ``biases[0]`` being b_1."""
        return self._model.biases()

    @property
    def parameters(self) -> FloatArray:
        """All parameters θ = W_1, b_1, W_2, b_2, ... as one writable view of shape (n_parameters,)."""
        return self._model.parameters

    @property
    def weight_gradients(self) -> list[FloatArray]:
        """dL/dW_1 ... dL/dW_L of the last `backward` or `pullback`: views of shape (d_{l-1}, d_l).

        RuntimeError where there is none.
        """
        return self._model.weight_gradients()

    @property
    def bias_gradients(self) -> list[FloatArray]:
        """dL/db_1 ... dL/db_L of the last `backward` or `pullback`: views of shape (d_l,).

        RuntimeError where there is none.
        """
        return self._model.bias_gradients()

    @property
    def gradient(self) -> FloatArray:
        """dL/dθ of the last `backward` or `pullback`, laid out like `parameters`: a view of shape (n_parameters,).

        RuntimeError where there is none.
        """
        return self._model.gradient

    @property
    def activations(self) -> list[FloatArray]:
        """a_0 ... a_L of the last `forward`: views of shape (n, d_l). RuntimeError where there is none."""
        return self._model.tape_activations()

    @property
    def pre_activations(self) -> list[FloatArray]:
        """z_1 ... z_L of the last `forward`: views of shape (n, d_l). RuntimeError where there is none."""
        return self._model.tape_pre_activations()

    @property
    def deltas(self) -> list[FloatArray]:
        """δ_1 ... δ_L, δ_l = dL/dz_l, of the last `backward` or `pullback`: views of shape (n, d_l).

        RuntimeError where there is none.
        """
        return self._model.tape_deltas()

    def named_parameters(self) -> Iterator[tuple[str, FloatArray]]:
        """Iterate over ("layers.0.weight", W_1), ("layers.0.bias", b_1), ("layers.1.weight", W_2), ...

        Yields
        ------
        str
            Name, counted from 0.
        ndarray
            The view that `weights` and `biases` hold.
        """
        return _named(self.weights, self.biases)

    def named_gradients(self) -> Iterator[tuple[str, FloatArray]]:
        """Iterate over ("layers.0.weight", dL/dW_1), ("layers.0.bias", dL/db_1), ("layers.1.weight", dL/dW_2), ...

        Yields
        ------
        str
            Name of the parameter, counted from 0.
        ndarray
            The view that `weight_gradients` and `bias_gradients` hold.

        Raises
        ------
        RuntimeError
            Without a `backward` or `pullback` since the last `forward`, `step` or `fit`.
        """
        return _named(self.weight_gradients, self.bias_gradients)

    def forward(self, X: npt.ArrayLike) -> FloatArray:
        """Run the forward pass and keep all of it: ``a_0 = X``, ``z_l = a_{l-1} W_l + b_l``, ``a_l = σ_l(z_l)``.

        Parameters
        ----------
        X : array-like of shape (n, d_0)
            Samples as rows, finite.

        Returns
        -------
        ndarray of shape (n, d_L)
            a_L, a copy.

        Raises
        ------
        ValueError
            If X has another number of columns, no rows, is not 2-D, or holds NaN or infinity.
        TypeError
            If X is complex, text or objects.
        """
        return self._model.forward(X)

    def backward(self, y: npt.ArrayLike, sample_weight: npt.ArrayLike | None = None, lr: float | None = None) -> float:
        """Run the backward pass from the last `forward`: the loss, and its gradient with respect to every parameter.

        ``δ_L = dL/dz_L``, then for l = L ... 1 ``dL/dW_l = a_{l-1}ᵀ δ_l``, ``dL/db_l = Σ_rows δ_l`` and
        ``δ_{l-1} = (δ_l W_lᵀ) ⊙ σ'_{l-1}(z_{l-1})``.

        Parameters
        ----------
        y : array-like of shape (n, d_L), or (n,)
            Targets of the rows of `forward`'s X; see the Notes of `MLP`.
        sample_weight : array-like of shape (n,), optional
            Weight of each sample; equal by default.
        lr : float, optional
            With it, one step of plain gradient descent follows: ``W_l ← W_l - lr · dL/dW_l``,
            ``b_l ← b_l - lr · dL/db_l``.

        Returns
        -------
        float
            The loss, before that step.

        Raises
        ------
        RuntimeError
            Without a `forward` since the last `step` or `fit`.
        ValueError, TypeError
            If y or sample_weight does not fit, or lr is not a finite number >= 0; the gradients stay as they were.
        """
        return self._model.backward(y, sample_weight, None if lr is None else SGD(lr).lr)

    def pullback(self, grad_output: npt.ArrayLike) -> FloatArray:
        """Run the backward pass for a loss of your own, from its gradient with respect to the outputs.

        Starts from the last `forward` and fills the gradients as `backward` does, with
        ``δ_L = grad_output ⊙ σ'_L(z_L)``, or for a softmax output its whole Jacobian in place of σ'.

        Parameters
        ----------
        grad_output : array-like of shape (n, d_L)
            dL/da_L.

        Returns
        -------
        ndarray of shape (n, d_0)
            ``dL/dX = δ_1 W_1ᵀ``.

        Raises
        ------
        RuntimeError
            Without a `forward` since the last `step` or `fit`.
        ValueError, TypeError
            If grad_output does not fit; the gradients stay as they were.
        """
        return self._model.pullback(grad_output)

    def predict(self, X: npt.ArrayLike) -> FloatArray:
        """Compute the outputs a_L for the rows of X, keeping nothing; safe to call from several threads at once.

        Parameters
        ----------
        X : array-like of shape (n, d_0)
            Samples as rows, finite.

        Returns
        -------
        ndarray of shape (n, d_L)
            a_L: probabilities with a sigmoid or softmax output.

        Raises
        ------
        ValueError, TypeError
            As `forward`.
        """
        return self._model.predict(X)

    def evaluate(self, X: npt.ArrayLike, y: npt.ArrayLike, sample_weight: npt.ArrayLike | None = None) -> float:
        """Compute the loss on samples, keeping nothing.

        Parameters
        ----------
        X : array-like of shape (n, d_0)
            Samples as rows, finite.
        y : array-like of shape (n, d_L), or (n,)
            Their targets; see the Notes of `MLP`.
        sample_weight : array-like of shape (n,), optional
            Weight of each sample; equal by default.

        Returns
        -------
        float

        Raises
        ------
        ValueError, TypeError
            If an argument does not fit.
        """
        return self._model.evaluate(X, y, sample_weight)

    def step(
        self, X: npt.ArrayLike, y: npt.ArrayLike, optimizer: Optimizer, sample_weight: npt.ArrayLike | None = None
    ) -> float:
        """Take one training step on one batch: forward, backward and update, fused.

        The same as `forward`, `backward` and ``optimizer.step(mlp)``, but nothing is kept to look at, and a step whose
        loss or gradient is not finite is not taken.

        Parameters
        ----------
        X : array-like of shape (n, d_0)
            Samples as rows, finite.
        y : array-like of shape (n, d_L), or (n,)
            Their targets; see the Notes of `MLP`.
        optimizer : Optimizer
            `SGD`, `RMSprop`, `Adam` or `AdamW`. It belongs to the first network that it steps.
        sample_weight : array-like of shape (n,), optional
            Weight of each sample; equal by default.

        Returns
        -------
        float
            The loss before the update.

        Raises
        ------
        ValueError, TypeError
            If an argument does not fit, or if the optimizer belongs to another network.
        NonFiniteError
            If the loss or the gradient is not finite, with the layer, tensor and row where it began; a
            FloatingPointError. Nothing is updated.
        """
        if not isinstance(optimizer, Optimizer):
            raise TypeError(
                f"optimizer is {shown(optimizer)}; expected one such as Adam(lr=1e-3), made before the first step"
            )
        return self._model.step(X, y, optimizer, sample_weight)

    fit = fitting.fit

    def gradient_flow(self) -> GradientFlowReport:
        """Report how the gradient of the last `backward` or `pullback` runs through the layers.

        Returns
        -------
        GradientFlowReport
            Mean and largest absolute gradient, norm and share of zeros of each parameter tensor, NaN and Inf counted;
            for each layer the share of saturated or dead units, mean and variance of its outputs and the norm of δ_l;
            and a diagnosis in words. ``print`` gives the table.

        Raises
        ------
        RuntimeError
            Without a `backward` or `pullback` since the last `forward`, `step` or `fit`.
        """
        activations = [activation.name for activation in self._model.activations]
        return gradient_flow.report(self._model.gradient_flow(), activations, self.loss.name, self.layer_sizes[-1])

    input_gradient = derivatives.input_gradient
    jacobian = derivatives.jacobian
    jvp = derivatives.jvp
    per_sample_gradients = derivatives.per_sample_gradients
    per_sample_gradient_norms = derivatives.per_sample_gradient_norms
    hvp = derivatives.hvp
    check_gradients = gradient_check.check_gradients

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the network to a safetensors file, whole or not at all.

        The tensors are those of `named_parameters`, weights as (d_in, d_out); architecture, dtype, seed, epochs
        trained and library version are JSON in the header. The file appears under its name only once it is complete
        and on the disk. Needs the extra "io".

        Parameters
        ----------
        path : str or path-like
            The file; an existing one is replaced.

        Raises
        ------
        OSError
            If it cannot be written; an existing file stays as it was.
        ValueError
            If a parameter is NaN or infinite.
        ImportError
            Without the package safetensors.
        """
        serialization.save(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a network that `save` wrote. Runs no code from the file. Needs the extra "io".

        Parameters
        ----------
        path : str or path-like
            The file.

        Returns
        -------
        MLP
            With the architecture, parameters, dtype, seed and count of epochs of the saved one. What drops out in steps
            and passes outside of `fit` begins anew.

        Raises
        ------
        ValueError
            If it is not such a file, or if names, shapes or dtypes in it do not belong together; the message says
            which.
        OSError
            If it cannot be read.
        ImportError
            Without the package safetensors.
        """
        return serialization.load(cls, path)

    @classmethod
    def from_torch(cls, module: TorchModule, *, loss: LossLike | None = None, seed: int | None = None) -> Self:
        """Make a network that computes what a PyTorch module does. Needs the extra "torch".

        Parameters
        ----------
        module : torch.nn.Sequential
            Of Linear (with bias), Identity, Sigmoid, Tanh, ReLU, LeakyReLU, ELU, SELU, GELU, SiLU, Softplus, and at
            the end Softmax or the Exp that `to_torch` makes, with Dropout behind hidden layers; Sequentials in it too.
            Float32 or float64. Its parameters are copied, W_l being the transpose of PyTorch's weight.
        loss : str or loss, optional
            To train on, as `MLP` takes it. By default "bce" after a last Sigmoid, "cross_entropy" after a Softmax,
            "poisson" after an Exp, "mse" otherwise. A module that ends in logits goes with "bce" or "cross_entropy".
        seed : int, optional
            Of the order of the samples in `fit` and of what drops out.

        Returns
        -------
        MLP

        Raises
        ------
        ValueError
            For any other module; the message names it.
        TypeError
            If it is not a module.
        ImportError
            Without the package torch.
        """
        from chainrule import torch

        return torch.from_torch(cls, module, loss, seed)

    def to_torch(self) -> TorchSequential:
        """Return a PyTorch module that computes what `predict` does. Needs the extra "torch".

        Returns
        -------
        torch.nn.Sequential
            Of Linear, activation and Dropout modules, without any for "identity"; its parameters are copies. As every
            new module it is in training mode: `eval()` it where there is dropout.

        Raises
        ------
        ImportError
            Without the package torch.
        """
        from chainrule import torch

        module: TorchSequential = torch.to_torch(self)
        return module

    @classmethod
    def from_onnx(cls, path: str | os.PathLike[str], *, loss: LossLike | None = None, seed: int | None = None) -> Self:
        """Read a network from an ONNX model. Needs the extra "onnx".

        Parameters
        ----------
        path : str or path-like
            The file: a chain of linear layers (Gemm, or MatMul and Add) and activations, in the forms that the
            exporters of PyTorch, skl2onnx and this library write. Class labels beside the probabilities are left out.
            Data in other files is not followed.
        loss : str or loss, optional
            To train on, as in `from_torch`.
        seed : int, optional
            Of the order of the samples in `fit` and of what drops out.

        Returns
        -------
        MLP

        Raises
        ------
        ValueError
            If it is not such a model; the message names the node.
        OSError
            If it cannot be read.
        ImportError
            Without the package onnx.
        """
        from chainrule import onnx

        return onnx.from_onnx(cls, path, loss, seed)

    def to_onnx(self, path: str | os.PathLike[str]) -> None:
        """Write an ONNX model that computes what `predict` does, whole or not at all. Needs the extra "onnx".

        The input is "X", (n, d_0), the output "output", (n, d_L), for any n, in the network's dtype. Opset 20, IR 9.
        Onnxruntime has leaky_relu, elu, selu, gelu and softplus in float32 alone, and ONNX the parameters of
        leaky_relu, elu and selu, which changes what a float64 network computes by about 1e-8.

        Parameters
        ----------
        path : str or path-like
            The file; an existing one is replaced.

        Raises
        ------
        OSError
            If it cannot be written; an existing file stays as it was.
        ImportError
            Without the package onnx.
        """
        from chainrule import onnx

        onnx.to_onnx(self, path)

    def export_c(self, path: str | os.PathLike[str], *, train: bool = False) -> Footprint:
        """Write a self-contained C99 header that computes what `predict` does, whole or not at all.

        For a file model.h: ``void model_predict(const float *x, float *output)``, for one sample. With `train` also a
        ``model_state``, a buffer that the caller owns, ``model_start(&state)``, ``model_forward(&state, x)`` and
        ``float model_step(&state, x, y, lr)``: one step of plain gradient descent on one sample, as
        ``mlp.step(x, y, cr.SGD(lr))``, that returns the loss before it. ``y`` has d_L numbers, for cross_entropy
        probabilities. No heap, no library but math.h; float64 networks are double.

        Parameters
        ----------
        path : str or path-like
            The file; an existing one is replaced. Its name without the suffix begins all names in it.
        train : bool, default False
            Whether it can be trained there.

        Returns
        -------
        Footprint
            Bytes of flash and RAM; ``print`` gives the text.

        Raises
        ------
        ValueError
            If that name is no C identifier, a parameter is not finite, or a network with dropout is to be trained.
        OSError
            If it cannot be written; an existing file stays as it was.
        """
        return c_export.export(self, path, train)

    def copy(self) -> Self:
        """Return an independent network with the same architecture, parameters, seed and count of epochs.

        Optimizers stay with the original.

        Returns
        -------
        MLP
        """
        twin = type(self).__new__(type(self))
        twin.__dict__.update(self.__dict__)
        twin._model = self._model.copy()
        return twin

    def __copy__(self) -> Self:
        return self.copy()

    def __getstate__(self) -> dict[str, Any]:
        others = {name: value for name, value in self.__dict__.items() if name not in ("_model", "_init")}
        return {
            **others,
            "_format": serialization.PICKLE_VERSION,
            "_description": serialization.describe(self),
            "_parameters": self.parameters.copy(),
            "_rows_drawn": self._model.rows_drawn,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        serialization.check_format("the pickled MLP", state.pop("_format", None), serialization.PICKLE_VERSION)
        description, parameters = state.pop("_description"), state.pop("_parameters")
        MLP.__init__(self, **serialization.arguments(description))
        self.parameters[:] = parameters
        self._model.epochs_trained = description["epochs_trained"]
        self._model.rows_drawn = state.pop("_rows_drawn", 0)
        self.__dict__.update(state)

    def __repr__(self) -> str:
        hidden = [activations.text(activation) for activation in self.hidden_activations]
        parts = ["-".join(map(str, self.layer_sizes))]
        if hidden:
            same = len(set(hidden)) == 1
            parts.append(f"hidden_activation={hidden[0] if same else '[' + ', '.join(hidden) + ']'}")
        parts.append(f"output_activation={activations.text(self.output_activation)}")
        parts.append(f"loss={losses.text(self.loss)}")
        if any(self.dropout):
            shares = [f"{share:.16g}" for share in self.dropout]
            parts.append(f"dropout={shares[0] if len(set(shares)) == 1 else '[' + ', '.join(shares) + ']'}")
        parts.append(f"dtype={self.dtype}")
        parts.append(f"{self.n_parameters:,} parameters")
        return f"{type(self).__name__}({', '.join(parts)})"

    def _repr_html_(self) -> str:
        rows = [
            (f"layers.{i}", f"{W.shape[0]} × {W.shape[1]}", activation.name, f"{W.size + b.size:,}")
            for i, (W, b, activation) in enumerate(zip(self.weights, self.biases, self._model.activations, strict=True))
        ]
        total = ("total", f"loss {self.loss.name}", str(self.dtype), f"{self.n_parameters:,}")
        return Table(("layer", "shape", "activation", "parameters"), [*rows, total])._repr_html_()


def _named(weights: list[FloatArray], biases: list[FloatArray]) -> Iterator[tuple[str, FloatArray]]:
    tensors = [tensor for layer in zip(weights, biases, strict=True) for tensor in layer]
    return zip(parameter_names(len(weights)), tensors, strict=True)


def _is_iterable(given: object) -> TypeGuard[Iterable[object]]:
    return isinstance(given, Iterable) and getattr(given, "ndim", 1) > 0  # as arrays without a dimension are not


def _as_layer_sizes(given: object) -> list[int]:
    expected = "expected a sequence of at least two integers >= 1, such as [2, 4, 1]"
    if isinstance(given, (str, bytes, Set, Mapping)) or not _is_iterable(given):
        raise TypeError(f"layer_sizes is {shown(given)}; {expected}")
    sizes = [integer(f"layer_sizes[{i}]", size, 1) for i, size in enumerate(given)]
    if len(sizes) < 2:
        raise ValueError(f"layer_sizes has {len(sizes)} entries; {expected}")
    return sizes


def _as_dropout(given: object, layers: int) -> list[float]:
    each = list(given) if _is_iterable(given) and not isinstance(given, str) else None
    numbers = [real("dropout", share) for share in ([given] if each is None else each)]
    for number in numbers:
        if not 0 <= number < 1:
            raise ValueError(f"dropout is {shown(number)}; expected a number in [0, 1)")
    if each is None:
        return numbers * layers
    if len(numbers) != layers:
        raise ValueError(f"dropout has {len(numbers)} entries; expected {layers}, one per hidden layer")
    return numbers


def _check_addressable(sizes: list[int], itemsize: int) -> None:
    parameters = sum((d_in + 1) * d_out for d_in, d_out in pairwise(sizes))
    if parameters * itemsize > sys.maxsize:
        raise MemoryError("layer_sizes asks for more parameters than any memory holds")


def _as_dtype_name(given: npt.DTypeLike) -> str:
    try:
        dtype = None if given is None else np.dtype(given)
    except TypeError:
        if isinstance(given, str):
            known_name("dtype", given, tuple(MODELS))
        dtype = None
    if dtype is None:
        raise TypeError(f"dtype is {shown(given)}; expected float32 or float64")
    if not dtype.isnative or dtype.name not in MODELS:
        raise ValueError(f"dtype is {dtype}; expected float32 or float64")
    return str(dtype.name)
