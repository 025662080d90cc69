"""Peak resident memory of a training step of a 100-million-parameter net (4096×7, SGD, batch 128).

Each peer builds the net with its own initialiser in a process of its own and takes two steps, the second because
what the first allocated is then in use. Beside it, the bytes that a step cannot do without:

    4·(s·P + g·P + n·(2·Σ d_l − d_0))

P parameters, each with s numbers (1 for SGD, 3 for Adam: itself and two moments), a gradient if it is kept (g = 1) or
not (g = 0), and for each of the n rows of the batch every activation a_0 … a_L and delta δ_1 … δ_L.
"""

from __future__ import annotations

from harness import arguments
from harness.net import GRID, Net
from harness.peer_process import PeerError, PeerProcess
from workers import OPTIONAL, USUAL

LR = 1e-3
STEPS = 2
MEGABYTE = 1e6


def needed_bytes(net: Net, gradient: bool) -> int:
    """The formula."""
    per_parameter = (1 if net.optimizer == "sgd" else 3) + gradient
    return 4 * (per_parameter * net.n_parameters + net.batch * (2 * sum(net.layer_sizes) - net.layer_sizes[0]))


def main() -> None:
    """Run the program."""
    ours = "chainrule-step"
    parser = arguments.parser(__doc__)
    parser.add_argument("--peers", nargs="+", choices=USUAL + OPTIONAL, default=["pytorch"], metavar="PEER")
    parser.add_argument("--shape", default=GRID[-1].spec, metavar="SIZES:HIDDEN:LOSS:OPTIMIZER:BATCH")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    arguments.check_threads(parser, [options.threads])
    try:
        net = Net.parse(options.shape)
    except ValueError as error:
        parser.error(str(error))

    print(f"{net.label} {net.optimizer}, batch {net.batch}: {net.n_parameters:,} parameters; 10⁶ bytes")
    for kept in (False, True):
        print(f"  formula, gradient {'kept' if kept else 'not kept':9}{needed_bytes(net, kept) / MEGABYTE:26,.1f}")
    print(f"  {'':16}{'imported':>12}{'peak':>12}{'peak − imported':>18}")
    for name in (ours, *options.peers):
        with PeerProcess(name, net, options.threads, LR) as process:
            try:
                process.ask("start")
                answer = process.ask("memory", steps=STEPS)
            except PeerError as error:
                print(f"  left out: {name} ({error})")
                continue
        before, peak = answer["before"] / MEGABYTE, answer["peak"] / MEGABYTE
        print(f"  {name:16}{before:12,.1f}{peak:12,.1f}{peak - before:18,.1f}")


if __name__ == "__main__":
    main()
