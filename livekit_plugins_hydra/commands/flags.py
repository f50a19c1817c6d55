"""The options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

Offline = Annotated[
    bool,
    typer.Option("--offline", help="Talk to an emulated Hydra in this process; needs no key."),
]
Model = Annotated[str, typer.Option(help="hydra-v1.1, hydra-v1.0 or hydra.", show_default=False)]
Voice = Annotated[str, typer.Option(help="A voice of the model.", show_default=False)]
BaseUrl = Annotated[
    str,
    typer.Option(
        help="Where to connect, instead of Smallest AI's server.",
        envvar="HYDRA_BASE_URL",
        show_default=False,
    ),
]
Header = Annotated[
    bool, typer.Option("--header", help="Send the key in a header instead of in the URL.")
]
OfflineScenario = Annotated[
    Path | None, typer.Option(help="With --offline: how the emulator behaves, .toml or .py.")
]

PATIENCE_S: Final = 30.0
"""How long the user waits for an answer; a slow tool fits in. Our choice."""
