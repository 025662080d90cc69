"""What was measured, and what follows from it."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Iterable
from typing import Any, NamedTuple

from harness.net import Net
from workers import OURS


class Spread(NamedTuple):
    """The median of a few values, and the least and greatest of them."""

    median: float
    least: float
    greatest: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        values = list(values)
        return cls(statistics.median(values), min(values), max(values))

    def __format__(self, spec: str) -> str:
        return f"{self.median:{spec}} [{self.least:{spec}}–{self.greatest:{spec}}]"


@dataclasses.dataclass
class Round:
    """Every worker once."""

    microseconds: dict[str, float]
    peak_gigaflops: float | None = None


@dataclasses.dataclass
class NetResult:
    """All rounds of one net on one number of threads."""

    net: Net
    threads: int
    rounds: list[Round] = dataclasses.field(default_factory=list)
    left_out: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """Who was measured."""
        return list(self.rounds[0].microseconds) if self.rounds else []

    @property
    def peers(self) -> list[str]:
        """Who was measured beside chainrule."""
        return [name for name in self.names if name not in OURS]

    def microseconds(self, name: str) -> float:
        """Median time of a step."""
        return statistics.median(r.microseconds[name] for r in self.rounds)

    def gigaflops(self, name: str) -> float:
        """Operations of the matrix products over the median time, in 10⁹ a second."""
        return self.net.flops / self.microseconds(name) * 1e-3

    def fastest_peer(self) -> str:
        """The peer with the smallest median."""
        return min(self.peers, key=self.microseconds)

    def speed_up(self, name: str, peer: str) -> Spread:
        """How many times faster than this peer, by rounds."""
        return Spread.of(r.microseconds[peer] / r.microseconds[name] for r in self.rounds)

    def speed_up_over_all(self, name: str) -> Spread:
        """How many times faster than whichever peer was the fastest of the round, by rounds."""
        return Spread.of(min(r.microseconds[peer] for peer in self.peers) / r.microseconds[name] for r in self.rounds)

    def share_of_peak(self, name: str) -> float | None:
        """Median over the rounds of operations per second over the peak measured in that round."""
        if any(r.peak_gigaflops is None for r in self.rounds):
            return None
        return statistics.median(
            self.net.flops / r.microseconds[name] * 1e-3 / r.peak_gigaflops for r in self.rounds if r.peak_gigaflops
        )

    def to_dict(self) -> dict[str, Any]:
        """For JSON; the figures that follow from others are there for readers and not read back."""
        return {
            "spec": self.net.spec,
            "label": self.net.label,
            "parameters": self.net.n_parameters,
            "flops": self.net.flops,
            "threads": self.threads,
            "left_out": self.left_out,
            "rounds": [dataclasses.asdict(r) for r in self.rounds],
        }

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> NetResult:
        """Read what `to_dict` wrote."""
        rounds = [Round(**r) for r in raw["rounds"]]
        return cls(Net.parse(raw["spec"]), raw["threads"], rounds, raw["left_out"])
