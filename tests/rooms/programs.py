"""Programs that run beside the tests; what they print is kept, and ends with them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

TOP: Final = Path(__file__).parents[2]
"""The checkout."""

PATIENCE_S: Final = 60.0
"""How long a program may take to say something; far more than it does on a slow machine."""

_STOP_S: Final = 20.0
"""How long a program may take to end after SIGTERM."""


class Program:
    """A program and its children, from entering a block to leaving it."""

    def __init__(
        self,
        *command: str | Path,
        cwd: Path = TOP,
        stop_with: signal.Signals = signal.SIGTERM,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Prepare a program.

        Args:
            command: what to run.
            cwd: where.
            stop_with: the signal that ends it; SIGTERM makes LiveKit's workers wait for their
                calls, SIGINT as well.
            environment: variables beside this process's own.
        """
        self._command = [str(part) for part in command]
        self._cwd = cwd
        self._stop_with = stop_with
        self._environment = {**os.environ, **(environment or {})}
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self._changed = threading.Condition()
        self._is_done = False
        self.lines: list[str] = []
        """What it has printed so far, to either stream."""

    @classmethod
    def python(cls, *arguments: str | Path, **environment: str) -> Self:
        """Prepare a run of this Python."""
        return cls(sys.executable, *arguments, environment=environment)

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None, "inside of the block"
        return self._process.pid

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command,
            cwd=self._cwd,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()
        if exc is not None:
            last = "\n  ".join(self.lines[-40:])
            exc.add_note(f"{self._command[0]} {self._command[1]} printed last:\n  {last}")

    def stop(self) -> int:
        """End it, and what it has started; return its exit code. Idempotent."""
        assert self._process is not None, "inside of the block"
        if self._process.poll() is None:
            self._process.send_signal(self._stop_with)
            try:
                self._process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                self.kill()
        self._kill_group()
        assert self._reader is not None, "it has been started"
        self._reader.join(_STOP_S)
        return self._process.wait()

    def wait(self) -> int:
        """Wait until it has ended by itself; return its exit code."""
        assert self._process is not None, "inside of the block"
        return self._process.wait(PATIENCE_S)

    def kill(self) -> None:
        """End it as a crash would, with all that it has started."""
        self._kill_group()
        assert self._process is not None, "inside of the block"
        self._process.wait()

    def _kill_group(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def find(self, pattern: str, *, since: int = 0) -> list[str]:
        """Return the lines in which a regular expression is found."""
        return [line for line in self.lines[since:] if re.search(pattern, line)]

    def wait_for(
        self, pattern: str, *, count: int = 1, since: int = 0, timeout: float = PATIENCE_S
    ) -> str:
        """Wait until a line has matched so often, and return the last of them.

        Raises:
            TimeoutError: it did not, or the program has ended.
        """
        ends_at = time.monotonic() + timeout
        with self._changed:
            while len(found := self.find(pattern, since=since)) < count:
                left_s = ends_at - time.monotonic()
                if self._is_done or not self._changed.wait(max(0.0, left_s)):
                    why = "has ended" if self._is_done else f"has not said it in {timeout:g} s"
                    raise TimeoutError(f"{self._command[1:3]} {why}: {pattern!r}")
        return found[count - 1]

    async def has_said(
        self, pattern: str, *, count: int = 1, since: int = 0, timeout: float = PATIENCE_S
    ) -> str:
        """Wait as `wait_for` does, while the event loop goes on."""
        return await asyncio.to_thread(
            self.wait_for, pattern, count=count, since=since, timeout=timeout
        )

    def _read(self) -> None:
        assert self._process is not None, "inside of the block"
        assert self._process.stdout is not None, "it is a pipe"
        with self._process.stdout as output:
            for line in output:
                with self._changed:
                    self.lines.append(line.rstrip("\n"))
                    self._changed.notify_all()
        with self._changed:
            self._is_done = True
            self._changed.notify_all()
