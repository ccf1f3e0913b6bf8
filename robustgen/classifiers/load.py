"""Classifiers from files, told apart by their content."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor, nn

from robustgen.checkpoints import (
    Checkpoint,
    load_weights,
    read_checkpoint,
    save_weights,
)
from robustgen.classifiers.attribute import attribute_from_state, is_attribute_state
from robustgen.classifiers.cat_car_resnet import (
    cat_car_from_state,
    is_cat_car_content,
    is_resnet18_state,
)
from robustgen.classifiers.cifar_resnet import (
    CIFAR10_STATISTICS,
    cifar_resnet_from_state,
    is_cifar_resnet_state,
)
from robustgen.classifiers.cnn import SmallCNN
from robustgen.classifiers.preprocess import ZERO_CENTERED
from robustgen.classifiers.states import named_tensors
from robustgen.classifiers.timm_models import timm_classifier
from robustgen.classifiers.torchvision_models import (
    torchvision_classifier,
    torchvision_names,
)
from robustgen.errors import RequestError, unknown_name
from robustgen.sources import find_weights

_KINDS: Mapping[str, str] = MappingProxyType(
    {
        "attribute": "attribute",
        "cat_car_resnet18": "resnet18",
        "cifar_resnet18": "cifar_resnet18",
        "pytorch_cifar_resnet18": "cifar_resnet18",
        "small_cnn": "small_cnn",
    }
)
"""What may be asked for, and the architecture that the file must hold then."""

_LIBRARIES = MappingProxyType(
    {"timm": timm_classifier, "torchvision": torchvision_classifier}
)
"""Packages whose architectures are named after a colon: `torchvision:resnet50`."""

_FILE = "classifier.safetensors"
_FORMAT = "robustgen.small_cnn.1"


def save_classifier(model: SmallCNN, path: Path) -> None:
    """Writes weights and configuration as a safetensors file, whole or not at all.

    The configuration is in the header, so `load_classifier` needs nothing else.
    """
    config = {
        "in_channels": model.in_channels,
        "num_classes": model.num_classes,
        "widths": model.widths,
    }
    save_weights(model, path, kind=_FORMAT, config=json.dumps(config))


def load_classifier(path_or_name: str | Path, kind: str | None = None) -> nn.Module:
    """A classifier from a file, or one that ships with robustgen.

    Without a `kind` the file is read by content: a file of `save_classifier`, or one of
    the released classifiers of face attributes, cats, cars and CIFAR-10, each with the
    normalization that it was trained with.

    Args:
        path_or_name: A file, or the name of an asset such as `faces`.
        kind: What the file must hold; None takes what is found.

            * `small_cnn`: the classifier of the assets.
            * `attribute`: StyleGAN's discriminator, from the released code.
            * `cat_car_resnet18`: torchvision's ResNet-18 on images in [-1, 1].
            * `cifar_resnet18`: ResNet-18 for 32 pixels on images in [-1, 1].
            * `pytorch_cifar_resnet18`: the same, normalized as its original repository
              does: needed for a file of kuangliu/pytorch-cifar itself.
            * `torchvision:NAME` and `timm:NAME`: any architecture of these packages,
              such as `torchvision:resnet50` or `timm:resnet18.a1_in1k`; see
              `torchvision_classifier` and `timm_classifier`. Their files say nothing
              of their normalization, so they are never guessed.

    Returns:
        Module from images in [0, 1] to logits `[N, K]`, K >= 2, on the CPU, in eval
        mode, its weights frozen.

    Raises:
        RequestError: the name or kind is unknown, or the file is missing, damaged, or
            holds something else.
    """
    library, _, architecture = (kind or "").partition(":")
    if architecture and library in _LIBRARIES:
        return _LIBRARIES[library](architecture, find_weights(path_or_name, _FILE))
    if kind is not None and kind not in _KINDS:
        raise _unknown_kind(kind)
    checkpoint = read_checkpoint(find_weights(path_or_name, _FILE))
    state = named_tensors(checkpoint)
    found = _architecture(checkpoint, state)
    if kind is None:
        kind = _kind_of(checkpoint, state, found)
    elif _KINDS[kind] != found:
        held = next(name for name, network in _KINDS.items() if network == found)
        raise RequestError(
            f"{checkpoint.path}: holds a classifier of kind '{held}', but '{kind}' was "
            "asked for."
        )
    return _build(kind, checkpoint, state)


def check_classifier(
    classifier: nn.Module, image_shape: tuple[int, int, int], name: str
) -> int:
    """Tries a classifier on two grey images and returns its number of classes.

    Args:
        classifier: The module to try; it is left in the mode it was in.
        image_shape: Channels, height and width of an image.
        name: How to call the classifier in a message.

    Raises:
        RequestError: it fails on such images, or does not give finite logits `[N, K]`
            with K >= 2.
    """
    device = next((p.device for p in classifier.parameters()), torch.device("cpu"))
    images = torch.full((2, *image_shape), 0.5, device=device)
    modes = [(module, module.training) for module in classifier.modules()]
    classifier.eval()
    try:
        with torch.no_grad():
            logits = classifier(images)
    except RuntimeError as error:
        reason = str(error).strip().splitlines() or ["no reason given"]
        raise RequestError(
            f"Classifier '{name}' cannot read images of shape {list(image_shape)}: "
            f"{reason[0]}"
        ) from error
    finally:
        for module, training in modes:
            module.training = training
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != 2:
        got = list(logits.shape) if isinstance(logits, Tensor) else type(logits)
        raise RequestError(
            f"Classifier '{name}' must give logits [N, K]; for 2 images it gave {got}."
        )
    if logits.shape[1] < 2:
        raise RequestError(
            f"Classifier '{name}' gives 1 logit for an image; one for each of 2 or "
            "more classes is needed. For a single logit l give two: [0, l]."
        )
    if not torch.isfinite(logits).all():
        raise RequestError(
            f"Classifier '{name}' gives NaN or infinity on a grey image."
        )
    return logits.shape[1]


def _unknown_kind(kind: str) -> RequestError:
    if kind in torchvision_names():
        return RequestError(
            f"Unknown kind of classifier '{kind}'. Did you mean 'torchvision:{kind}'?"
        )
    named = [f"{library}:NAME" for library in _LIBRARIES]
    return unknown_name("kind of classifier", kind, [*_KINDS, *named])


def _architecture(checkpoint: Checkpoint, state: Mapping[str, Tensor]) -> str:
    if _FORMAT in checkpoint.metadata:
        return "small_cnn"
    if is_attribute_state(state):
        return "attribute"
    if is_cifar_resnet_state(state):
        return "cifar_resnet18"
    if is_resnet18_state(state):
        return "resnet18"
    shown = ", ".join(f"'{key}'" for key in list(state)[:3])
    raise RequestError(
        f"{checkpoint.path}: no classifier that robustgen knows (its tensors begin "
        f"with {shown}). If it is torchvision's or timm's, say so by its kind, such as "
        "'torchvision:resnet50'; else give your own by `factory: module:callable`."
    )


def _kind_of(
    checkpoint: Checkpoint, state: Mapping[str, Tensor], architecture: str
) -> str:
    if architecture != "resnet18":
        return architecture
    if is_cat_car_content(checkpoint.content, state):
        return "cat_car_resnet18"
    raise RequestError(
        f"{checkpoint.path}: a ResNet-18, but how its images are normalized is not "
        "told. Say 'torchvision:resnet18' if by the statistics of ImageNet, "
        "'cat_car_resnet18' if to [-1, 1], as the kind of the classifier."
    )


def _build(kind: str, checkpoint: Checkpoint, state: Mapping[str, Tensor]) -> nn.Module:
    path = checkpoint.path
    match kind:
        case "attribute":
            return attribute_from_state(state, path)
        case "cat_car_resnet18":
            return cat_car_from_state(state, path)
        case "cifar_resnet18":
            return cifar_resnet_from_state(state, path, ZERO_CENTERED)
        case "pytorch_cifar_resnet18":
            return cifar_resnet_from_state(state, path, CIFAR10_STATISTICS)
        case _:
            return _small_cnn(checkpoint, state)


def _small_cnn(checkpoint: Checkpoint, state: Mapping[str, Tensor]) -> SmallCNN:
    try:
        config = json.loads(checkpoint.metadata[_FORMAT])
        model = SmallCNN(
            int(config["in_channels"]),
            int(config["num_classes"]),
            [int(width) for width in config["widths"]],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise RequestError(
            f"{checkpoint.path}: the configuration in the header is damaged."
        ) from error
    except RequestError as error:
        raise RequestError(f"{checkpoint.path}: {error}") from error
    load_weights(model, state, checkpoint.path)
    return model.eval().requires_grad_(False)
