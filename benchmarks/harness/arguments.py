"""Options that several programs have in common."""

from __future__ import annotations

import argparse

from harness import machine, net


def parser(description: str | None) -> argparse.ArgumentParser:
    """A parser whose help shows the description as it is written, and the defaults."""

    class Formatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
        pass

    return argparse.ArgumentParser(description=description, formatter_class=Formatter)


def add_nets(parser: argparse.ArgumentParser) -> None:
    """--nets and --shape."""
    parser.add_argument("--nets", nargs="*", metavar="LABEL", help="nets of the grid (all; none with an empty list)")
    parser.add_argument(
        "--shape",
        action="append",
        default=[],
        metavar="SIZES:HIDDEN:LOSS:OPTIMIZER:BATCH",
        help="one more net, such as 33-100-333-1:relu:mse:adam:7; can be repeated",
    )


def chosen_nets(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> list[net.Net]:
    """What --nets and --shape ask for; ends the program with a message if they make no sense."""
    try:
        grid = list(net.GRID) if arguments.nets is None else net.named(arguments.nets)
        return grid + [net.Net.parse(spec) for spec in arguments.shape]
    except ValueError as error:
        parser.error(str(error))


def check_threads(parser: argparse.ArgumentParser, threads: list[int]) -> None:
    """End the program with a message if there are not that many cores."""
    try:
        for n in threads:
            machine.check_threads(n)
    except ValueError as error:
        parser.error(str(error))
