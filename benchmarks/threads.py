"""Are more threads ever slower? time(2 threads) / time(1 thread) of a training step, in alternating rounds.

Sweeps the net of pytorch#144633 (10-w-w-10, mse, Adam), where PyTorch grows slow from width 45 to 46, over widths and
batches, and then the grid of step.py. Both numbers of threads run in one process, by `chainrule.num_threads(n)`.
"""

from __future__ import annotations

from functools import partial

from tqdm import tqdm

from harness import arguments, machine, timing
from harness.net import GRID, Net
from harness.results import Spread

WIDTHS = (8, 16, 32, 45, 46, 64, 100, 128, 256, 512)
BATCHES = (1, 4, 16, 64, 128, 256, 512)
LR = 1e-6


def ratio(net: Net, threads: int, rounds: int, seconds: float) -> tuple[Spread, float]:
    """time(threads) / time(1) by rounds, and the median µs on one thread."""
    import chainrule as cr

    from workers.chainrule import Fit

    worker = Fit(net, LR, threads)
    worker.load(net.initial_weights())

    def steps(threads: int, count: int) -> None:
        with cr.num_threads(threads):
            worker.steps(count)

    one, many = partial(steps, 1), partial(steps, threads)
    chunks = timing.warm_up(one, seconds), timing.warm_up(many, seconds)
    ones, ratios = [], []
    for _ in range(rounds):
        ones.append(timing.median_microseconds(one, chunks[0], seconds))
        ratios.append(timing.median_microseconds(many, chunks[1], seconds) / ones[-1])
    return Spread.of(ratios), Spread.of(ones).median


def main() -> None:
    """Run the program."""
    parser = arguments.parser(__doc__)
    parser.add_argument("--threads", type=int, default=2, help="compared with one")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.05, help="time of one side in one round")
    parser.add_argument("--limit", type=float, default=1.05, help="ratios above this are listed again at the end")
    parser.add_argument("--widths", type=int, nargs="+", default=list(WIDTHS))
    parser.add_argument("--batches", type=int, nargs="+", default=list(BATCHES))
    parser.add_argument("--no-grid", action="store_true", help="leave out the grid of step.py")
    options = parser.parse_args()
    arguments.check_threads(parser, [options.threads])

    machine.warn_if_busy()
    nets = [Net((10, w, w, 10), "identity", "mse", "adam", n) for w in options.widths for n in options.batches]
    nets += [] if options.no_grid else GRID
    print(f"time({options.threads}) / time(1), median [least–greatest] of {options.rounds} rounds")
    slower = []
    for net in tqdm(nets, leave=False):
        spread, microseconds = ratio(net, options.threads, options.rounds, options.seconds)
        line = f"  {net.label:18} batch {net.batch:5} {microseconds:13,.2f} µs on one   {spread:.3f}"
        tqdm.write(line)
        if spread.median > options.limit:
            slower.append(line)
    print(f"{len(slower)} of {len(nets)} above {options.limit}", *slower, sep="\n")


if __name__ == "__main__":
    main()
