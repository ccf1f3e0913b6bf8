"""Finished predictions in the cache: what a killed run has not lost.

An entry holds what one batch predicted, named by the fingerprints of its images, under
the fingerprint of all else that the numbers depend on. Results belong to images, not to
batches: a run takes what it finds for its images, whichever run left it there.
"""

import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from robustgen.cache import Cache
from robustgen.errors import RequestError
from robustgen.table import (
    PredictionTable,
    join_tables,
    read_table,
    table_bytes,
    take_rows,
)

PREDICTIONS = "predictions"
PICTURES = "pictures"


@dataclass(frozen=True)
class Found:
    """A row of a finished batch."""

    table: PredictionTable
    row: int


@dataclass(frozen=True)
class PredictionStore:
    """Finished predictions of one case.

    Args:
        cache: Where they lie.
        address: Fingerprint of all that they depend on beside the image.
    """

    cache: Cache
    address: str

    def find(self, keys: Sequence[str]) -> dict[str, Found]:
        """What is finished of some images, by the fingerprint of the image.

        Entries that cannot be read are removed: their images are computed again.
        """
        entries: list[tuple[list[str], PredictionTable]] = []
        for name in self.cache.names(PREDICTIONS, self.address):
            content = self.cache.get(PREDICTIONS, self.address, name)
            if content is None:
                continue
            head, _, body = content.partition(b"\n")
            try:
                entries.append((json.loads(head), read_table(body, name)))
            except (ValueError, RequestError):
                self.cache.remove(PREDICTIONS, self.address, name)
        wanted = set(keys)
        found: dict[str, Found] = {}
        # Of images in several entries, the largest batch counts: that of a full run,
        # whatever quick looks came before or after it.
        for held, table in sorted(entries, key=lambda entry: -len(entry[0])):
            for row, key in enumerate(held):
                if key in wanted:
                    found.setdefault(key, Found(table, row))
        return found

    def save(self, keys: Sequence[str], table: PredictionTable) -> None:
        """Keeps what a batch predicted.

        Args:
            keys: Fingerprint of each image.
            table: Its rows belong to the same images, in the same order.
        """
        name = hashlib.sha256(" ".join(keys).encode()).hexdigest()[:32]
        content = json.dumps(list(keys)).encode() + b"\n" + table_bytes(table)
        self.cache.put(PREDICTIONS, self.address, name, content)

    def pictures(self, keys: Sequence[str]) -> dict[str, Mapping[str, np.ndarray]]:
        """Panels of some images as far as they are kept, by the image's fingerprint."""
        found: dict[str, Mapping[str, np.ndarray]] = {}
        for key in keys:
            content = self.cache.get(PICTURES, self.address, key)
            if content is None:
                continue
            try:
                with np.load(io.BytesIO(content), allow_pickle=False) as data:
                    found[key] = {name: data[name] for name in data.files}
            except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error):
                self.cache.remove(PICTURES, self.address, key)
        return found

    def save_pictures(
        self, keys: Sequence[str], panels: Mapping[str, np.ndarray]
    ) -> None:
        """Keeps the panels of the first images of a batch.

        Args:
            keys: Fingerprint of each image.
            panels: Arrays whose first axis is that of `keys`.
        """
        for row, key in enumerate(keys):
            stream = io.BytesIO()
            mine = {name: values[row] for name, values in panels.items()}
            np.savez_compressed(stream, **mine)  # pyright: ignore[reportArgumentType]
            self.cache.put(PICTURES, self.address, key, stream.getvalue())


def cells(count: int, batch_size: int, missing: Collection[int]) -> list[list[int]]:
    """Batches that are left to compute: those of an uninterrupted run, or none.

    A batch of which anything is missing is computed as a whole. Its numbers are then
    the same to the last bit, whatever an earlier run finished.

    >>> cells(10, 4, [2, 9])
    [[0, 1, 2, 3], [8, 9]]
    """
    batches = (
        range(start, min(start + batch_size, count))
        for start in range(0, count, batch_size)
    )
    left = set(missing)
    return [list(batch) for batch in batches if not left.isdisjoint(batch)]


def assemble(keys: Sequence[str], found: Mapping[str, Found]) -> PredictionTable:
    """The table of a whole split from rows of finished batches."""
    parts: list[tuple[PredictionTable, list[int]]] = []
    for key in keys:
        one = found[key]
        if parts and parts[-1][0] is one.table:
            parts[-1][1].append(one.row)
        else:
            parts.append((one.table, [one.row]))
    return join_tables([take_rows(table, rows) for table, rows in parts])
