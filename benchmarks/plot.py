"""Draw what `step.py --json` wrote: how many times faster than each peer, and the share of the FMA peak."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from harness import arguments
from harness.results import NetResult, Spread

Value = Callable[[NetResult, str], Spread | None]
Write = Callable[[float], str]

OURS = "chainrule-fit"
# Okabe and Ito's colours, which the colour-blind tell apart, and hatches for print in grey.
STYLES: dict[str, dict[str, Any]] = {
    "chainrule-fit": {"color": "#000000"},
    "numpy": {"color": "#0072B2"},
    "scikit-learn": {"color": "#D55E00", "hatch": "//"},
    "pytorch": {"color": "#009E73", "hatch": "xx"},
    "pytorch-compile": {"color": "#CC79A7", "hatch": "\\\\"},
    "jax": {"color": "#56B4E9", "hatch": ".."},
    "jax-loop": {"color": "#F0E442", "hatch": "--"},
}


def ratio_text(value: float) -> str:
    """Short, and never rounded so far that 1.06 becomes 1.1."""
    return f"{value:.2f}" if value < 10 else f"{value:,.0f}"


def bars(axes: Axes, results: list[NetResult], names: list[str], value: Value, foot: float, write: Write) -> None:
    """Groups of bars that stand on (or hang from) `foot`, a group a net, each with its value written at its end."""
    width = 0.84 / len(names)
    for k, name in enumerate(names):
        found = [(i, value(result, name)) for i, result in enumerate(results) if name in result.names]
        found = [(i, v) for i, v in found if v is not None]
        if not found:
            continue
        places = np.array([i for i, _ in found]) + (k - (len(names) - 1) / 2) * width
        middle, least, greatest = np.array([v for _, v in found]).T
        axes.bar(places, middle - foot, width, foot, label=name, edgecolor="white", linewidth=0.5, **STYLES[name])
        if (least < greatest).any():
            errors = middle - least, greatest - middle
            axes.errorbar(places, middle, errors, fmt="none", ecolor="0.35", elinewidth=0.8, capsize=1.5)
        for place, number, top in zip(places, middle, np.maximum(greatest, foot), strict=True):
            axes.annotate(
                write(number), (place, top), (0, 2), textcoords="offset points", ha="center", va="bottom", fontsize=6
            )
    axes.set_xticks(range(len(results)), [f"{r.net.label}\nbatch {r.net.batch}" for r in results], fontsize=8)
    axes.grid(axis="y", linewidth=0.4, color="0.85")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def speed_up(result: NetResult, peer: str) -> Spread | None:
    """How many times faster than this peer."""
    return result.speed_up(OURS, peer) if OURS in result.names else None


def share(result: NetResult, name: str) -> Spread | None:
    """Percent of the peak; its spread is not drawn."""
    part = result.share_of_peak(name)
    return None if part is None else Spread.of([100 * part])


def draw(results: list[NetResult], title: str, out: Path) -> None:
    """Speed-ups above, shares of the peak below."""
    peers = [name for name in STYLES if any(name in result.peers for result in results)]
    figure, (top, bottom) = plt.subplots(2, 1, figsize=(11, 8.2), layout="constrained")
    figure.suptitle(title, fontsize=10)

    bars(top, results, peers, speed_up, foot=1, write=ratio_text)
    top.set_yscale("log")
    top.axhline(1, color="black", linewidth=1)
    top.yaxis.set_major_formatter(lambda y, _: f"{y:,g}×")
    top.set_ylabel("times faster than (log scale)")
    top.set_title("One training step: chainrule's fit against each peer, median and range of the rounds", fontsize=10)
    top.legend(ncols=len(peers), fontsize=8, frameon=False)

    bars(bottom, results, [OURS, *peers], share, foot=0, write="{:.0f}".format)
    bottom.set_ylim(0, 100)
    bottom.set_ylabel("% of the FMA peak")
    bottom.set_title("Share of the peak of the same cores in the same run", fontsize=10)
    if bottom.containers:
        bottom.legend(ncols=1, fontsize=8, frameon=False, loc="upper left")
    figure.savefig(out, dpi=150)


def main() -> None:
    """Run the program."""
    parser = arguments.parser(__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--threads", type=int, help="which runs to draw; the greatest number in the file if not given")
    options = parser.parse_args()
    document = json.loads(options.results.read_text())
    results = [NetResult.from_dict(raw) for raw in document["results"]]
    threads = options.threads or max(result.threads for result in results)
    results = [result for result in results if result.threads == threads]
    if not any(OURS in result.names and result.peers for result in results):
        parser.error(f"{options.results} has no run of {OURS} beside a peer on {threads} threads")
    draw(results, f"{document['machine']['cpu']}, {threads} threads, fp32", options.out)


if __name__ == "__main__":
    main()
