"""Finished batches on disk: what a killed run has not lost.

A batch is a file named by its rows in a folder named by everything that its numbers
depend on. A file is whole or absent; one that cannot be read is computed again.
"""

import re
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from robustgen.errors import RequestError
from robustgen.evaluate import Batch
from robustgen.files import whole_file
from robustgen.table import PredictionTable, load_table, save_table
from robustgen.thumbnails import thumbnails


@dataclass(frozen=True)
class BatchStore:
    """Batches of one case on one split.

    Args:
        folder: Where they lie; its name holds the fingerprint of what they depend on.
    """

    folder: Path

    def finished(self, count: int, *, pictured: bool) -> dict[int, PredictionTable]:
        """Readable batches that together start at row 0 or later, by first row.

        Files that overlap one already taken, or that reach beyond `count` rows, are
        left out; damaged ones are removed.

        Args:
            count: Rows of the split.
            pictured: Whether the first batch counts only with its pictures.
        """
        taken: dict[int, PredictionTable] = {}
        end = 0
        for path in sorted(self.folder.glob("*.npz")):
            match = re.fullmatch(r"(\d+)-(\d+)", path.stem)
            if match is None:
                continue
            start, stop = int(match[1]), int(match[2])
            if start < end or stop > count:
                continue
            if start == 0 and pictured and not self.pictures():
                path.unlink()
                continue
            try:
                table = load_table(path)
            except RequestError:
                path.unlink()
                continue
            if len(table.sample) == stop - start:
                taken[start] = table
                end = stop
        return taken

    def save(self, start: int, batch: Batch, shown: int) -> None:
        """Writes a batch, and before it thumbnails of its first `shown` images."""
        stop = start + len(batch.table.sample)
        name = f"{start:06d}-{stop:06d}"
        if shown:
            arrays = {"attacked": thumbnails(batch.attacked[:shown])}
            if batch.reconstruction is not None:
                arrays["reconstruction"] = thumbnails(batch.reconstruction[:shown])
            if batch.views is not None:
                arrays["views"] = thumbnails(batch.views[:shown])
            path = self.folder / f"{name}.pictures"
            with whole_file(path) as temporary, temporary.open("wb") as stream:
                np.savez_compressed(stream, **arrays)  # pyright: ignore[reportArgumentType]
        save_table(batch.table, self.folder / f"{name}.npz")

    def pictures(self) -> dict[str, np.ndarray]:
        """Arrays of the first batch's pictures; empty where there are none to read."""
        for path in sorted(self.folder.glob("000000-*.pictures")):
            try:
                with path.open("rb") as stream, np.load(stream) as data:
                    return {name: data[name] for name in data.files}
            except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error):
                path.unlink()
        return {}
