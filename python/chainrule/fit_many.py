"""Many networks trained side by side, each on one thread."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from chainrule import _core
from chainrule._arguments import array, boolean, known_name, shown
from chainrule._extras import progress_bar
from chainrule.history import History
from chainrule.mlp import MLP
from chainrule.non_finite import NON_FINITE, NonFinite, NonFiniteError
from chainrule.optimizers import Optimizer, OptimizerLike
from chainrule.schedules import ScheduleLike
from chainrule.training import Validation, fit_settings


def fit_many(
    mlps: Sequence[MLP | Mapping[str, Any]],
    X: npt.ArrayLike,
    y: npt.ArrayLike,
    *,
    epochs: int | Sequence[int],
    batch_size: int | Sequence[int] = 32,
    optimizer: OptimizerLike | Sequence[OptimizerLike] = "adam",
    shuffle: bool | Sequence[bool] = True,
    sample_weight: npt.ArrayLike | None = None,
    rows: Sequence[npt.ArrayLike | None] | None = None,
    validation: Validation | list[Validation | None] | None = None,
    validation_rows: Sequence[npt.ArrayLike | None] | None = None,
    patience: int | Sequence[int | None] | None = None,
    schedule: ScheduleLike | Sequence[ScheduleLike | None] | None = None,
    clip_norm: float | Sequence[float | None] | None = None,
    micro_batch: int | Sequence[int | None] | None = None,
    on_nonfinite: str | Sequence[str] = "raise",
    progress: bool = False,
) -> list[History]:
    """Train many networks at once: as many at a time as there are threads, each on one thread.

    Every network comes out as from a `MLP.fit` of its own with the same settings, to the bit: an ensemble, the folds
    of a cross-validation, or the settings of a search. Networks of any sizes and dtypes go together. Each setting is
    one for all networks, or a sequence of one for each (of `validation` a list); they mean what they mean in `MLP.fit`.

    Parameters
    ----------
    mlps : sequence of MLP or dict
        The networks, each with its own seed, architecture and loss, trained in place. A dictionary is the arguments of
        `MLP` for a new one, which the History then has as `mlp`: ``{"layer_sizes": [8, 16, 4], "seed": 1}``.
    X : array-like of shape (N, d_0)
        Samples as rows, finite.
    y : array-like of shape (N, d_L), or (N,)
        Their targets; see the Notes of `MLP`.
    epochs : int, or sequence of int
        How often to go through all samples.
    batch_size : int, or sequence of int, default 32
        Samples a step.
    optimizer : str or Optimizer, or sequence of them, default "adam"
        One object is a pattern: each network gets a new one with its settings. Those of a sequence are used themselves.
    shuffle : bool, or sequence of bool, default True
        Whether each epoch takes the samples in a new order.
    sample_weight : array-like of shape (N,), optional
        Weight of each sample, for all networks.
    rows : sequence of (array-like of int or bool, or None), optional
        For each network, the rows of X and y that it is trained on: the training part of a fold, or a bootstrap sample,
        where rows may come more than once; or (N,) truth values. By default, and for None, all.
    validation : tuple (X, y) or (X, y, sample_weight), or list of them, optional
        Samples whose loss is computed after each epoch, and which are not trained on.
    validation_rows : sequence of (array-like of int or bool, or None), optional
        In place of `validation`: for each network, the rows of X and y that are its validation samples.
    patience : int, or sequence of (int or None), optional
        Stop a network after that many epochs in a row without a better validation loss (training loss without
        validation); it then has the parameters of its best epoch.
    schedule : str or schedule, or sequence of (them or None), optional
        How the learning rate changes.
    clip_norm : float, or sequence of (float or None), optional
        Where the norm of a step's whole gradient exceeds it, scale the gradient down to that norm.
    micro_batch : int, or sequence of (int or None), optional
        Rows that go through a network at a time, at most.
    on_nonfinite : {"raise", "stop", "ignore"}, or sequence of them, default "raise"
        What to do about a step whose loss or gradient is not finite. With "stop" and "ignore" the History of that
        network tells, and those of the others are not lost.
    progress : bool, default False
        Whether to show a progress bar over the epochs of all networks on the standard error stream.

    Returns
    -------
    list of History
        One for each network.

    Raises
    ------
    ValueError, TypeError
        If an argument does not fit; the message names the network by its place in `mlps`. Nothing is trained.
    NonFiniteError
        With "raise", if the loss or the gradient of a step of some network is not finite; a FloatingPointError. The
        message names the first such network, and the others are trained to their ends.
    KeyboardInterrupt
        On Ctrl-C; the parameters are those after each network's last whole step.

    Examples
    --------
    >>> import numpy as np, chainrule as cr
    >>> X = np.linspace(-1, 1, 200)[:, None]
    >>> mlps = [cr.MLP([1, 16, 1], seed=seed) for seed in range(8)]
    >>> histories = cr.fit_many(mlps, X, np.sin(3 * X), epochs=50, optimizer=cr.Adam(lr=0.01))
    >>> predictions = np.stack([mlp.predict(X) for mlp in mlps])
    >>> mean, std = predictions.mean(axis=0), predictions.std(axis=0)
    """
    given = _as_list(mlps)
    networks = _as_mlps(given)
    n = len(networks)
    if validation is not None and validation_rows is not None:
        raise ValueError("validation and validation_rows are both given; expected one of them")
    settings = {
        "epochs": _each("epochs", epochs, n),
        "batch_size": _each("batch_size", batch_size, n),
        "optimizer": _optimizers(optimizer, n),
        "shuffle": _each("shuffle", shuffle, n),
        "validation": _each("validation", validation, n),
        "patience": _each("patience", patience, n),
        "schedule": _each("schedule", schedule, n),
        "clip_norm": _each("clip_norm", clip_norm, n),
        "micro_batch": _each("micro_batch", micro_batch, n),
    }
    left_out = [known_name("on_nonfinite", one, NON_FINITE) for one in _each("on_nonfinite", on_nonfinite, n)]
    samples = _Samples(X, y)
    trained, held_out = samples.rows("rows", rows, n), samples.rows("validation_rows", validation_rows, n)
    progress = boolean("progress", progress)
    all_epochs = 0
    histories: list[History] = []
    at_a_time = []
    with closing(_core.FitQueue()) as queue:
        for k, mlp in enumerate(networks):
            with _naming(k):
                own = fit_settings(
                    sample_weight=sample_weight, **{name: values[k] for name, values in settings.items()}
                )
                all_epochs += own["epochs"]
                at_a_time.append(own["micro_batch"])
                X_k, y_k = samples.of(mlp)
                own["validation"] = samples.held_out(own["validation"], mlp)
                mlp._model.fit(
                    X_k,
                    y_k,
                    on_epoch=None,
                    rows=trained[k],
                    validation_rows=held_out[k],
                    on_nonfinite=left_out[k],
                    queue=queue,
                    **own,
                )
        _run(queue, all_epochs, progress)
        for k in range(n):
            with _naming(k), _of_rows(trained[k]):
                histories.append(History.of(queue.record(k), micro_batch=at_a_time[k]))
            if (where := histories[k].non_finite) is not None:
                histories[k].non_finite = _among_all(where, trained[k])
            if isinstance(given[k], Mapping):
                histories[k].mlp = networks[k]
    return histories


def _as_list(given: object) -> list[Any]:
    if not isinstance(given, Iterable) or isinstance(given, Mapping):
        raise TypeError(f"mlps is {shown(given)}; expected a sequence of MLP")
    mlps = list(given)
    if not mlps:
        raise ValueError("mlps is empty; expected at least one MLP")
    return mlps


def _as_mlps(given: list[Any]) -> list[MLP]:
    mlps = []
    for k, one in enumerate(given):
        with _naming(k):
            mlps.append(MLP(**one) if isinstance(one, Mapping) else one)
    places: dict[int, int] = {}
    for k, mlp in enumerate(mlps):
        if not isinstance(mlp, MLP):
            raise TypeError(f"mlps[{k}] is {shown(mlp)}; expected an MLP, or a dictionary with the arguments for one")
        first = places.setdefault(id(mlp), k)
        if first < k:
            raise ValueError(f"mlps[{k}] is the same network as mlps[{first}]; expected different ones (see MLP.copy)")
    return mlps


def _each(argument: str, given: Any, n: int) -> list[Any]:
    """Return n values: those of a sequence, or one for all. A tuple may be one validation set."""
    if isinstance(given, np.ndarray) and given.ndim == 1:
        given = given.tolist()
    if isinstance(given, str) or not isinstance(given, list if argument == "validation" else Sequence):
        return [given] * n
    if len(given) != n:
        raise ValueError(f"{argument} has {len(given)} entries; mlps has {n}")
    return list(given)


def _optimizers(given: Any, n: int) -> list[Any]:
    if not isinstance(given, Optimizer):
        return _each("optimizer", given, n)
    pattern = copy.copy(given)
    pattern.reset()
    return [copy.copy(pattern) for _ in range(n)]


class _Samples:
    """X and y. What the core would copy for each network is converted once for all networks of one dtype."""

    def __init__(self, X: npt.ArrayLike, y: npt.ArrayLike) -> None:
        for name, given in (("X", X), ("y", y)):
            if given is None:
                raise TypeError(f"{name} is None; expected real numbers")
        self._X: Any = X
        if not hasattr(X, "tocsr"):
            self._X = array("X", X)
        if self._X.ndim == 0:
            raise ValueError(f"X is {shown(X)}; expected two dimensions, (n, inputs)")
        self._y: Any = array("y", y)
        self._converted: dict[tuple[int, np.dtype[Any]], Any] = {}

    def of(self, mlp: MLP) -> tuple[Any, Any]:
        return self._once(self._X, mlp), self._targets(self._y, mlp)

    def held_out(self, validation: tuple[Any, ...] | None, mlp: MLP) -> tuple[Any, ...] | None:
        if validation is None:
            return None
        X, y, *weight = validation
        return self._once(X, mlp), self._targets(y, mlp), *weight

    def _targets(self, y: Any, mlp: MLP) -> Any:
        """Leave one column to the core: it may be class labels."""
        return self._once(y, mlp) if getattr(y, "ndim", 0) == 2 and y.shape[1] > 1 else y

    def _once(self, given: Any, mlp: MLP) -> Any:
        """Return an array in the network's dtype and in C order; as it is where the core would not copy it."""
        sparse, dtype = hasattr(given, "tocsr"), mlp.dtype
        if not (sparse or isinstance(given, np.ndarray)) or given.dtype.kind not in "fiub":
            return given
        if not sparse and mlp._model.uses_in_place(given):
            return given
        key = id(given), dtype
        if key not in self._converted:
            # What is too large for the dtype becomes infinity, which is refused later with its place.
            with np.errstate(over="ignore"):
                self._converted[key] = (
                    given.tocsr().astype(dtype, copy=False) if sparse else given.astype(dtype, order="C", copy=False)
                )
        return self._converted[key]

    def rows(self, argument: str, given: Any, n: int) -> list[npt.NDArray[np.int64] | None]:
        """Return for each network the checked numbers of its rows, or None for all."""
        if given is None:
            return [None] * n
        if hasattr(self._X, "tocsr"):
            raise TypeError(f"{argument} is given and X is sparse; expected a dense X")
        if not isinstance(given, Iterable) or (isinstance(given, np.ndarray) and given.ndim != 2):
            raise TypeError(f"{argument} is {shown(given)}; expected a list with the rows of each network")
        return [
            None if one is None else self._checked(f"{argument}[{k}]", one)
            for k, one in enumerate(_each(argument, list(given), n))
        ]

    def _checked(self, argument: str, given: npt.ArrayLike) -> npt.NDArray[np.int64]:
        rows, n_rows = array(argument, given), len(self._X)
        if rows.dtype == bool and rows.shape == (n_rows,):
            rows = np.flatnonzero(rows)
        if not rows.size:
            raise ValueError(f"{argument} is empty; expected at least one row")
        if rows.ndim != 1 or rows.dtype.kind not in "iu":
            raise TypeError(
                f"{argument} has shape {rows.shape} and dtype {rows.dtype}; expected integers in shape (n,), or truth "
                f"values in shape ({n_rows},)"
            )
        if rows.min() < 0 or rows.max() >= n_rows:
            raise ValueError(f"{argument} holds {rows.min()} ... {rows.max()}; expected rows from 0 to {n_rows - 1}")
        return rows.astype(np.int64)


@contextmanager
def _naming(k: int) -> Iterator[None]:
    """Put the network's place in front of the message of an error."""
    try:
        yield
    except (ValueError, TypeError, ArithmeticError, MemoryError) as error:
        error.args = (f"mlps[{k}]: {error}", *error.args[1:])
        raise


def _among_all(where: NonFinite, rows: npt.NDArray[np.int64] | None) -> NonFinite:
    return where if rows is None or not where.is_of_sample else replace(where, row=int(rows[where.row]))


@contextmanager
def _of_rows(rows: npt.NDArray[np.int64] | None) -> Iterator[None]:
    """Tell the row of the samples that were given, where a network was trained on some of them."""
    try:
        yield
    except NonFiniteError as error:
        raise NonFiniteError(_among_all(error.where, rows)) from None


def _run(queue: _core.FitQueue, epochs: int, progress: bool) -> None:
    if not progress:
        queue.run()
        return
    with progress_bar(epochs) as bar:
        queue.run(lambda done: bar.update(done - bar.n))
