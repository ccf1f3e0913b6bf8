"""Any classifier of torchvision, from a file of its weights."""

import re
from collections.abc import Mapping
from pathlib import Path

import torch
import torchvision.models
from torch import Tensor

from robustgen.checkpoints import read_checkpoint
from robustgen.classifiers.architectures import unknown_architecture
from robustgen.classifiers.preprocess import Preprocess
from robustgen.classifiers.states import class_count, fill, named_tensors

_HEAD = re.compile(r"(fc|head|heads\.head|classifier(?:\.(\d+))?)\.weight")
_OLD_DENSE = re.compile(r"(.*denselayer\d+\.(?:norm|conv))\.([12]\..*)")


def torchvision_classifier(
    name: str,
    path: str | Path,
    *,
    resize: bool = True,
    num_classes: int | None = None,
) -> Preprocess:
    """A classifier of torchvision, normalized as torchvision's own weights are.

    Nothing is downloaded. Images are resized bilinearly, with antialiasing, so that
    their shorter side is the one that torchvision's default weights of the architecture
    are evaluated at (224 for most), and cropped to a square of that side. torchvision
    itself resizes to a little more, so that its crop cuts off the border; of a square
    image nothing is cut off here.

    Args:
        name: Architecture, such as `resnet50`.
        path: Its state dict, a torch or safetensors file; under `state_dict`, `model`
            or the like in a training checkpoint. The number of classes is read from
            the last layer, the resolution of a vision transformer from its positions.
        resize: False leaves images at their size, for a network trained on another
            resolution.
        num_classes: Number of classes to insist on; None takes any.

    Returns:
        Module from images in [0, 1] to logits `[N, K]`, on the CPU, in eval mode, its
        weights frozen.

    Raises:
        RequestError: the architecture is unknown, or the file is missing, damaged, or
            holds something else.
    """
    known = torchvision_names()
    if name not in known:
        raise unknown_architecture(
            "torchvision",
            name,
            known,
            "`torchvision.models.list_models(module=torchvision.models)`",
        )
    path = Path(path)
    state = _current_names(named_tensors(read_checkpoint(path)))
    classes = class_count(state, _last_layer(state), path, expected=num_classes)
    options = _options(name, state)
    with torch.random.fork_rng(devices=[]):
        network = torchvision.models.get_model(
            name, weights=None, num_classes=classes, **options
        )
    fill(network, state, path)
    weights = torchvision.models.get_model_weights(name)
    published = weights["DEFAULT"].transforms()
    side = options.get("image_size", published.crop_size[0])
    return (
        Preprocess(
            network,
            resize=side if resize else None,
            center_crop=side if resize else None,
            mean=published.mean,
            std=published.std,
            antialias=True,
        )
        .eval()
        .requires_grad_(False)
    )


def torchvision_names() -> list[str]:
    """Names of all classifiers of torchvision, in alphabetical order."""
    return torchvision.models.list_models(module=torchvision.models)


def _last_layer(state: Mapping[str, Tensor]) -> str:
    """Name of the last layer; `classifier.N` with the largest N where there are many.

    A file need not keep the order of the layers, so the order says nothing.
    """
    found = [
        (int(match[2] or 0), match[1])
        for key, value in state.items()
        if (match := _HEAD.fullmatch(key)) and value.ndim > 1
    ]
    return max(found)[1] if found else "fc"


def _options(name: str, state: Mapping[str, Tensor]) -> dict[str, int | bool]:
    """What torchvision sets when it loads weights of its own, or a file decides."""
    if name in ("googlenet", "inception_v3"):
        # Their weights came from TensorFlow: images normalized by ImageNet's statistics
        # are normalized anew inside.
        extra = any(key.startswith(("aux1.", "AuxLogits.")) for key in state)
        return {"transform_input": True, "init_weights": False, "aux_logits": extra}
    positions, patches = (
        state.get(key) for key in ("encoder.pos_embedding", "conv_proj.weight")
    )
    if name.startswith("vit_") and positions is not None and patches is not None:
        # One position for each patch and one for the class.
        across = round((positions.shape[-2] - 1) ** 0.5)
        return {"image_size": across * patches.shape[-1]}
    return {}


def _current_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names of torchvision's DenseNet files of 2017, as they are called today."""
    return {_OLD_DENSE.sub(r"\1\2", key): value for key, value in state.items()}
