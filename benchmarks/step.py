"""Time one training step (forward, loss, backward, update) of chainrule and its peers.

Every peer has a process of its own with the same threads, the same fp32 data and the same initial weights. The
processes take turns, A B C A B C …, and only one works at a time. What counts is the ratio within a round.
"""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from pathlib import Path

from tqdm import tqdm

from harness import arguments, machine
from harness.fma_peak import FmaPeak
from harness.net import Net
from harness.peer_process import PeerError, PeerProcess
from harness.results import NetResult, Round
from workers import OPTIONAL, OURS, USUAL

# So small that a net stays near its start, where no peer meets denormal numbers, however many steps it takes.
LEARNING_RATES = {"sgd": 1e-3, "adam": 1e-6}
# So large that the update is far above the rounding error of the weights.
CHECK_LEARNING_RATES = {"sgd": 0.1, "adam": 1e-4}
CHECK_STEPS = 3
CHECK_TOLERANCE = 0.01
# --quick leaves out the nets above this.
QUICK_PARAMETERS = 10_000_000


def measure(
    net: Net,
    threads: int,
    names: list[str],
    rounds: int,
    seconds: float,
    peak: FmaPeak | None,
    versions: dict[str, str],
) -> NetResult:
    """Run the rounds of one net, and note the versions of those who took part."""
    result = NetResult(net, threads)
    with ExitStack() as stack:
        ready: dict[str, tuple[PeerProcess, int]] = {}
        for name in tqdm(names, desc=f"{net.label}, threads {threads}: warm-up", leave=False):
            process = stack.enter_context(PeerProcess(name, net, threads, LEARNING_RATES[net.optimizer]))
            try:
                versions[name] = process.ask("start")["version"]
                process.ask("load")
                ready[name] = process, process.ask("warm_up", seconds=seconds)["chunk"]
            except PeerError as error:
                result.left_out[name] = str(error)
                process.close()
        for _ in tqdm(range(rounds), desc=f"{net.label}, threads {threads}: rounds", leave=False):
            times = {
                name: process.ask("round", chunk=chunk, seconds=seconds)["microseconds"]
                for name, (process, chunk) in ready.items()
            }
            result.rounds.append(Round(times, peak.gigaflops(threads) if peak else None))
    return result


def report(result: NetResult) -> str:
    """One net as text."""
    net = result.net
    lines = [
        f"{net.label}  {net.hidden} {net.loss} {net.optimizer}, batch {net.batch}, threads: {result.threads}"
        f"  ({net.n_parameters:,} parameters, {net.flops * 1e-6:,.3f} Mflop a step)",
        f"  {'':16}{'µs a step':>12}{'GFLOP/s':>10}{'of peak':>9}   {'fit is faster by':28}{'step is faster by'}",
    ]
    for name in result.names:
        share = result.share_of_peak(name)
        line = f"  {name:16}{result.microseconds(name):12,.2f}{result.gigaflops(name):10.2f}"
        line += f"{share:9.1%}   " if share is not None else f"{'–':>9}   "
        if name in result.peers:
            ratios = [f"{result.speed_up(own, name):.2f}" if own in result.names else "–" for own in OURS]
            line += f"{ratios[0]:28}{ratios[1]}"
        lines.append(line.rstrip())
    if result.peers:
        for own in OURS:
            if own in result.names:
                lines.append(f"  {own} against the fastest peer of each round: {result.speed_up_over_all(own):.2f}×")
    lines += [f"  left out: {name} ({reason})" for name, reason in result.left_out.items()]
    return "\n".join(lines)


