"""`robustgen train`: a recipe to a folder of assets and their card."""

import json
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar, cast

import torch
import yaml
from torch import nn

from robustgen.assets import asset_path
from robustgen.classifiers.load import load_classifier, save_classifier
from robustgen.data.dataset import Dataset
from robustgen.data.faces import DEFAULT_LABEL, load_faces
from robustgen.errors import RequestError
from robustgen.files import sha256_of, write_text
from robustgen.gan.load import save_encoder, save_gan
from robustgen.perceptual import load_perceptual, save_perceptual
from robustgen.training.autoencoder import (
    build_autoencoder,
    train_first_stage,
    train_second_stage,
)
from robustgen.training.classifier import accuracy_under_pgd, train_classifier
from robustgen.training.images import (
    TrainingImages,
    load_training_images,
    stored_dataset,
)
from robustgen.training.mapping import fit_mapping
from robustgen.training.perceptual import train_perceptual
from robustgen.training.quality import accuracy, measure
from robustgen.training.recipe import ClassifierOnly, Recipe, load_recipe
from robustgen.views.pca import fit_gan_pca, save_pca

LICENSES = {
    "faces": "MIT, as the code: trained on images that robustgen renders itself.",
    "digits": "MIT; trained on UCI optical digits (CC BY 4.0), as scikit-learn ships.",
    "smiles": "MIT; trained on SMILEs (hromi/SMILEsmileD), photographs of persons.",
    "mnist": "MIT; trained on MNIST's test images (CC BY-SA 3.0).",
}

ABOUT_ENCODER = (
    "Split encoder: the coarse code is read from the image by convolutions, the fine "
    "code from an average-pooled thumbnail. Generator and encoder were trained "
    "together on images alone; the mapping network was fitted to the encoder's codes "
    "afterwards: mean and covariance by regression, the rest by the sliced Wasserstein "
    "distance."
)

# Keys of a recipe on which a network does not hang.
_GENERATORS = {"name", "about", "autoencoder", "adversarial", "mapping"}
_NOT_THE_PERCEPTUALS = {*_GENERATORS, "classifier"}
_NOT_THE_CLASSIFIERS = {*_GENERATORS, "generator", "perceptual"}

Network = TypeVar("Network", bound=nn.Module)

log = logging.getLogger(__name__)


def find_recipe(recipe: str | Path) -> Path:
    """A recipe file, or the recipe of an asset that ships.

    Raises:
        RequestError: neither.
    """
    path = Path(recipe)
    return path if path.suffix else asset_path(str(recipe), "recipe.yaml")


def train(
    recipe: str | Path,
    out: Path,
    seed: int | None = None,
    device: torch.device | str = "cpu",
) -> Path:
    """Trains what a recipe asks for: a whole family of assets, or a classifier alone.

    Checkpoints lie in `out/checkpoints`, with the course of the losses as CSV; the same
    call goes on from them. Images are drawn and changed on the CPU, so every device
    sees the same batches.

    Args:
        recipe: A recipe file, or the name of an asset that ships.
        out: Folder that gets the assets and `card.yaml`.
        seed: Takes the place of the recipe's seed.
        device: Where networks compute; on the CPU with as many threads as torch uses.

    Returns:
        Path of the card.

    Raises:
        RequestError: the recipe is missing or wrong, or checkpoints in `out` belong to
            another recipe.
    """
    plan = load_recipe(find_recipe(recipe))
    if seed is not None:
        plan = plan.model_copy(update={"seed": seed})
    # Layers draw their first weights from the global generator before we redraw them.
    with torch.random.fork_rng(devices=[]):
        if not isinstance(plan, Recipe):
            return _train_classifier_only(plan, out, device)
        checkpoints = out / "checkpoints"
        _claim(checkpoints, plan)
        return _train(plan, out, checkpoints, device)


def _claim(checkpoints: Path, plan: Recipe) -> None:
    # The last stages are short and start over each time: they may change.
    marker = checkpoints / "recipe.json"
    text = plan.model_dump_json(
        indent=1, exclude={"about", "mapping", "classifier", "perceptual"}
    )
    if marker.exists() and marker.read_text(encoding="utf-8") != text:
        raise RequestError(
            f"{checkpoints}: checkpoints of another recipe or seed. Choose another "
            "--out, or remove that folder."
        )
    write_text(marker, text)


