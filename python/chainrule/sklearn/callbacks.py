"""scikit-learn's callback protocol, where the installed version has one (from 1.9 on)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

try:
    from sklearn.callback import CallbackSupportMixin
except ImportError:

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Stands in for scikit-learn's."""


if TYPE_CHECKING:
    from chainrule.sklearn.base import BaseMLP

__all__ = ["CallbackSupportMixin", "FitTask"]


class FitTask:
    """One task for the fit, and one below it for each epoch."""

    def __init__(self, estimator: BaseMLP, X: Any, y: Any, sample_weight: Any, epochs: int) -> None:
        self._estimator = estimator
        metadata = None if sample_weight is None else {"sample_weight": sample_weight}
        self._data = {"estimator": estimator, "X": X, "y": y, "metadata": metadata}
        self._epochs_left = epochs
        self._fit = estimator._init_callback_context(max_subtasks=epochs)
        self._fit.call_on_fit_task_begin(**self._data)
        self._epoch: Any = None
        self._next_epoch()

    def _next_epoch(self) -> None:
        self._epochs_left -= 1
        self._epoch = self._fit.subcontext(task_name="epoch") if self._epochs_left >= 0 else None
        if self._epoch is not None:
            self._epoch.call_on_fit_task_begin(**self._data, reconstruction_attributes=self._fitted)

    def _fitted(self) -> dict[str, Any]:
        return {"mlp_": self._estimator.mlp_.copy()}

    def epoch_done(self) -> bool:
        """Tell of an epoch, and say whether to stop."""
        stop = self._epoch.call_on_fit_task_end(**self._data, reconstruction_attributes=self._fitted)
        self._next_epoch()
        return bool(stop)

    def fit_done(self) -> None:
        """Tell of the end, and first of an epoch that has begun but was not run."""
        if self._epoch is not None:
            self._epoch.call_on_fit_task_end(estimator=self._estimator)
        self._fit.call_on_fit_task_end(**self._data, reconstruction_attributes=dict)
