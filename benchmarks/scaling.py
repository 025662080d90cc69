"""How much faster do several processes train? Measured with two of them, and a model of up to 1,024.

An all-reduce of m bytes over p ranks, by halving and doubling (Rabenseifner's algorithm), is taken to last

    A(p, m) = 2·⌈log₂ p⌉·α + 2·(p − 1)/p·m·β

seconds: latency α a message, and β a byte sent and added. Both are fitted to all-reduces between two processes of this
computer, with the least squares of the relative errors, for two ways to send: through shared memory, and through TCP
on the loopback interface. A step of p ranks is then

    t(n) + A(p, 4·P)

with P parameters, and t(n) as measured on one core for the n rows of the rank that has most. A shuffle deals a batch to
the ranks as it falls, not in equal shares: n is the mean of the largest share over simulated shuffles.

Two ways to grow: "weak", each rank brings ROWS rows to the batch, and "strong", a batch of BATCH rows is shared by all.
Beyond two ranks everything is simulated: no network, switch or cable was measured.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from harness import arguments, machine
from harness.net import Net

TRANSPORTS = {
    "shared memory": {},
    "TCP": {"MPIR_CVAR_NOLOCAL": "1", "MPIR_CVAR_CH4_NETMOD": "ofi", "FI_PROVIDER": "tcp"},  # of MPICH
}
NETS = [
    Net.parse(spec)
    for spec in (
        "32-256-256-256-1:relu:bce:adam:128",
        "784-512-256-10:relu:cross_entropy:adam:128",
        "1024-1024-1024-1024-1024:relu:cross_entropy:adam:128",
    )
]
ROWS, BATCH = 128, 1024
MEASURED_ROWS = (1, 8, 32, 128, 512, 1024)
RANKS = [2**i for i in range(11)]
COLOURS = ["#0072B2", "#D55E00", "#009E73"]  # Okabe and Ito's, which the colour-blind tell apart
SHUFFLES = 200


class Link(NamedTuple):
    """α in seconds, β in seconds a byte."""

    alpha: float
    beta: float

    @classmethod
    def fitted(cls, measured: list[tuple[int, float]]) -> Link:
        """To all-reduces of two ranks: 2α + mβ."""
        m, t = np.array(measured).T
        (alpha, beta), *_ = np.linalg.lstsq(np.stack([2 / t, m / t], axis=1), np.ones(len(t)), rcond=None)
        return cls(float(alpha), float(beta))

    def allreduce(self, ranks: int, size: float) -> float:
        """A(p, m)."""
        return 2 * math.ceil(math.log2(ranks)) * self.alpha + 2 * (ranks - 1) / ranks * size * self.beta


def mpiexec() -> str:
    """MPICH's, of this environment or on the path; ends the program where there is none."""
    beside = Path(sysconfig.get_path("scripts")) / "mpiexec"
    launcher = str(beside) if beside.exists() else shutil.which("mpiexec")
    if (
        launcher is None
        or "HYDRA" not in subprocess.run([launcher, "--version"], capture_output=True, text=True).stdout
    ):
        sys.exit("there is no mpiexec of MPICH, whose transports are compared; try: pip install mpi4py mpich")
    return launcher


