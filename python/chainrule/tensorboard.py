"""A fit's course for TensorBoard."""

from __future__ import annotations

import os

from chainrule._arguments import file_path
from chainrule._extras import optional_package
from chainrule._types import Self
from chainrule.history import EpochReport


class TensorBoard:
    """A callback that writes TensorBoard event files: losses and learning rate, and the gradient flow if monitored.

    Use it in a ``with`` block, or `close` it. Needs the extra "tensorboard".

    Parameters
    ----------
    log_dir : str or path-like
        The folder; made if missing. One for each fit.

    Raises
    ------
    ImportError
        Without tensorboardX.
    OSError
        If the folder cannot be written.

    Examples
    --------
    ::

        with cr.TensorBoard("runs/first") as board:
            mlp.fit(X, y, epochs=10, callbacks=[board], monitor=cr.GradientFlow(every=10))
    """

    def __init__(self, log_dir: str | os.PathLike[str]) -> None:
        self._writer = optional_package("tensorboardX", "tensorboard").SummaryWriter(file_path("log_dir", log_dir))
        self._recorded = 0  # steps, when the last epoch was written

    def __call__(self, report: EpochReport) -> None:
        """Write one epoch; `MLP.fit` calls it."""
        figures = {"loss/training": report.loss, "loss/validation": report.validation_loss, "lr": report.lr}
        recorded = 0 if report.monitor is None else len(report.monitor._record)
        if report.monitor is not None and recorded != self._recorded:
            self._recorded = recorded
            flow = report.monitor.report()
            for parameter in flow.parameters[0::2]:
                figures[f"gradient_norm/{parameter.name}"] = parameter.norm
                figures[f"update_to_weight/{parameter.name}"] = parameter.update_ratio
            for layer in flow.layers:
                figures[f"saturated/{layer.name}"] = layer.saturated
                figures[f"dead/{layer.name}"] = layer.dead
        for name, value in figures.items():
            if value is not None:
                self._writer.add_scalar(name, value, report.epoch)
        self._writer.flush()

    def close(self) -> None:
        """Write what is left, and close the file."""
        self._writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
