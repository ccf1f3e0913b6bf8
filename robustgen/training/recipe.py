"""Recipes: everything that decides what a training produces, as data."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from robustgen.data.faces import LABELS
from robustgen.documents import read_document
from robustgen.errors import RequestError, suggestion
from robustgen.schema import Number


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class GeneratorRecipe(_Model):
    """Sizes of the generator and its encoder.

    The code is `coarse_dim + fine_dim` long; `coarse_layers` style layers read the
    first part, the others the second.
    """

    resolution: int
    img_channels: Literal[1, 3]
    channels: tuple[int, ...]
    mapping_layers: int = 3
    coarse_dim: int
    fine_dim: int
    coarse_layers: int
    thumbnail: int = Field(
        description="Side of the thumbnail that the fine code is read from."
    )
    encoder_widths: tuple[int, ...] = (32, 64, 96, 128)
    encoder_hidden: int = 256
    stored: Literal["float32", "float16"] = Field(
        default="float32",
        description="Type of the weights in the files; figures are of the stored ones.",
    )


class AugmentationRecipe(_Model):
    """Random changes of the training images, each drawn per image and step."""

    flip: bool = False
    shift: float = Field(default=0.0, description="Largest shift, pixels.")
    rotate: float = Field(default=0.0, description="Largest rotation, degrees.")
    scale: float = Field(default=0.0, description="Largest relative change of size.")
    gain: float = Field(default=0.0, description="Largest relative darkening.")
    light: float = Field(
        default=0.0, description="Strength of tone curves, contrast and gradients."
    )
    blur: float = Field(default=0.0, description="Largest std of a blur, pixels.")
    border: Literal["zeros", "reflection"] = Field(
        default="zeros", description="What moves into the image from outside."
    )


class AutoencoderRecipe(_Model):
    """First stage: encoder and generator together, on images alone."""

    steps: int
    batch: int = 24
    learning_rate: float = 2e-3
    clip: float = 0.5
    warmup: int = 100
    code_noise: float = Field(default=0.05, description="Std of noise on the codes.")
    ema: float = 0.997
    coarse_light: float = Field(
        default=0.0,
        description="Strength of a change of light that the coarse part alone sees.",
    )
    input_noise: float = Field(
        default=0.0,
        description="Largest std of the pixel noise that the encoder alone sees.",
    )
    relevance: float = Field(
        default=0.0,
        description="Extra weight of the pixels that tell the classes apart best.",
    )
    precision: Literal["float32", "bfloat16"] = Field(
        default="float32", description="Of convolutions; parameters stay float32."
    )


class AdversarialRecipe(_Model):
    """Second stage: the first one's losses, a discriminator and a cycle."""

    steps: int
    batch: int = 24
    learning_rate: float = 5e-4
    weight: float = 0.02
    r1: float = 0.25
    r1_every: int = 8
    cycle: float = 0.1
    ema: float = 0.998


class MappingRecipe(_Model):
    """Mapping network: moments, then sliced Wasserstein distance to the codes."""

    codes: int = Field(
        default=20_000, ge=500, description="Codes that it is fitted to."
    )
    normal_steps: int = 5000
    steps: int = 500
    batch: int = 1024
    projections: int = 256
    learning_rate: float = 1e-3
    pca_samples: int = Field(
        default=100_000, description="Of M(z), for PCA statistics."
    )


class AttackedTraining(_Model):
    """Training on attacked images alone: PGD in an Linf ball (arXiv:1706.06083)."""

    eps: Annotated[Number, Field(gt=0, le=1)]
    """Radius of the ball, pixel units of [0, 1]."""
    steps: int = Field(default=7, ge=1, description="Gradient steps for each batch.")
    step_size: Annotated[Number, Field(gt=0, le=1)]
    """Length of a step; all of them together must cross the ball."""
    warmup: int = Field(
        default=0,
        ge=0,
        description="Training steps over which `eps` and `step_size` rise from 0.",
    )

    @model_validator(mode="after")
    def _crosses(self) -> "AttackedTraining":
        travel = self.steps * self.step_size
        if travel < 2 * self.eps:
            raise ValueError(
                f"{self.steps} steps of {self.step_size:.4g} travel {travel:.4g}: the "
                f"attack cannot cross its ball, 2 x eps = {2 * self.eps:.4g}."
            )
        return self


class ClassifierRecipe(_Model):
    """An ordinary, undefended classifier, unless it says `adversarial`.

    `views_of` makes it the classifier of a defense (`-Rec` of arXiv:1805.06605).
    """

    steps: int
    batch: int = 64
    learning_rate: float = 2e-3
    widths: tuple[int, int, int] = (32, 64, 96)
    weight_decay: float = 1e-4
    augmentation: AugmentationRecipe | None = Field(
        default=None, description="Instead of the recipe's, for the classifier alone."
    )
    balanced: bool = Field(
        default=False, description="Whether each class weighs the same in the loss."
    )
    views_of: str | None = Field(
        default=None,
        description="Family of assets, or its folder, whose reconstructions and "
        "style-mixed views take the place of two thirds of the images.",
    )
    adversarial: AttackedTraining | None = None


class PerceptualRecipe(_Model):
    """Instance discrimination (arXiv:2002.05709) on the training images."""

    steps: int
    batch: int = 128
    learning_rate: float = 1e-3
    temperature: float = 0.2
    noise: float = Field(
        default=0.06, description="Std of the pixel noise on both views."
    )
    widths: tuple[int, int, int] = (16, 32, 48)


class ClassifierOnly(_Model):
    """A classifier alone, for a data set whose generator is there already."""

    name: str
    about: str
    dataset: Literal["digits", "faces", "smiles", "mnist"]
    attribute: str | None = Field(
        default=None, description="What faces are labeled by; smiling by default."
    )
    images: int = Field(description="Training images; all where the data has fewer.")
    seed: int
    augmentation: AugmentationRecipe
    classifier: ClassifierRecipe

    @model_validator(mode="after")
    def _known_attribute(self) -> "ClassifierOnly":
        known = LABELS if self.dataset == "faces" else ()
        if self.attribute is not None and self.attribute not in known:
            raise ValueError(
                f"attribute: data set '{self.dataset}' has no '{self.attribute}'. "
                f"{suggestion(self.attribute, known)}"
            )
        return self


class Recipe(ClassifierOnly):
    """One family of assets: generator, encoder, classifier, perceptual network."""

    generator: GeneratorRecipe
    autoencoder: AutoencoderRecipe
    adversarial: AdversarialRecipe
    mapping: MappingRecipe
    perceptual: PerceptualRecipe


def load_recipe(path: Path) -> Recipe | ClassifierOnly:
    """Reads a recipe; one without `generator` trains a classifier alone.

    Raises:
        RequestError: the file is missing, no YAML, or has unknown or wrong entries,
            all of which the message lists.
    """
    data = read_document(path).data
    model = Recipe if "generator" in data else ClassifierOnly
    try:
        return model.model_validate(data)
    except ValidationError as error:
        faults = "\n".join(
            f"{path}: {'.'.join(str(p) for p in e['loc'])}: {e['msg']}"
            for e in error.errors()
        )
        raise RequestError(faults) from error