def measure(ranks: int, transport: str, *command: str) -> Any:
    """What `harness.ranks` measures under mpiexec."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "measured.json"
        python = [sys.executable, "-m", "mpi4py", "-m", "harness.ranks", str(file), *command]
        subprocess.run(
            [mpiexec(), "-n", str(ranks), *python],
            cwd=Path(__file__).parent,
            env={**machine.environment(1), **TRANSPORTS[transport], "PYTHONPATH": os.pathsep.join(sys.path)},
            check=True,
        )
        return json.loads(file.read_text())


def largest_share(rows: int, ranks: int) -> float:
    """Mean over shuffles of the most rows that a rank has of a batch."""
    rng = np.random.default_rng(0)
    return float(rng.multinomial(rows, [1 / ranks] * ranks, size=SHUFFLES).max(axis=1).mean())


def predicted(net: Net, alone: list[float], link: Link, batch: int, ranks: int) -> float:
    """Seconds of a step."""
    step = float(np.interp(largest_share(batch, ranks), MEASURED_ROWS, alone))
    return step if ranks == 1 else step + link.allreduce(ranks, 4 * net.n_parameters)


def draw(document: dict[str, Any], out: Path) -> None:
    """The fit on the left, the speed-ups that it predicts for each transport beside it."""
    figure, (left, *others) = plt.subplots(1, 3, figsize=(14, 5), layout="constrained")
    figure.suptitle(
        "Data parallelism: measured on 1 and 2 ranks (points), all else SIMULATED by the model fitted to them (lines)",
        fontsize=11,
    )
    for transport, marker, colour in zip(TRANSPORTS, "os", ["black", "0.5"], strict=True):
        m, t = np.array(document["allreduce"][transport]).T
        link = Link.fitted(document["allreduce"][transport])
        left.plot(m, t * 1e6, marker, color=colour, label=f"{transport}, measured", markersize=5)
        words = f"2α + mβ: α = {link.alpha * 1e6:.1f} µs, 1/β = {1e-9 / link.beta:.2f} GB/s"
        sizes = np.geomspace(m[0], m[-1], 100)
        left.plot(sizes, [link.allreduce(2, size) * 1e6 for size in sizes], color=colour, linewidth=1, label=words)
    left.set(xscale="log", yscale="log", xlabel="bytes m", ylabel="µs", title="All-reduce between two ranks")
    left.legend(fontsize=8, frameon=False)
    for axes, transport in zip(others, TRANSPORTS, strict=True):
        link = Link.fitted(document["allreduce"][transport])
        axes.plot(RANKS, RANKS, color="0.7", linewidth=1, label="ideal")
        for net, colour in zip(NETS, COLOURS, strict=True):
            alone = document["alone"][net.label]
            weak, strong = (speed_ups(net, alone, link, kind) for kind in ("weak", "strong"))
            axes.plot(RANKS, weak, color=colour, label=f"{net.label}, {ROWS} rows a rank")
            axes.plot(RANKS, strong, "--", color=colour, label=f"{net.label}, {BATCH:,} rows in all")
            two = document["together"][transport][net.label]
            axes.plot(2, 2 * at(alone, ROWS) / two[0], "o", color=colour, markersize=5)
            axes.plot(2, at(alone, BATCH) / two[1], "s", color=colour, markersize=5, fillstyle="none")
        axes.set(xscale="log", yscale="log", xlabel="ranks, one core each", ylabel="speed-up (samples a second)")
        axes.set_xticks([1, 4, 16, 64, 256, 1024], ["1", "4", "16", "64", "256", "1,024"])
        axes.set_yticks([1, 4, 16, 64, 256, 1024], ["1", "4", "16", "64", "256", "1,024"])
        axes.minorticks_off()
        axes.set_xlim(0.75, 1600)
        axes.set_title(f"Simulated speed-up with this computer's {transport}")
    others[0].legend(fontsize=8, frameon=False)
    kinds = {f"measured, {ROWS} rows a rank": {}, f"measured, {BATCH:,} rows in all": {"fillstyle": "none"}}
    for (label, style), marker in zip(kinds.items(), "os", strict=True):
        others[1].plot([], [], marker, color="black", markersize=5, label=label, **style)
    others[1].legend(fontsize=8, frameon=False)
    for axes in (left, *others):
        axes.grid(linewidth=0.4, color="0.85")
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(out, dpi=110)


def at(alone: list[float], rows: int) -> float:
    """Measured seconds of a step with so many rows."""
    return alone[MEASURED_ROWS.index(rows)]


def speed_ups(net: Net, alone: list[float], link: Link, kind: str) -> list[float]:
    """Over one rank, for each number of ranks."""
    if kind == "strong":
        return [at(alone, BATCH) / predicted(net, alone, link, BATCH, p) for p in RANKS]
    return [p * at(alone, ROWS) / predicted(net, alone, link, ROWS * p, p) for p in RANKS]


def report(document: dict[str, Any]) -> None:
    """The figures, as text."""
    for transport, measured in document["allreduce"].items():
        link = Link.fitted(measured)
        off = max(abs(link.allreduce(2, m) / t - 1) for m, t in measured)
        print(
            f"{transport}: α = {link.alpha * 1e6:.1f} µs, 1/β = {1e-9 / link.beta:.2f} GB/s; the fit is at most "
            f"{off:.0%} off a measured time"
        )
        for net in NETS:
            alone, (weak, strong) = document["alone"][net.label], document["together"][transport][net.label]
            print(
                f"  {net.label}, {net.n_parameters:,} parameters: {ROWS} rows take {at(alone, ROWS) * 1e6:,.0f} µs; "
                f"two ranks measured {2 * at(alone, ROWS) / weak:.2f}× weak, {at(alone, BATCH) / strong:.2f}× strong"
            )
            for kind in ("weak", "strong"):
                values = speed_ups(net, alone, link, kind)
                print(
                    f"    {kind:6} simulated: " + ", ".join(f"{p}: {v:.4g}" for p, v in zip(RANKS, values, strict=True))
                )
        for label, ways in document["overlap"][transport].items():
            medians = {name: float(np.median(values)) for name, values in ways.items()}
            print(f"  {label}, a sweep by NumPy: " + ", ".join(f"{k} {v * 1e3:.2f} ms" for k, v in medians.items()))

    for net in NETS:
        one, two = document["reproducible"][net.label]
        plain = at(document["alone"][net.label], ROWS), document["together"]["shared memory"][net.label][0]
        print(
            f"{net.label}, {ROWS} rows a rank, reproducible=True: {one / plain[0]:.2f} times as long as fit alone, "
            f"and on two ranks {two / plain[1]:.2f} times as long as without it"
        )


def main() -> None:
    """Run the program."""
    parser = arguments.parser(__doc__)
    parser.add_argument("--json", type=Path, help="keep what was measured")
    parser.add_argument("--read", type=Path, help="take that of an earlier run")
    parser.add_argument("--plot", type=Path, help="draw it into this file")
    options = parser.parse_args()
    if options.read:
        document = json.loads(options.read.read_text())
    else:
        arguments.check_threads(parser, [2])
        machine.warn_if_busy()
        document = {
            "allreduce": {transport: measure(2, transport, "allreduce") for transport in TRANSPORTS},
            "alone": {},
            "together": {transport: {} for transport in TRANSPORTS},
            "overlap": {transport: {} for transport in TRANSPORTS},
            "reproducible": {},
        }
        for net in NETS:
            rows = list(map(str, MEASURED_ROWS))
            document["alone"][net.label] = measure(1, "shared memory", "steps", net.spec, *rows)
            document["reproducible"][net.label] = [
                measure(p, "shared memory", "reproducible", net.spec, str(ROWS))[0] for p in (1, 2)
            ]
            for transport in TRANSPORTS:
                two = measure(2, transport, "steps", net.spec, str(ROWS), str(BATCH // 2))
                document["together"][transport][net.label] = two
                document["overlap"][transport][net.label] = measure(2, transport, "overlap", net.spec)
    if options.json:
        options.json.write_text(json.dumps(document))
    report(document)
    if options.plot:
        draw(document, options.plot)


if __name__ == "__main__":
    main()
