"""Derivatives beside the gradient of the loss: of the outputs, of each sample's own loss, and second ones."""

from __future__ import annotations

import numpy.typing as npt

import chainrule
from chainrule._arguments import integer
from chainrule._types import FloatArray


def input_gradient(self: chainrule.MLP, X: npt.ArrayLike, output: int | None = None) -> FloatArray:
    """Differentiate one output with respect to the inputs, sample by sample: what each input does to it there.

    The gradient of the loss with respect to X is what `pullback` returns.

    Parameters
    ----------
    X : array-like of shape (n, d_0)
        Samples as rows, finite.
    output : int, optional
        Which output, from 0; a network with one output needs none.

    Returns
    -------
    ndarray of shape (n, d_0)
        ``da_L[i, output] / dX[i, :]``. What `forward` and `backward` kept stays as it was.

    Raises
    ------
    ValueError, TypeError
        If an argument does not fit, or if output is missing and there are several.
    """
    if output is not None:
        output = integer("output", output, 0, self.layer_sizes[-1] - 1)
    return self._model.input_gradient(X, output)


def jacobian(self: chainrule.MLP, X: npt.ArrayLike) -> FloatArray:
    """Differentiate every output with respect to every input, sample by sample.

    From the outputs back, or from the inputs forth where those are fewer.

    Parameters
    ----------
    X : array-like of shape (n, d_0)
        Samples as rows, finite.

    Returns
    -------
    ndarray of shape (n, d_L, d_0)
        ``da_L[i, o] / dX[i, j]``. What `forward` and `backward` kept stays as it was.

    Raises
    ------
    ValueError, TypeError
        As `forward`.
    """
    return self._model.jacobian(X)


def jvp(self: chainrule.MLP, X: npt.ArrayLike, V: npt.ArrayLike) -> FloatArray:
    """Differentiate the outputs along a direction for each sample, in one forward pass: Jacobian times vector.

    Parameters
    ----------
    X : array-like of shape (n, d_0)
        Samples as rows, finite.
    V : array-like of shape (n, d_0)
        Directions.

    Returns
    -------
    ndarray of shape (n, d_L)
        ``Σ_j da_L[i, o] / dX[i, j] · V[i, j]``. What `forward` and `backward` kept stays as it was.

    Raises
    ------
    ValueError, TypeError
        If X or V does not fit.
    """
    return self._model.jvp(X, V)


def per_sample_gradients(self: chainrule.MLP, X: npt.ArrayLike, y: npt.ArrayLike) -> FloatArray:
    """Compute the gradient of each sample's own loss; their mean is the gradient of the loss.

    Parameters
    ----------
    X : array-like of shape (n, d_0)
        Samples as rows, finite.
    y : array-like of shape (n, d_L), or (n,)
        Their targets; see the Notes of `MLP`.

    Returns
    -------
    ndarray of shape (n, n_parameters)
        A row per sample, laid out like `parameters`. What `forward` and `backward` kept stays as it was.

    Raises
    ------
    ValueError, TypeError
        If an argument does not fit.
    MemoryError
        If the result does not fit into memory; `per_sample_gradient_norms` does without it.
    """
    return self._model.per_sample_gradients(X, y)


def per_sample_gradient_norms(self: chainrule.MLP, X: npt.ArrayLike, y: npt.ArrayLike) -> FloatArray:
    """Compute the norm of the gradient of each sample's own loss, without those gradients.

    ``‖g_i‖² = Σ_l (|a_{l-1,i}|² + 1) |δ_{l,i}|²``: one backward pass is enough, in bounded memory.

    Parameters
    ----------
    X : array-like of shape (n, d_0)
        Samples as rows, finite.
    y : array-like of shape (n, d_L), or (n,)
        Their targets; see the Notes of `MLP`.

    Returns
    -------
    ndarray of shape (n,)
        What `forward` and `backward` kept stays as it was.

    Raises
    ------
    ValueError, TypeError
        If an argument does not fit.

    References
    ----------
    Goodfellow: Efficient per-example gradient computations. arXiv:1510.01799, 2015.
    """
    return self._model.per_sample_gradient_norms(X, y)


def hvp(
    self: chainrule.MLP,
    X: npt.ArrayLike,
    y: npt.ArrayLike,
    v: npt.ArrayLike,
    sample_weight: npt.ArrayLike | None = None,
) -> FloatArray:
    """Multiply the Hessian of the loss by a vector: exactly, without it, in the time of two to three gradients.

    That is eight products of matrices a layer, where a gradient takes three. Where an activation or loss has a
    kink, its second derivative counts as zero.

    Parameters
    ----------
    X : array-like of shape (n, d_0)
        Samples as rows, finite.
    y : array-like of shape (n, d_L), or (n,)
        Their targets; see the Notes of `MLP`.
    v : array-like of shape (n_parameters,)
        The vector, laid out like `parameters`.
    sample_weight : array-like of shape (n,), optional
        Weight of each sample; equal by default.

    Returns
    -------
    ndarray of shape (n_parameters,)
        ``d²L/dθ² v``, laid out likewise. What `forward` and `backward` kept stays as it was.

    Raises
    ------
    ValueError, TypeError
        If an argument does not fit.

    References
    ----------
    Pearlmutter: Fast exact multiplication by the Hessian. Neural Computation 6, 1994.
    """
    return self._model.hvp(X, y, v, sample_weight)
