"""Runs a command on a network of its own, from which no packet leaves.

    python -m tests.rooms.namespace COMMAND ...

The network has a loopback and one interface with a private address, and no route to anywhere
else. The address is in the command's environment, as `ADDRESS_VARIABLE`. Root makes a named
namespace with iproute2's `ip netns`; anyone else an unnamed one with `unshare`. Needs nothing but
the standard library, so that it runs before anything is installed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import Final

ADDRESS: Final = "10.77.0.1"
"""The one host of the network; its packets to itself stay on the loopback."""

ADDRESS_VARIABLE: Final = "HYDRA_ROOMS_ADDRESS"
"""Where a command that runs on such a network finds the address."""

CANNOT: Final = 69
"""Exit code where no such network can be made. Source: EX_UNAVAILABLE of sysexits.h."""

# Dummy interfaces are a kernel module, which a container may lack; one end of a veth does as well.
_SET_UP: Final = f"""\
ip link set lo up &&
{{ ip link add room0 type dummy 2>/dev/null || ip link add room0 type veth peer name room1; }} &&
ip address add {ADDRESS}/24 dev room0 &&
ip link set room0 up &&
{{ ip link set room1 up 2>/dev/null || true; }}"""

_UNSHARED: Final = ("unshare", "--user", "--map-root-user", "--net", "--")


class CannotIsolate(Exception):
    """No network of its own can be made here; the text says why."""


def _check(command: Sequence[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired) as problem:
        raise CannotIsolate(f"{command[0]}: {problem}") from None
    if done.returncode:
        raise CannotIsolate(f"`{' '.join(command[:4])}`: {done.stderr.strip()}")


def _run(prefix: Sequence[str], command: Sequence[str]) -> int:
    """Run a command; pass on what asks this process to end, so that it ends first, in order."""
    environment = os.environ | {ADDRESS_VARIABLE: ADDRESS}
    with subprocess.Popen([*prefix, *command], env=environment) as process:
        signal.signal(signal.SIGTERM, lambda number, _: process.send_signal(number))
        while True:
            # Ctrl-C reaches the command by itself.
            with contextlib.suppress(KeyboardInterrupt):
                return process.wait()


def _run_named(command: Sequence[str]) -> int:
    name = f"hydra-rooms-{os.getpid()}"
    _check(["ip", "netns", "add", name])
    # `ip netns exec` would mount a /sys of its own, without the cgroups by which LiveKit's workers
    # measure their load.
    prefix = ("nsenter", f"--net=/run/netns/{name}", "--")
    try:
        _check([*prefix, "sh", "-c", _SET_UP])
        return _run(prefix, command)
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=False)


def _run_unshared(command: Sequence[str]) -> int:
    _check([*_UNSHARED, "sh", "-c", _SET_UP])
    return _run([*_UNSHARED, "sh", "-c", f'{_SET_UP} && exec "$@"', "sh"], command)


def run_isolated(command: Sequence[str]) -> int:
    """Run a command on a network of its own; return its exit code.

    Raises:
        CannotIsolate: such a network can't be made.
    """
    for tool in ("ip", "nsenter", "unshare"):
        if shutil.which(tool) is None:
            raise CannotIsolate(f"there is no `{tool}`; Debian has it in iproute2 and util-linux")
    if os.geteuid() != 0:
        return _run_unshared(command)
    try:
        return _run_named(command)
    except CannotIsolate:
        return _run_unshared(command)


def main() -> int:
    """Run the command line; return the exit code."""
    try:
        return run_isolated(sys.argv[1:])
    except CannotIsolate as problem:
        print(f"No network of its own can be made here: {problem}", file=sys.stderr)
        return CANNOT


if __name__ == "__main__":
    sys.exit(main())
