"""Peak resident memory of a training step: of a 100-million-parameter net (4096×7, SGD, batch 128), or of any other.

Each peer builds the net with its own initialiser in a process of its own and takes two steps, the second because
what the first allocated is then in use. Beside it, the bytes that a step cannot do without:

    4·(s·P + g·P + n·(2·Σ d_l − d_0 + 2·d_L))

P parameters, each with s numbers (1 for SGD, 3 for Adam: itself and two moments), a gradient if it is kept (g = 1) or
not (g = 0), and for each of the n rows that go through the network at a time, all of the batch or the part that
`rows_at_a_time` makes of a large one, every activation a_0 … a_L and delta δ_1 … δ_L, z_L and its targets.

--plot draws the peak against batch size and depth in place of that.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import arguments
from harness.net import GRID, Net
from harness.peer_process import PeerError, PeerProcess
from workers import OPTIONAL, USUAL

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LR = 1e-3
STEPS = 2
MEGABYTE = 1e6
BATCHES = [256, 1024, 4096, 16384, 65536]
DEPTHS, DEPTH_BATCH = [1, 2, 4, 8, 16, 32], 8192
LABELS = {"chainrule-fit": "chainrule, fit", "chainrule-micro": "chainrule, fit(micro_batch=256)", "pytorch": "PyTorch"}
# Okabe and Ito's colours, which the colour-blind tell apart.
STYLES: dict[str, dict[str, Any]] = {
    "chainrule-fit": {"color": "black", "marker": "o"},
    "chainrule-micro": {"color": "#0072B2", "marker": "s"},
    "pytorch": {"color": "#009E73", "marker": "^"},
}


def needed_bytes(net: Net, gradient: bool) -> int:
    """The formula."""
    per_parameter = (1 if net.optimizer == "sgd" else 3) + gradient
    return 4 * (
        per_parameter * net.n_parameters
        + net.batch * (2 * sum(net.layer_sizes) - net.layer_sizes[0] + 2 * net.layer_sizes[-1])
    )


def measured(name: str, net: Net, threads: int) -> tuple[float, float]:
    """Megabytes of a peer once it was imported, and at most."""
    with PeerProcess(name, net, threads, LR) as process:
        process.ask("start")
        answer = process.ask("memory", steps=STEPS)
    return answer["before"] / MEGABYTE, answer["peak"] / MEGABYTE


def table(net: Net, peers: list[str], threads: int) -> None:
    """Print one net."""
    print(f"{net.label} {net.optimizer}, batch {net.batch}: {net.n_parameters:,} parameters; 10⁶ bytes")
    for kept in (False, True):
        print(f"  formula, gradient {'kept' if kept else 'not kept':9}{needed_bytes(net, kept) / MEGABYTE:26,.1f}")
    print(f"  {'':16}{'imported':>12}{'peak':>12}{'peak − imported':>18}")
    for name in peers:
        try:
            before, peak = measured(name, net, threads)
        except PeerError as error:
            print(f"  left out: {name} ({error})")
            continue
        print(f"  {name:16}{before:12,.1f}{peak:12,.1f}{peak - before:18,.1f}")


def panel(axes: Axes, xs: list[int], nets: list[Net], peers: list[str], threads: int) -> None:
    """Draw, and print, the peaks of these nets."""
    for name in peers:
        peaks = []
        for net in nets:
            before, peak = measured(name, net, threads)
            peaks.append(peak - before)
        axes.plot(xs, peaks, label=LABELS.get(name, name), **STYLES.get(name, {"marker": "."}))
        print(f"  {name:16}" + "".join(f"{peak:10,.0f}" for peak in peaks))
    samples = [net.batch * (4 * net.layer_sizes[0] + 8) for net in nets]  # y is labels
    formula = [(needed_bytes(net, False) + more) / MEGABYTE for net, more in zip(nets, samples, strict=True)]
    axes.plot(
        xs, formula, ":", color="black", linewidth=1, label="the samples, and a step with all rows at a time by formula"
    )
    print(f"  {'formula':16}" + "".join(f"{value:10,.0f}" for value in formula))
    axes.set(xscale="log", yscale="log", ylabel="peak less imported, 10⁶ bytes")
    axes.set_xticks(xs, [f"{x:,}" for x in xs])
    axes.minorticks_off()
    axes.set_yticks([30, 100, 300, 1000, 3000], ["30", "100", "300", "1,000", "3,000"])
    axes.grid(linewidth=0.4, color="0.85")
    axes.spines[["top", "right"]].set_visible(False)


def draw(peers: list[str], threads: int, out: Path) -> None:
    """Peaks against batch size and against depth."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.6), layout="constrained", sharey=True)
    figure.suptitle(
        "Peak memory of a training step, 512 inputs, layers of 512, 10 classes; ReLU, Adam, fp32", fontsize=11
    )
    print(f"{net_of(4, 1).label}, batches {', '.join(map(str, BATCHES))}; 10⁶ bytes")
    panel(left, BATCHES, [net_of(4, n) for n in BATCHES], peers, threads)
    left.set(xlabel="batch size", title="Four weight layers")
    print(f"512 units a layer, batch {DEPTH_BATCH}, weight layers {', '.join(map(str, DEPTHS))}; 10⁶ bytes")
    panel(right, DEPTHS, [net_of(depth, DEPTH_BATCH) for depth in DEPTHS], peers, threads)
    right.set(xlabel="weight layers", ylabel="", title=f"Batch size {DEPTH_BATCH:,}")
    left.legend(fontsize=8, frameon=False)
    figure.savefig(out, dpi=110)


def net_of(depth: int, batch: int) -> Net:
    """With so many weight layers, for ten classes."""
    return Net((512,) * depth + (10,), "relu", "cross_entropy", "adam", batch)


def main() -> None:
    """Run the program."""
    parser = arguments.parser(__doc__)
    parser.add_argument("--peers", nargs="+", choices=USUAL + OPTIONAL, default=["pytorch"], metavar="PEER")
    parser.add_argument("--shape", default=GRID[-1].spec, metavar="SIZES:HIDDEN:LOSS:OPTIMIZER:BATCH")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--plot", type=Path, help="draw many nets into this file")
    options = parser.parse_args()
    arguments.check_threads(parser, [options.threads])
    try:
        net = Net.parse(options.shape)
    except ValueError as error:
        parser.error(str(error))
    if options.plot:
        draw(["chainrule-fit", "chainrule-micro", *options.peers], options.threads, options.plot)
    else:
        table(net, ["chainrule-step", "chainrule-micro", *options.peers], options.threads)


if __name__ == "__main__":
    main()