def summary(results: list[NetResult]) -> str:
    """The table to quote: chainrule against the fastest peer of each round."""
    head = f"{'net':18}{'threads':>8}{'fastest peer':>15}{'fit, of peak':>14}   {'fit (headline)':28}step"
    lines = [head, "-" * len(head)]
    for result in results:
        if not result.peers or any(own not in result.names for own in OURS):
            continue
        share = result.share_of_peak("chainrule-fit")
        ratios = [f"{result.speed_up_over_all(own):.2f}" for own in OURS]
        lines.append(
            f"{result.net.label:18}{result.threads:8}{result.fastest_peer():>15}"
            f"{'–' if share is None else f'{share:.1%}':>14}   {ratios[0]:28}{ratios[1]}"
        )
    return "\n".join(lines)


def difference(movement: list[float], reference: list[float]) -> float:
    """How far a layer's movement, its norm and the sum of its entries, is from the reference."""
    # The sum can cancel, and then says as much as the norm allows.
    norm = reference[0]
    return max(abs(x - r) / max(abs(r), norm) for x, r in zip(movement, reference, strict=True))


def check(net: Net, threads: int, names: list[str]) -> bool:
    """Print whether every peer moves the weights as NumPy does in a few steps, that is, does the same work."""
    movements: dict[str, list[list[float]]] = {}
    agree = True
    for name in dict.fromkeys(["numpy", *names]):
        with PeerProcess(name, net, threads, CHECK_LEARNING_RATES[net.optimizer]) as process:
            try:
                process.ask("start")
                process.ask("load")
                movements[name] = process.ask("movement", steps=CHECK_STEPS)["movement"]
            except PeerError as error:
                print(f"{net.label:18}{name:16} left out ({error})")
                continue
        worst = max(map(difference, movements[name], movements["numpy"]))
        agree &= worst <= CHECK_TOLERANCE
        verdict = "" if worst <= CHECK_TOLERANCE else "  WRONG"
        print(f"{net.label:18}{name:16} differs from NumPy by {worst:.1e}{verdict}")
    return agree


def main() -> int:
    """Run the program."""
    parser = arguments.parser(__doc__)
    parser.add_argument("--threads", type=int, nargs="+", default=[len(machine.available_cores())])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.3, help="time of one peer in one round")
    parser.add_argument("--peers", nargs="+", choices=USUAL + OPTIONAL, default=list(USUAL), metavar="PEER",
                        help=f"of {', '.join(USUAL + OPTIONAL)}")  # fmt: skip
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every round here")
    parser.add_argument("--quick", action="store_true", help="three rounds of 0.05 s, no net above 10M parameters")
    parser.add_argument("--check", action="store_true", help="measure nothing; check that all peers do the same work")
    arguments.add_nets(parser)
    options = parser.parse_args()
    nets = arguments.chosen_nets(parser, options)
    arguments.check_threads(parser, options.threads)
    names = [*OURS, *options.peers]

    if options.check:
        return 0 if all([check(net, options.threads[0], names) for net in nets]) else 1

    rounds, seconds = options.rounds, options.seconds
    if options.quick:
        rounds, seconds = 3, 0.05
        nets = [net for net in nets if net.n_parameters <= QUICK_PARAMETERS]
    computer = machine.description()
    machine.warn_if_busy()
    results: list[NetResult] = []
    versions: dict[str, str] = {}
    with ExitStack() as stack:
        peak = None
        try:
            peak = stack.enter_context(FmaPeak())
        except RuntimeError as error:
            print(f"share of the peak left out: {error}", file=sys.stderr)
        for threads in options.threads:
            for net in nets:
                result = measure(net, threads, names, rounds, seconds, peak, versions)
                results.append(result)
                print(report(result), end="\n\n", flush=True)
    print("Times faster than the fastest peer of each round: median [least–greatest] over the rounds.")
    print("`fit` is the headline, since it is how a net is trained; `step` is one call from Python a step.\n")
    print(summary(results))
    if options.json:
        document = {
            "machine": computer,
            "versions": versions,
            "rounds": rounds,
            "seconds": seconds,
            "results": [result.to_dict() for result in results],
        }
        options.json.write_text(json.dumps(document, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
