"""Fingerprints of everything that a result depends on."""

import hashlib
import importlib.metadata
import inspect
from collections.abc import Sequence
from pathlib import Path

from torch import nn

from robustgen.files import sha256_of

_CODE = (
    "adaptive",
    "attacks",
    "classifiers",
    "data",
    "gan",
    "projectors",
    "views",
    "checkpoints.py",
    "defense.py",
    "evaluate.py",
    "inert.py",
    "lpips_distance.py",
    "perceptual.py",
    "rngs.py",
    "seeding.py",
    "table.py",
    "threat.py",
    "thumbnails.py",
)
"""Parts of the package that decide what a prediction is; reports are not among them."""


def of_texts(*texts: str) -> str:
    """Fingerprint of some texts, in order."""
    digest = hashlib.sha256()
    for text in texts:
        digest.update(f"{len(text)}:".encode() + text.encode())
    return digest.hexdigest()


def of_module(module: nn.Module) -> str:
    """Fingerprint of a network: classes, their source files, sizes and tensors."""
    digest = hashlib.sha256()
    # Sizes that no tensor shows, such as those of a crop.
    digest.update(repr(module).encode())
    classes = {type(part) for part in module.modules()}
    for kind in sorted(classes, key=lambda k: (k.__module__, k.__qualname__)):
        digest.update(f"{kind.__module__}.{kind.__qualname__}".encode())
    digest.update(of_source(type(module)).encode())
    digest.update(of_tensors(module).encode())
    return digest.hexdigest()


def of_tensors(module: nn.Module) -> str:
    """Fingerprint of a network's tensors alone, whatever code uses them."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        values = tensor.detach().cpu().contiguous()
        digest.update(f"{name}{list(values.shape)}{values.dtype}".encode())
        digest.update(values.view(-1).numpy().tobytes())
    return digest.hexdigest()


def of_source(thing: object) -> str:
    """Fingerprint of the file that a class or function was written in."""
    try:
        path = inspect.getsourcefile(inspect.unwrap(thing))  # pyright: ignore[reportArgumentType]
    except TypeError:
        return "built in"
    if path is None or not Path(path).is_file():
        return "no file"
    return sha256_of(Path(path))


_LIBRARIES = ("torch", "torchvision", "torchattacks", "numpy")
"""Packages that decide what a prediction is."""


def of_code(parts: Sequence[str] = _CODE) -> str:
    """Fingerprint of the code that makes predictions, or of other parts of ours.

    The versions of the packages that compute with it count too.
    """
    package = Path(__file__).parent
    files: list[Path] = []
    for part in parts:
        path = package / part
        files += sorted(path.rglob("*.py")) if path.is_dir() else [path]
    versions = (importlib.metadata.version(name) for name in _LIBRARIES)
    return of_texts(*(sha256_of(file) for file in files), *versions)
