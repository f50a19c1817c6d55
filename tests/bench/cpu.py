"""CPU time of a second of a call: floor, this plugin, and OpenAI's engine, interleaved.

``python -m tests.bench.cpu [ROUNDS] [CALLS] [SECONDS]``
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Final

DIALECTS: Final = {"floor": "hydra", "plugin": "hydra", "openai": "openai"}


def measure(name: str, n_calls: int, seconds: float) -> float:
    """Return the milliseconds of CPU time that one second of one call takes the client."""
    python = [sys.executable, "-W", "ignore", "-m"]
    server = subprocess.Popen(
        [*python, "tests.bench.servers", DIALECTS[name]],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdin
    assert server.stdout
    try:
        port = server.stdout.readline().strip()
        client = subprocess.run(
            [*python, "tests.bench.clients", name, port, str(n_calls), str(seconds)],
            capture_output=True,
            text=True,
            timeout=seconds + 60,
            check=True,
        )
    finally:
        server.stdin.close()
        server.kill()
        server.wait()
    return float(json.loads(client.stdout.splitlines()[-1])["ms_per_call_second"])


def main(rounds: int = 3, n_calls: int = 20, seconds: float = 8.0) -> None:
    """Print a table of all rounds, and the best ratios."""
    names = list(DIALECTS)
    print(f"ms of CPU time per call-second, {n_calls} calls, {seconds:g} s a run")
    print("round", *(f"{name:>8}" for name in names), "   /floor  /openai")
    ratios = []
    for number in range(1, rounds + 1):
        costs = {name: measure(name, n_calls, seconds) for name in names}
        ratio = (costs["plugin"] / costs["floor"], costs["plugin"] / costs["openai"])
        ratios.append(ratio)
        cells = "".join(f"{costs[name]:9.2f}" for name in names)
        print(f"{number:5}{cells}   {ratio[0]:6.2f}   {ratio[1]:6.2f}", flush=True)
    print(
        f"best of {rounds}: {min(r[0] for r in ratios):.2f}x the floor, "
        f"{min(r[1] for r in ratios):.2f}x OpenAI"
    )


if __name__ == "__main__":
    main(*(int(word) for word in sys.argv[1:]))
