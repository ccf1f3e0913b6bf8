"""What is installed, where assets are looked for, and which device computes."""

import importlib.metadata
import platform
from collections.abc import Iterator

import torch

from robustgen.devices import find_device
from robustgen.full_assets import all_assets
from robustgen.names import EMBEDDED
from robustgen.sources import SourceFile, asset_files, data_folder, weights_folder

PACKAGES = (
    "robustgen",
    "torch",
    "torchvision",
    "torchattacks",
    "lpips",
    "numpy",
    "pandas",
    "scikit-learn",
    "timm",
    "ray",
)
"""Packages that results depend on; the last two are optional."""


def doctor_text() -> str:
    """Versions, device, folders, and which assets are present, a line each."""
    return "\n".join(
        (
            f"Python {platform.python_version()} on {platform.machine()}",
            *_packages(),
            f"Device: {_device()}",
            "Assets in the package: "
            + "; ".join(f"{kind}: {', '.join(names)}" for kind, names in _embedded()),
            f"Data sets are looked for in {data_folder()}",
            f"Weights are looked for in {weights_folder()}",
            *_downloads(),
        )
    )


def _packages() -> Iterator[str]:
    for name in PACKAGES:
        try:
            yield f"  {name} {importlib.metadata.version(name)}"
        except importlib.metadata.PackageNotFoundError:
            yield f"  {name} not installed"


def _device() -> str:
    device = find_device("auto")
    if device.type == "cuda":
        return f"cuda ({torch.cuda.get_device_name(device)})"
    return f"cpu, {torch.get_num_threads()} threads"


def _embedded() -> Iterator[tuple[str, tuple[str, ...]]]:
    yield from EMBEDDED.items()


def _downloads() -> Iterator[str]:
    """Each downloaded asset, and the files of it that are missing."""
    for name in dict.fromkeys(asset.name for asset in all_assets()):
        missing = [file for file in asset_files(name) if not file.present]
        yield f"  {name}: {'present' if not missing else _missing(missing)}"


def _missing(files: list[SourceFile]) -> str:
    shown = ", ".join(f"{file.path} ({file.size})" for file in files[:2])
    more = f" and {len(files) - 2} more" if len(files) > 2 else ""
    return f"missing {shown}{more}"
