"""What a call from Python costs, and what backward and step cost against forward.

1. One `mlp.step(X, y, optimizer)` on 2-4-1 against the same step inside `fit`: the difference is the price of the call.
2. One `mlp.predict(row)` on 8-64-64-4.
3. forward, backward and step of every net of the grid, and their ratios in alternating rounds; and how long a gradient
   by one-sided differences would take, P + 1 forward passes for P parameters.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from tqdm import tqdm

from harness import arguments, machine, timing
from harness.net import GRID, Net
from harness.results import Spread

LR = 1e-6

Times = dict[str, list[float]]


def repeated(call: Callable[[], object]) -> timing.Steps:
    """Calling it so many times."""

    def steps(count: int) -> None:
        for _ in range(count):
            call()

    return steps


def alternate(runs: dict[str, timing.Steps], rounds: int, seconds: float) -> Times:
    """µs of each, by rounds."""
    chunks = {name: timing.warm_up(steps, seconds) for name, steps in runs.items()}
    times: Times = {name: [] for name in runs}
    for _ in range(rounds):
        for name, steps in runs.items():
            times[name].append(timing.median_microseconds(steps, chunks[name], seconds))
    return times


def call_overhead(rounds: int, seconds: float) -> None:
    """Print parts 1 and 2."""
    from workers.chainrule import Fit, Step

    tiny, small = GRID[0], GRID[1]
    step, fit, predictor = Step(tiny, LR, 1), Fit(tiny, LR, 1), Step(small, LR, 1)
    row = np.ascontiguousarray(predictor.X[:1])
    times = alternate(
        {"step": step.steps, "fit": fit.steps, "predict": repeated(lambda: predictor.mlp.predict(row))}, rounds, seconds
    )
    price = Spread.of(s - f for s, f in zip(times["step"], times["fit"], strict=True))
    print(f"{tiny.label}, batch {tiny.batch}, one thread, µs: median [least–greatest] of {rounds} rounds")
    print(f"  mlp.step from Python       {Spread.of(times['step']):.3f}")
    print(f"  a step inside fit          {Spread.of(times['fit']):.3f}")
    print(f"  the price of the call      {price:.3f}")
    print(f"{small.label}, one row, one thread")
    print(f"  mlp.predict from Python    {Spread.of(times['predict']):.3f}")


def passes(net: Net, threads: int, rounds: int, seconds: float) -> str:
    """One line of part 3."""
    from workers.chainrule import Step

    worker = Step(net, LR, threads)
    mlp, X, y = worker.mlp, worker.X, worker.y
    # Backward can be repeated: it reads what the last forward left.
    mlp.forward(X)
    runs = {
        "forward": repeated(lambda: mlp.forward(X)),
        "backward": repeated(lambda: mlp.backward(y)),
        "step": worker.steps,
    }
    times = alternate(runs, rounds, seconds)
    backward = Spread.of(b / f for b, f in zip(times["backward"], times["forward"], strict=True))
    step = Spread.of(s / f for s, f in zip(times["step"], times["forward"], strict=True))
    microseconds = "".join(f"{Spread.of(values).median:13,.2f}" for values in times.values())
    differences = (net.n_parameters + 1) * Spread.of(times["forward"]).median * 1e-6
    return f"  {net.label:18}{microseconds}   {backward:.2f}   {step:.2f}   {differences:,.3g} s"


def main() -> None:
    """Run the program."""
    parser = arguments.parser(__doc__)
    parser.add_argument("--threads", type=int, default=len(machine.available_cores()), help="for part 3")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.1, help="time of one measurement in one round")
    arguments.add_nets(parser)
    options = parser.parse_args()
    nets = arguments.chosen_nets(parser, options)
    arguments.check_threads(parser, [options.threads])

    machine.warn_if_busy()
    call_overhead(options.rounds, options.seconds)
    print(f"passes, {options.threads} threads, µs, and ratios: median [least–greatest]")
    columns = "backward/forward   step/forward   gradient by P + 1 forward passes"
    print(f"  {'':18}{'forward':>13}{'backward':>13}{'step':>13}   {columns}")
    for net in tqdm(nets, leave=False):
        tqdm.write(passes(net, options.threads, options.rounds, options.seconds))


if __name__ == "__main__":
    main()
