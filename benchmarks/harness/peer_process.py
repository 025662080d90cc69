"""A peer in a process of its own, driven by lines of JSON over its standard input and output."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from harness import machine
from harness.net import Net

FOLDER = Path(__file__).resolve().parent.parent

# An OpenMP or BLAS thread spins for some milliseconds after its work before it sleeps: not on the next peer's time.
SETTLE_SECONDS = 0.05


class PeerError(RuntimeError):
    """The peer is not installed, cannot train this net, or failed."""


class PeerProcess:
    """One peer with one net, ready for commands; a context manager.

    Parameters
    ----------
    peer : a name in `workers.PEERS`
    net : what it trains
    threads : how many threads, and cores, it gets
    lr : learning rate
    """

    def __init__(self, peer: str, net: Net, threads: int, lr: float) -> None:
        self.peer = peer
        self._stderr = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed in `close`)
        with machine.confined(threads):
            self._process = subprocess.Popen(
                [sys.executable, "-m", "workers", peer, net.spec, str(threads), str(lr)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                text=True,
                cwd=FOLDER,
                env=machine.environment(threads),
            )

    def __enter__(self) -> PeerProcess:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def ask(self, command: str, **arguments: Any) -> dict[str, Any]:
        """Send a command and wait for the answer.

        Raises
        ------
        PeerError
            With the peer's own words.
        """
        time.sleep(SETTLE_SECONDS)
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"command": command, **arguments}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise PeerError(self._last_words())
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise PeerError(answer["error"])
        return answer

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None and self._process.stdout is not None
        # Nothing is lost with it, and a peer in the middle of a long step would not read an end of input.
        self._process.kill()
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()
        self._stderr.close()

    def _last_words(self) -> str:
        code = self._process.wait()
        self._stderr.seek(0)
        lines = self._stderr.read().strip().splitlines()
        return f"ended with code {code}: {lines[-1] if lines else 'without a word'}"