def _train(
    plan: Recipe, out: Path, checkpoints: Path, device: torch.device | str
) -> Path:
    data, dataset = load_training_images(plan, device), _validation(plan)
    model = build_autoencoder(plan, device)
    seconds = {
        "autoencoder": train_first_stage(model, data, plan, checkpoints),
        "adversarial": train_second_stage(model, data, plan, checkpoints),
    }
    # The rest of the generator's part takes a minute: on the CPU, whatever the device.
    gan, encoder = model.gan_average.cpu().eval(), model.encoder_average.cpu().eval()
    began = time.monotonic()
    here = TrainingImages(data.images, data.labels)
    distance = fit_mapping(gan, encoder, here, plan)
    stored = torch.float16 if plan.generator.stored == "float16" else torch.float32
    round_weights(gan, stored)
    round_weights(encoder, stored)
    pca = fit_gan_pca(gan, seed=plan.seed, samples=plan.mapping.pca_samples)
    seconds["mapping"] = time.monotonic() - began
    classifier, seconds["classifier"] = kept(
        lambda: train_classifier(data, plan, len(dataset.class_names)).cpu(),
        checkpoints / "classifier.safetensors",
        plan.model_dump_json(exclude=_NOT_THE_CLASSIFIERS),
        save_classifier,
        load_classifier,
    )
    perceptual, seconds["perceptual"] = kept(
        lambda: train_perceptual(data, plan).cpu(),
        checkpoints / "perceptual.safetensors",
        plan.model_dump_json(exclude=_NOT_THE_PERCEPTUALS),
        save_perceptual,
        load_perceptual,
    )

    save_gan(gan, out / "generator.safetensors", stored)
    save_encoder(encoder, out / "encoder.safetensors", stored)
    save_classifier(classifier, out / "classifier.safetensors")
    save_perceptual(perceptual, out / "perceptual.safetensors")
    save_pca(pca, out / "pca.safetensors")

    figures = measure(
        gan,
        encoder,
        classifier,
        torch.from_numpy(dataset.images),
        torch.from_numpy(dataset.labels),
        plan.generator.coarse_layers,
    )
    figures["mapping_sliced_wasserstein"] = distance
    card = {
        "name": plan.name,
        "about": plan.about,
        "how": ABOUT_ENCODER,
        "license": LICENSES[plan.dataset],
        "layers": {
            "coarse": [0, plan.generator.coarse_layers],
            "fine": [plan.generator.coarse_layers, gan.num_layers],
        },
        "parameters": {
            name: sum(p.numel() for p in module.parameters())
            for name, module in (
                ("generator", gan),
                ("encoder", encoder),
                ("classifier", classifier),
                ("perceptual", perceptual),
            )
        },
        "recipe": plan.model_dump(mode="json", exclude_none=True),
        "wall_seconds": {k: round(v) for k, v in seconds.items()},
        "threads": torch.get_num_threads(),
        "quality": {
            "images": f"{len(dataset.images)} of the validation split",
            **{k: round(v, 4) for k, v in figures.items()},
        },
        "sha256": {p.name: sha256_of(p) for p in sorted(out.glob("*.safetensors"))},
    }
    return _write_card(card, out)


@torch.no_grad()
def round_weights(module: nn.Module, dtype: torch.dtype) -> None:
    """Rounds parameters and buffers in place to what a file of that type keeps."""
    for tensor in module.state_dict().values():
        tensor.copy_(tensor.to(dtype))


def kept(
    build: Callable[[], Network],
    path: Path,
    recipe: str,
    save: Callable[[Network, Path], None],
    load: Callable[[Path], nn.Module],
) -> tuple[Network, float]:
    """A network that an earlier call with the same recipe has trained, or a new one.

    Args:
        build: Trains it.
        path: Where it is kept; the recipe and the seconds stand beside it.
        recipe: All that it hangs on.
        save: Writes it.
        load: Reads what `save` wrote.

    Returns:
        The network, and the seconds that its training took.
    """
    marker = path.with_suffix(".json")
    if marker.exists() and path.exists():
        known = json.loads(marker.read_text(encoding="utf-8"))
        if known["recipe"] == recipe and known["sha256"] == sha256_of(path):
            return cast("Network", load(path)), float(known["seconds"])
    began = time.monotonic()
    network = build()
    seconds = time.monotonic() - began
    save(network, path)
    known = {"recipe": recipe, "seconds": seconds, "sha256": sha256_of(path)}
    write_text(marker, json.dumps(known, indent=1))
    return network, seconds


def _train_classifier_only(
    plan: ClassifierOnly, out: Path, device: torch.device | str
) -> Path:
    data, dataset = load_training_images(plan, device), _validation(plan)
    began = time.monotonic()
    classifier = train_classifier(data, plan, len(dataset.class_names)).cpu()
    seconds = time.monotonic() - began
    save_classifier(classifier, out / "classifier.safetensors")
    images = torch.from_numpy(dataset.images)
    labels = torch.from_numpy(dataset.labels)
    quality = {"classifier_accuracy": accuracy(classifier, images, labels)}
    attack = plan.classifier.adversarial
    if attack is not None:
        share = accuracy_under_pgd(classifier, images, labels, attack.eps, plan.seed)
        quality["accuracy_under_pgd_40"] = share
    card = {
        "name": plan.name,
        "about": plan.about,
        "license": LICENSES[plan.dataset],
        "classes": list(dataset.class_names),
        "parameters": {"classifier": sum(p.numel() for p in classifier.parameters())},
        "recipe": plan.model_dump(mode="json", exclude_none=True),
        "wall_seconds": {"classifier": round(seconds)},
        "threads": torch.get_num_threads(),
        "quality": {
            "images": f"{len(dataset.images)} of the validation split",
            **{k: round(v, 4) for k, v in quality.items()},
        },
        "sha256": {"classifier.safetensors": sha256_of(out / "classifier.safetensors")},
    }
    return _write_card(card, out)


def _validation(plan: ClassifierOnly) -> Dataset:
    if plan.dataset == "faces":
        return load_faces(val=1000, attribute=plan.attribute or DEFAULT_LABEL)
    return stored_dataset(plan.dataset).part("val")


def _write_card(card: Mapping[str, object], out: Path) -> Path:
    path = out / "card.yaml"
    write_text(path, yaml.safe_dump(dict(card), sort_keys=False, allow_unicode=True))
    log.info("wrote %s", path)
    return path
