"""What a suite calls a data set to the data set itself.

The readers take every size as an argument; the sizes come from the domain card of the
pair's generator, so that images are aligned as the generator knows them.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from robustgen.data.cars import load_cars
from robustgen.data.cats import load_cats
from robustgen.data.celebahq import load_celebahq
from robustgen.data.cifar10 import load_cifar10
from robustgen.data.dataset import Dataset
from robustgen.data.digits import load_digits
from robustgen.data.faces import DEFAULT_LABEL, load_faces
from robustgen.data.folder import load_folder
from robustgen.data.mnist import load_mnist
from robustgen.data.npz import load_npz
from robustgen.data.smiles import load_smiles
from robustgen.domain import Domain
from robustgen.errors import RequestError
from robustgen.making import make
from robustgen.plugins import Factory
from robustgen.sources import data_folder
from robustgen.suite import ImageFolder, NpzFile, Pair, Splits

CAR_GROUP = "threecars"
"""The paper's: SUV, sedan, convertible. `attribute` may name another group."""


def build_dataset(
    pair: Pair, domain: Domain | None, splits: Splits, plugins: Sequence[str]
) -> Dataset:
    """The data set of a pair.

    Args:
        pair: Names the data set and, where it has several, the attribute to predict.
        domain: Card of the generator's domain, for sizes and alignment.
        splits: Numbers of images asked for; rendered data makes no more.
        plugins: Modules whose factories may run.

    Raises:
        RequestError: files are missing or damaged, the attribute is unknown, the data
            set needs a domain card and has none, or what a factory returned is no data
            set.
    """
    asset = pair.dataset
    if isinstance(asset, Factory):
        _refuse_attribute(pair, "a factory makes its own labels; give it `args`")
        made = make(asset, "dataset", plugins)
        return _adopted(made, asset.label)
    flip = domain is not None and domain.jitter.flip
    if isinstance(asset, NpzFile):
        _refuse_attribute(pair, "the file holds its labels")
        return load_npz(Path(asset.npz), name=asset.label, flip=flip)
    if isinstance(asset, ImageFolder):
        _refuse_attribute(pair, "labels are the names of its folders")
        return load_folder(
            Path(asset.folder),
            name=asset.label,
            resolution=asset.resolution,
            flip=flip,
        )
    if asset == "faces":
        return load_faces(splits.val, splits.test, pair.attribute or DEFAULT_LABEL)
    if asset == "celebahq":
        return _celebahq(pair, _needed(domain, asset))
    if asset == "cars":
        return _cars(pair, _needed(domain, asset))
    _refuse_attribute(pair, "it has no attributes")
    if asset == "cats":
        return _cats(_needed(domain, asset))
    if asset == "cifar10":
        return _cifar10(_needed(domain, asset))
    if asset == "smiles":
        return load_smiles(data_folder())
    if asset == "mnist":
        return load_mnist(data_folder())
    return load_digits()


def _celebahq(pair: Pair, domain: Domain) -> Dataset:
    if pair.attribute is None:
        raise RequestError(
            "data set 'celebahq': which of its 40 attributes is the label? Say, for "
            "instance, `attribute: Smiling`."
        )
    return load_celebahq(
        data_folder() / "celebahq",
        attribute=pair.attribute,
        resolution=domain.resolution,
    )


def _cars(pair: Pair, domain: Domain) -> Dataset:
    content = domain.alignment.content
    if domain.alignment.method != "box_center" or content is None:
        raise RequestError(
            f"data set 'cars': the domain card '{domain.name}' does not say how cars "
            "are aligned. Expected `alignment: {method: box_center, content: [384, "
            "512], mask: canvas}`, as the card 'car' has it."
        )
    return load_cars(
        data_folder() / "cars",
        group=pair.attribute or CAR_GROUP,
        width=content[1],
        content=(content[0], content[1]),
        canvas=domain.resolution,
    )


def _cats(domain: Domain) -> Dataset:
    threshold = domain.alignment.grey_threshold
    if threshold is None:
        raise RequestError(
            f"data set 'cats': the domain card '{domain.name}' does not say which "
            "pixels are frame. Expected `alignment: {mask: grey, grey_threshold: "
            "0.02}`, as the card 'cat' has it."
        )
    return load_cats(
        data_folder() / "cats", resolution=domain.resolution, mask_threshold=threshold
    )


def _cifar10(domain: Domain) -> Dataset:
    held_out = domain.validation_images
    if held_out is None:
        raise RequestError(
            f"data set 'cifar10': the domain card '{domain.name}' does not say how "
            "many training images validate. Expected `validation_images: 5000`, as "
            "the card 'cifar10' has it."
        )
    return load_cifar10(data_folder() / "cifar10", val=held_out)


def _needed(domain: Domain | None, name: str) -> Domain:
    if domain is None:
        raise RequestError(
            f"data set '{name}': its size and alignment hang on the generator's "
            "domain. Name the card of your generator with `domain:`."
        )
    return domain


def _refuse_attribute(pair: Pair, why: str) -> None:
    if pair.attribute is not None:
        name = pair.labels[0]
        raise RequestError(
            f"data set '{name}': {why}; leave `attribute: {pair.attribute}` out."
        )


def _adopted(made: object, name: str) -> Dataset:
    """A user's object with `images`, `labels` and `split`, checked and completed."""
    if isinstance(made, Dataset):
        return made
    for attribute in ("images", "labels", "split"):
        if not hasattr(made, attribute):
            raise RequestError(
                f"data set '{name}': the factory returned {type(made).__name__} "
                f"without `{attribute}`; expected `images` [N, C, H, W] in [0, 1], "
                "`labels` [N] and `split` [N]."
            )
    images = np.asarray(getattr(made, "images"))  # noqa: B009
    labels = np.asarray(getattr(made, "labels"))  # noqa: B009
    split = np.asarray(getattr(made, "split")).astype(str)  # noqa: B009
    if images.ndim != 4:
        raise RequestError(
            f"data set '{name}': images of shape {list(images.shape)}, expected "
            "[N, C, H, W]."
        )
    if images.dtype.kind != "f":
        raise RequestError(
            f"data set '{name}': images of type {images.dtype}, expected floats in "
            "[0, 1]. Divide 8-bit images by 255."
        )
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise RequestError(
            f"data set '{name}': labels of type {labels.dtype} and shape "
            f"{list(labels.shape)}, expected whole numbers [N]."
        )
    count = int(labels.max(initial=0)) + 1
    names = getattr(made, "class_names", None) or [str(k) for k in range(count)]
    masks = getattr(made, "masks", None)
    return Dataset(
        name=name,
        images=images.astype(np.float32),
        labels=labels.astype(np.int64),
        split=split,
        index=np.arange(len(images), dtype=np.int64),
        class_names=tuple(str(n) for n in names),
        flip=bool(getattr(made, "flip", False)),
        masks=None if masks is None else np.asarray(masks, np.float32),
    )
