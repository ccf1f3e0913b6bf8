"""Classifiers from files, told apart by their content."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from robustgen.assets import find_weights
from robustgen.checkpoints import (
    Checkpoint,
    load_weights,
    read_checkpoint,
    save_weights,
)
from robustgen.checkpoints import tensor_entries as tensors_of
from robustgen.classifiers.attribute import attribute_from_state, is_attribute_state
from robustgen.classifiers.cnn import SmallCNN
from robustgen.errors import RequestError, unknown_name

Kind: TypeAlias = Literal["small_cnn", "attribute"]
"""Networks that a file may hold."""

_KINDS = ("attribute", "small_cnn")
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

    Args:
        path_or_name: A file of `save_classifier`, a checkpoint of the released
            attribute classifiers (a torch file with `state_dict`), or the name of an
            asset such as `faces`.
        kind: `small_cnn` or `attribute`, to insist on one; None takes what the file
            holds.

    Returns:
        Module from images in [0, 1] to logits `[N, K]`, K >= 2, on the CPU, in eval
        mode, its weights frozen.

    Raises:
        RequestError: the name is unknown, or the file is missing, damaged, or holds
            something else.
    """
    if kind is not None and kind not in _KINDS:
        raise unknown_name("kind of classifier", kind, _KINDS)
    path = find_weights(path_or_name, _FILE)
    checkpoint = read_checkpoint(path)
    state = _state_dict(checkpoint)
    found = _kind_of(checkpoint, state)
    if kind is not None and kind != found:
        raise RequestError(
            f"{path}: holds a classifier of kind '{found}', but '{kind}' was asked for."
        )
    if found == "attribute":
        return attribute_from_state(state, path)
    return _small_cnn(checkpoint, state)


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


def _state_dict(checkpoint: Checkpoint) -> dict[str, Tensor]:
    content = checkpoint.content
    if isinstance(content, Mapping) and "state_dict" in content:
        content = content["state_dict"]
    state = tensors_of(content)
    if not state:
        raise RequestError(f"{checkpoint.path}: holds no named tensors.")
    return state


def _kind_of(checkpoint: Checkpoint, state: Mapping[str, Tensor]) -> Kind:
    if _FORMAT in checkpoint.metadata:
        return "small_cnn"
    if is_attribute_state(state):
        return "attribute"
    shown = ", ".join(f"'{key}'" for key in list(state)[:3])
    raise RequestError(
        f"{checkpoint.path}: no classifier that robustgen knows (its tensors begin "
        f"with {shown}). Give your own by `factory: module:callable`."
    )


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
