"""Where a run's numbers come from: versions, assets, commit, machine."""

import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from robustgen.files import sha256_of
from robustgen.fingerprints import of_tensors
from robustgen.names import NONE
from robustgen.sources import find_weights
from robustgen.suite import Pair, WeightFile, asset_label

PACKAGES = ("robustgen", "torch", "torchvision", "torchattacks", "numpy", "pandas")
"""Packages whose version a manifest names."""

_FILES = {
    "classifier": "classifier.safetensors",
    "generator": "generator.safetensors",
    "encoder": "encoder.safetensors",
    "perceptual": "perceptual.safetensors",
}


def versions() -> dict[str, str]:
    """Version of Python and of the packages that make the numbers."""
    found = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {"python": platform.python_version(), **found}


def asset_hashes(pair: Pair, built: Mapping[str, nn.Module]) -> dict[str, str]:
    """SHA-256 of every network of a pair, by kind and name.

    Args:
        pair: Names the networks.
        built: Those that a factory made, by kind: they have no file, so their tensors
            are hashed.
    """
    files = {
        f"{kind}: {asset_label(getattr(pair, kind))}": sha256_of(path)
        for kind, file in _FILES.items()
        if (path := _file_of(getattr(pair, kind), file)) is not None
    }
    tensors = {
        f"{kind}: {asset_label(getattr(pair, kind))}": of_tensors(network)
        for kind, network in built.items()
    }
    return files | tensors


def _file_of(asset: object, file: str) -> Path | None:
    """Where the weights of a network lie; None for a factory and for `none`."""
    if isinstance(asset, WeightFile):
        return Path(asset.weights)
    if not isinstance(asset, str) or asset == NONE:
        return None
    return find_weights(asset, file)


def git_commit() -> str:
    """Commit of the checkout that robustgen runs from, `-dirty` where it is changed.

    Empty for an installed wheel.
    """
    folder = Path(__file__).parents[1]
    if not (folder / ".git").exists():
        return ""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def machine(device: torch.device) -> dict[str, Any]:
    """What the run was computed on."""
    return {
        "device": str(device),
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }
