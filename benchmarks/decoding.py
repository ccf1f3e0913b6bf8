"""Whether the pixels of SMILEs are those that Pillow reads from its JPEG files.

    python benchmarks/decoding.py

A JPEG file that is coded again with its own quality and decoded again gives back most
of its blocks, if both times the same arithmetic decoded it. Prints the share of blocks
of 8 x 8 pixels that come back exactly: of the stored photographs; of pictures that
Pillow has decoded itself; and of pictures that no JPEG was read from.
"""

import io

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from robustgen.data import smiles
from robustgen.data.stored import read_stored
from robustgen.seeding import numpy_rng
from robustgen.sources import data_folder

QUALITY = 95
"""That of the files: of 40 to 100 it changes the fewest pixels."""

COUNT = 500


def main() -> None:
    """Codes, decodes, counts, prints."""
    stored = read_stored(
        data_folder() / smiles.FILE, smiles.SIDE, 2, fetched_as="smiles"
    )
    rng = numpy_rng(0, "decoding")
    chosen = rng.choice(len(stored.images), COUNT, replace=False)
    images = stored.images[chosen]
    # Off the grid of blocks, so that no trace of the file is left.
    moved = np.roll(images, (3, 5), (1, 2))
    own = np.stack([again(image) for image in moved])
    for name, group in (("stored", images), ("own", own), ("moved", moved)):
        share = np.mean([unchanged_blocks(image, again(image)) for image in group])
        print(f"{name:6} {share:.3f}")


def again(image: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
    """An image after a JPEG file."""
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=QUALITY)
    return np.asarray(Image.open(stream))


def unchanged_blocks(
    one: UInt8[np.ndarray, "64 64"], other: UInt8[np.ndarray, "64 64"]
) -> float:
    """Share of blocks of 8 x 8 pixels that are equal in two images."""
    return float((one == other).reshape(8, 8, 8, 8).all(axis=(1, 3)).mean())


if __name__ == "__main__":
    main()
