"""Options that several commands share."""

import enum
from pathlib import Path
from typing import Annotated

import typer

from robustgen.cli.completion import runs


class ProfileOption(enum.StrEnum):
    """Which assets a run uses."""

    AUTO = "auto"
    EMBEDDED = "embedded"
    FULL = "full"


class ExecutorOption(enum.StrEnum):
    """Who computes batches."""

    LOCAL = "local"
    RAY = "ray"


class DeviceOption(enum.StrEnum):
    """Where a run computes."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


RunFolder = Annotated[
    Path,
    typer.Argument(help="Folder that a run has written.", autocompletion=runs),
]

Seed = Annotated[
    int | None, typer.Option(min=0, max=2**63 - 1, help="Instead of the file's seed.")
]
