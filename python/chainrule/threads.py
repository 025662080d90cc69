"""How many threads a call may use."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock

from chainrule import _core
from chainrule._arguments import integer

MAX_THREADS = 2**31 - 1


@dataclass(eq=False)
class _Block:
    before: int  # the number to go back to


_lock = Lock()
_blocks: list[_Block] = []  # that have begun, in their order, and have not ended


def set_num_threads(n: int) -> None:
    """Set how many threads a call may use at most, for the whole process.

    Small work stays on the calling thread whatever the setting, and no result depends on it, to the bit.

    Parameters
    ----------
    n : int
        At least 1.

    Raises
    ------
    ValueError
        If n is below 1.
    TypeError
        If n is not an integer.
    """
    _core.set_num_threads(integer("n", n, 1, MAX_THREADS))


def get_num_threads() -> int:
    """Return how many threads a call may use at most.

    At first this is ``OMP_NUM_THREADS``, or the number of processors that the process may run on.

    Returns
    -------
    int
        At least 1.
    """
    return _core.get_num_threads()


@contextmanager
def num_threads(n: int) -> Iterator[None]:
    """Set the number of threads for a ``with`` block; afterwards it is what it was.

    The setting is the process's: other Python threads see it too while the block runs. Where several Python threads are
    in such blocks, the one that began last decides; after the last of them the number is what it was before the first.

    Parameters
    ----------
    n : int
        At least 1.

    Raises
    ------
    ValueError
        If n is below 1.
    TypeError
        If n is not an integer.

    Examples
    --------
    >>> import chainrule as cr
    >>> with cr.num_threads(1):
    ...     cr.get_num_threads()
    1
    """
    with _lock:
        block = _Block(get_num_threads())
        set_num_threads(n)
        _blocks.append(block)
    try:
        yield
    finally:
        with _lock:
            place = _blocks.index(block)
            if block is _blocks[-1]:
                set_num_threads(block.before)
            else:
                _blocks[place + 1].before = block.before  # which that one found is of no more use
            del _blocks[place]
