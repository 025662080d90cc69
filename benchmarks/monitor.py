"""What recording the gradient flow of every step adds to a fit, by net and batch: alternating rounds."""

from __future__ import annotations

from time import perf_counter

import chainrule as cr
import numpy as np

from harness import arguments, machine
from harness.net import Net
from harness.results import Spread


def fit_seconds(net: Net, epochs: int, monitor: cr.GradientFlow | None) -> float:
    """Time of one fit, the batch as its data set."""
    X, y = net.data()
    mlp = cr.MLP(net.layer_sizes, hidden_activation=net.hidden, loss=net.loss, seed=0)
    start = perf_counter()
    mlp.fit(X, y, epochs=epochs, batch_size=net.batch, optimizer=cr.Adam(lr=1e-6), shuffle=False, monitor=monitor)
    return perf_counter() - start


def main() -> None:
    """Run the program."""
    parser = arguments.parser(__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.2, help="time of one fit")
    arguments.add_nets(parser)
    options = parser.parse_args()
    arguments.check_threads(parser, [options.threads])
    machine.warn_if_busy()
    cr.set_num_threads(options.threads)
    for net in arguments.chosen_nets(parser, options):
        epochs = max(2, int(20 * options.seconds / fit_seconds(net, 20, None)))
        ratios, kilobytes = [], 0.0
        for _ in range(options.rounds):
            plain = fit_seconds(net, epochs, None)
            flow = cr.GradientFlow()
            ratios.append(fit_seconds(net, epochs, flow) / plain)
            kilobytes = sum(np.asarray(rows).nbytes for rows in list(flow._rows().values())[:3]) / len(flow.steps) / 1e3
        print(f"{net.label:18} batch {net.batch:4}: {Spread.of(ratios):.3f} times as long, {kilobytes:.1f} kB a step")


if __name__ == "__main__":
    main()
