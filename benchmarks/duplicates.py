"""Near-duplicates between the splits of SMILEs or MNIST: which, and how many.

    python benchmarks/duplicates.py smiles 0.92 > robustgen/data/smiles_dropped.txt
    python benchmarks/duplicates.py mnist 0.99

One line for each image to drop. As comments on stderr: how many images lie above each
of some thresholds; labels of the dropped, and how many resemble one of another label;
and every two images that are the same, with splits and labels. 15 seconds on one core.
"""

import argparse
import sys

import numpy as np

from robustgen.data import mnist, smiles
from robustgen.data.duplicates import dropped_lines, near_duplicates
from robustgen.data.stored import read_stored
from robustgen.sources import data_folder

THRESHOLDS = (0.90, 0.92, 0.94, 0.96, 0.98, 0.99, 0.999)

HEAD = "# image, its split, similarity, held-out image that it resembles, its split"


def main() -> None:
    """Reads the command line, compares, prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", choices=("smiles", "mnist"))
    parser.add_argument("threshold", type=float)
    options = parser.parse_args()
    if options.dataset == "smiles":
        stored = read_stored(
            data_folder() / smiles.FILE, smiles.SIDE, 2, fetched_as="smiles"
        )
        images = stored.images
    else:
        stored = read_stored(data_folder() / mnist.FILE, 28, 10, fetched_as="mnist")
        images = np.pad(stored.images, ((0, 0), (2, 2), (2, 2)))
    split = stored.split
    least = min(options.threshold, *THRESHOLDS)
    found = near_duplicates(images, split, threshold=least)
    chosen = [one for one in found if one.similarity >= options.threshold]
    print("\n".join((HEAD, *dropped_lines(images, split, chosen))))
    for threshold in THRESHOLDS:
        above = [str(split[o.row]) for o in found if o.similarity >= threshold]
        print(
            f"# {threshold}: {above.count('train')} train, {above.count('val')} val",
            file=sys.stderr,
        )
    labels = stored.labels
    other = sum(labels[one.row] != labels[one.held_out] for one in chosen)
    print(
        f"# {other} of {len(chosen)} with another label; their own labels: "
        f"{sorted({int(labels[one.row]) for one in chosen})}",
        file=sys.stderr,
    )
    first: dict[bytes, int] = {}
    for row, image in enumerate(images):
        same = first.setdefault(image.tobytes(), row)
        if same != row:
            print(
                f"# the same: {split[same]} {labels[same]}, {split[row]} {labels[row]}",
                file=sys.stderr,
            )


if __name__ == "__main__":
    main()
