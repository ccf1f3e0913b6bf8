"""Domain cards: the numbers that belong to a kind of image, as data.

A domain is what a generator makes and how its images are aligned: how many style
layers there are and which of them are coarse or fine, how strong a perturbation of a
code may be, what part of an image is picture and what is frame, how a classifier looks
at it. One YAML file each, in the folder `domains` of the package; a suite may name one
of its own for a generator that robustgen does not know.
"""

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import Field, field_validator, model_validator

from robustgen.documents import read_document
from robustgen.errors import RequestError, unknown_name
from robustgen.schema import Count, Info, Items, Name, Number, Record, fault, validate

Range: TypeAlias = Annotated[Items[int], Field(min_length=2, max_length=2)]
"""Half-open `[start, stop]`."""

Size: TypeAlias = Annotated[Items[Count], Field(min_length=2, max_length=2)]
"""`[rows, columns]`, in pixels."""

Grid: TypeAlias = Annotated[
    Items[Annotated[Number, Field(gt=0)]], Field(min_length=1, max_length=9)
]
"""Rising strengths of a perturbation."""


class LayerRanges(Record):
    """Style layers by what they set."""

    coarse: Range | None = None
    """Pose and shape."""
    middle: Range | None = None
    """Neither; never perturbed by the released code."""
    fine: Range | None = None
    """Color and texture."""


class Strengths(Record):
    """Grids of one kind of perturbation, by layer range."""

    coarse: Grid | None = None
    fine: Grid | None = None


class Views(Record):
    """How codes of this domain may vary."""

    stylemix: Items[Literal["coarse", "fine"]] = ()
    """Ranges whose codes may be replaced by those of a random image."""
    sigma: Strengths = Strengths()
    """Std of isotropic noise, in units of w."""
    beta: Strengths = Strengths()
    """Half-width of a step along a principal direction, in its stds."""


class Jitter(Record):
    """Classic variations that keep the label."""

    zoom: Annotated[Number, Field(ge=1, le=2)] = 1.0
    """Enlargement before a random crop back to size."""
    flip: bool = False
    """Whether half of the views are mirrored."""
    color: Annotated[Number, Field(ge=0, lt=1)] = 0.0
    """Half-width of the factors of brightness, contrast and saturation."""


class Alignment(Record):
    """How a file becomes an image, and which of its pixels count.

    The mask flows into both image terms of the projection loss and into the encoder.
    """

    method: Literal["none", "box_center"] = "none"
    """`box_center`: resized to the width of `content`, shifted so that the annotated
    box is in the middle, cut to `content`, laid on a grey canvas."""
    content: Size | None = None
    """Rows and columns of the canvas that hold the picture; by default all."""
    mask: Literal["none", "canvas", "grey"] = "none"
    """`canvas`: pixels of the frame do not count. `grey`: pixels whose first channel is
    within `grey_threshold` of mid-grey do not, as in the released code."""
    grey_threshold: Annotated[Number, Field(gt=0, lt=1)] | None = None
    """On the scale [-1, 1]."""

    @model_validator(mode="after")
    def _threshold_where_it_is_used(self) -> "Alignment":
        if (self.mask == "grey") != (self.grey_threshold is not None):
            raise fault("`grey_threshold` belongs to `mask: grey`, and only there.")
        if self.method == "box_center" and self.content is None:
            raise fault("method 'box_center' needs `content`.")
        return self


class ClassifierInput(Record):
    """What a classifier of this domain sees of an image, step by step."""

    crop: Size | None = None
    """Centered crop first, to rows and columns."""
    resize: Size | None = None
    """Then bilinear, to rows and columns."""
    center_crop: Count | None = None
    """Then a centered square."""


class Domain(Record):
    """One domain card."""

    version: Literal[1]
    name: Name
    about: str = ""
    resolution: Annotated[int, Field(ge=4, le=4096)]
    """Side of an image, in pixels."""
    style_layers: Annotated[int, Field(ge=1, le=64)]
    """Length of a `w_plus`."""
    classes: Annotated[int, Field(ge=0)] = 0
    """Classes that the generator is conditioned on; 0 for none."""
    layers: LayerRanges
    views: Views = Views()
    jitter: Jitter = Jitter()
    alignment: Alignment = Alignment()
    classifier_input: ClassifierInput = ClassifierInput()
    validation_images: Count | None = None
    """Images at the end of the training files that validate instead, where the data set
    comes without a validation split."""
    released_steps: Annotated[int, Field(ge=1)] | None = None
    """L-BFGS steps that callers of the released code ask for."""
    sources: dict[str, str] = Field(default_factory=dict[str, str])
    """Where each number comes from."""

    @field_validator("layers")
    @classmethod
    def _within_the_generator(cls, value: LayerRanges, info: Info) -> LayerRanges:
        last = info.data.get("style_layers", 64)
        for name in LayerRanges.model_fields:
            bounds: tuple[int, ...] | None = getattr(value, name)
            if bounds and not 0 <= bounds[0] < bounds[1] <= last:
                raise fault(
                    f"{name} [{bounds[0]}, {bounds[1]}] is no range of {last} layers."
                )
        return value

    @property
    def ranges(self) -> dict[str, tuple[int, int]]:
        """Named layer ranges, `all` included."""
        named = {
            name: (bounds[0], bounds[1])
            for name in LayerRanges.model_fields
            if (bounds := getattr(self.layers, name)) is not None
        }
        return {**named, "all": (0, self.style_layers)}

    def strength(self, kind: Literal["sigma", "beta"], layers: str) -> float | None:
        """The middle of a grid, which released training uses; None without a grid."""
        grids: Strengths = getattr(self.views, kind)
        grid: tuple[float, ...] | None = getattr(grids, layers, None)
        return None if grid is None else grid[len(grid) // 2]


def domain_names() -> list[str]:
    """Names of the domain cards that come with robustgen."""
    return sorted(path.stem for path in _FOLDER.glob("*.yaml"))


def load_domain(name: str, folder: Path | None = None) -> Domain:
    """Reads and checks one domain card.

    Args:
        name: Name of a card that comes with robustgen, or the path of a YAML file.
        folder: Folder that a relative path starts from; by default the working one.

    Raises:
        RequestError: no such card, or every fault of the file, one on each line.
    """
    if name.endswith((".yaml", ".yml")):
        path = (folder or Path()) / name
    elif name in domain_names():
        path = _FOLDER / f"{name}.yaml"
    else:
        raise unknown_name("domain", name, domain_names())
    document = read_document(path)
    domain = validate(Domain, document, document.data)
    if path.parent == _FOLDER and domain.name != path.stem:
        raise RequestError(f"{path}: is called '{domain.name}'.")
    return domain


_FOLDER = Path(__file__).parent / "domains"
