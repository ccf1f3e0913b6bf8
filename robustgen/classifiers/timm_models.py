"""Any classifier of timm, from a file of its weights. timm is an optional package."""

from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from robustgen.checkpoints import read_checkpoint
from robustgen.classifiers.architectures import unknown_architecture
from robustgen.classifiers.preprocess import Preprocess
from robustgen.classifiers.states import class_count, fill, named_tensors
from robustgen.errors import RequestError


def timm_classifier(
    name: str,
    path: str | Path,
    *,
    resize: bool = True,
    num_classes: int | None = None,
) -> Preprocess:
    """A classifier of timm, normalized as timm's own weights of that name are.

    Nothing is downloaded. Images are resized bilinearly, with antialiasing, so that
    their shorter side is the input size of the architecture, and cropped to it.

    Args:
        name: Architecture, with or without the tag of published weights, such as
            `resnet18.a1_in1k`. The tag decides on the normalization and input size.
        path: Its state dict, a torch or safetensors file; under `state_dict` or the
            like in a training checkpoint. The number of classes is read from the last
            layer.
        resize: False leaves images at their size, for a network trained on another
            resolution.
        num_classes: Number of classes to insist on; None takes any.

    Returns:
        Module from images in [0, 1] to logits `[N, K]`, on the CPU, in eval mode, its
        weights frozen.

    Raises:
        RequestError: timm is not installed, the architecture or its tag is unknown, or
            the file is missing, damaged, or holds something else.
    """
    timm = _timm()
    config = _published_config(timm, name)
    path = Path(path)
    state = named_tensors(read_checkpoint(path))
    # Distilled networks have a second head, of as many classes.
    heads = config.classifier
    head = heads if isinstance(heads, str) else heads[0]
    classes = class_count(state, head, path, expected=num_classes)
    with torch.random.fork_rng(devices=[]):
        network = timm.create_model(name, pretrained=False, num_classes=classes)
    fill(network, state, path)
    size = config.input_size[1:]
    return (
        Preprocess(
            network,
            resize=min(size) if resize else None,
            center_crop=size if resize else None,
            mean=config.mean,
            std=config.std,
            antialias=True,
        )
        .eval()
        .requires_grad_(False)
    )


def _timm() -> ModuleType:
    try:
        import timm
    except ImportError as error:
        raise RequestError(
            "Classifiers of timm need the package timm: `pip install robustgen[timm]`."
        ) from error
    return timm


def _published_config(timm: ModuleType, name: str) -> Any:
    """What timm says of the weights that it publishes under a name."""
    architecture = name.partition(".")[0]
    # Names such as `hf-hub:...`, for which timm would go to the network, are unknown.
    if not timm.is_model(architecture):
        raise unknown_architecture(
            "timm", architecture, timm.list_models(), "`timm.list_models()`"
        )
    try:
        config = timm.models.get_pretrained_cfg(name)
    except RuntimeError as error:
        pattern = f"{architecture}.*"
        raise unknown_architecture(
            "timm",
            name,
            timm.list_pretrained(pattern),
            f"`timm.list_pretrained('{pattern}')`",
        ) from error
    if config is None or not config.classifier:
        raise RequestError(f"timm's '{name}' is no classifier: it has no last layer.")
    return config
