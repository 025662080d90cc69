"""How long a step takes."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from time import perf_counter

Steps = Callable[[int], None]

CHUNKS_PER_ROUND = 10
FEWEST_CHUNKS = 3


def warm_up(steps: Steps, seconds: float) -> int:
    """Run for a while, and return how many steps make a chunk so that a round of `seconds` has ten chunks.

    Two clock readings and one wait for the result are paid per chunk, and so cost a short step nothing.
    """
    # The first call compiles, allocates and starts threads, and says nothing about the ones after it.
    steps(1)
    count, start = 1, perf_counter()
    while True:
        before = perf_counter()
        steps(count)
        now = perf_counter()
        if now - start >= seconds:
            return max(1, round(seconds / CHUNKS_PER_ROUND * count / (now - before)))
        if now - before < seconds / CHUNKS_PER_ROUND:
            count *= 2


def median_microseconds(steps: Steps, chunk: int, seconds: float) -> float:
    """Median time of one step over chunks that take `seconds` together, and over three chunks at least."""
    times: list[float] = []
    start = perf_counter()
    while len(times) < FEWEST_CHUNKS or perf_counter() - start < seconds:
        before = perf_counter()
        steps(chunk)
        times.append((perf_counter() - before) / chunk)
    return statistics.median(times) * 1e6
