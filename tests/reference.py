"""Golden values computed by the reference implementations, where they are at hand.

They are too large to ship. `ROBUSTGEN_REFERENCE` names their folder; unset, it is
looked for beside the checkout. Tests that need them are skipped when it is absent.
"""

import os
from pathlib import Path

import pytest

REFERENCE = Path(
    os.environ.get(
        "ROBUSTGEN_REFERENCE", Path(__file__).parents[2] / "shared" / "reference"
    )
)


def reference_file(name: str) -> Path:
    """A golden file or folder, by its path below the folder of golden values."""
    path = REFERENCE / name
    if not path.exists():
        pytest.skip(f"{path} is absent: set ROBUSTGEN_REFERENCE to the golden values.")
    return path
