"""Weights that ship with the package, one folder for each asset.

The folder of an asset, such as `faces`, holds a file for each part that was trained:
`classifier.safetensors`, `generator.safetensors` and so on, and its card.
"""

from pathlib import Path

from robustgen.errors import unknown_name

_FOLDER = Path(__file__).parent


def asset_names(file: str) -> list[str]:
    """Names of the assets that have such a file, in alphabetical order."""
    return sorted(path.parent.name for path in _FOLDER.glob(f"*/{file}"))


def asset_path(name: str, file: str) -> Path:
    """Path of one file of an asset.

    Args:
        name: Name of the asset, such as `faces`.
        file: Name of the file, such as `classifier.safetensors`.

    Raises:
        RequestError: no asset of that name has such a file. The message speaks of the
            file's stem, such as "classifier", and suggests the nearest name.
    """
    known = asset_names(file)
    if name not in known:
        raise unknown_name(Path(file).stem, name, known)
    return _FOLDER / name / file
