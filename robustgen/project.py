"""Projects image files: codes and pictures of a few images, without a suite."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from robustgen.assets import asset_names
from robustgen.data.decode import read_image, squared, to_pixels
from robustgen.errors import RequestError
from robustgen.files import whole_file, write_text
from robustgen.full_assets import all_assets, asset_domain, full_assets
from robustgen.gan.latents import save_latents
from robustgen.gan.load import load_encoder, load_gan
from robustgen.names import NONE
from robustgen.perceptual import load_perceptual
from robustgen.progress import Progress, Silent
from robustgen.projection_settings import (
    ProjectionSettings,
    needs_encoder,
    needs_perceptual,
)
from robustgen.projectors.build import build_projector
from robustgen.types import Images


@dataclass(frozen=True)
class Projected:
    """One image file and what became of it.

    Args:
        image: The file.
        code: Its style codes, a file that `load_latents` reads.
        picture: The picture of the code.
        initial_loss: Loss where the search started.
        loss: Loss at the code.
        passes: Evaluations of the loss and its gradient.
    """

    image: Path
    code: Path
    picture: Path
    initial_loss: float
    loss: float
    passes: int


def project_files(
    images: Sequence[Path],
    *,
    generator: str,
    settings: ProjectionSettings,
    out: Path,
    encoder: str | None = None,
    perceptual: str | None = None,
    device: torch.device | None = None,
    progress: Progress | None = None,
) -> list[Projected]:
    """Finds the codes of image files, one image at a time.

    Writes `NAME.safetensors` (codes), `NAME.png` (their picture, clamped) and
    `projections.json` (losses and passes) into `out`.

    Args:
        images: Files of any size: the shorter side is resized to the generator's
            (LANCZOS) and the middle cut out.
        generator: Name or file of a generator.
        settings: Method of projection.
        out: Folder to write.
        encoder: Name or file; by default the one that belongs to the generator.
        perceptual: Name or file; by default that of the generator's assets, LPIPS on
            AlexNet for full ones.
        device: Where to compute; the CPU by default.
        progress: Told of every image.

    Returns:
        One entry for each image, in order.

    Raises:
        RequestError: a file or network is missing, damaged or does not fit, two
            images have the same name, or a picture would overwrite an image.
    """
    stems = [path.stem for path in images]
    twice = next((stem for stem in stems if stems.count(stem) > 1), None)
    if twice is not None:
        raise RequestError(
            f"Two images are called '{twice}': their codes would overwrite each other."
        )
    for path in images:
        if (out / f"{path.stem}.png").resolve() == path.resolve():
            raise RequestError(
                f"{path}: the picture of its code would overwrite it. Name another "
                "folder with --out."
            )
    where = device or torch.device("cpu")
    gan = load_gan(generator).to(where)
    coder = compare = None
    name = encoder or companion_network(generator, "encoder", settings)
    if name != NONE:
        coder = load_encoder(name).to(where)
    name = perceptual or companion_network(generator, "perceptual", settings)
    if name != NONE:
        compare = load_perceptual(name).to(where)
    projector = build_projector(
        settings, gan=gan, encoder=coder, perceptual=compare, seed=0
    )
    told = progress or Silent()
    told.start("project", len(images))
    found: list[Projected] = []
    for path in images:
        pixels = _pixels(path, gan.resolution, gan.img_channels).to(where)
        projection = projector(pixels)
        code, picture = out / f"{path.stem}.safetensors", out / f"{path.stem}.png"
        save_latents(projection.w_plus, code)
        _save_picture(projection.images[0].clamp(0, 1).cpu().numpy(), picture)
        found.append(
            Projected(
                image=path,
                code=code,
                picture=picture,
                initial_loss=float(projection.initial_loss[0]),
                loss=float(projection.loss[0]),
                passes=int(projection.passes[0]),
            )
        )
        told.advance()
    record = {
        "generator": generator,
        "projection": settings.model_dump(mode="json"),
        "images": [
            {
                "image": str(one.image),
                "code": one.code.name,
                "picture": one.picture.name,
                "initial_loss": one.initial_loss,
                "loss": one.loss,
                "passes": one.passes,
            }
            for one in found
        ],
    }
    write_text(out / "projections.json", json.dumps(record, indent=1) + "\n")
    return found


def companion_network(generator: str, kind: str, settings: ProjectionSettings) -> str:
    """The network that a generator is projected with unless another is named.

    Args:
        generator: Name of the generator.
        kind: `encoder` or `perceptual`.
        settings: Method of projection.

    Returns:
        A name, or `none` where the method needs none.

    Raises:
        RequestError: the method needs one, and nothing says which belongs to the
            generator.
    """
    needs = needs_encoder if kind == "encoder" else needs_perceptual
    if not needs(settings):
        return NONE
    if generator in asset_names(f"{kind}.safetensors"):
        return generator
    if generator in full_assets("generator"):
        if kind == "perceptual":
            return "lpips_alex"
        domain = asset_domain(generator)
        names = [
            asset.name
            for asset in all_assets()
            if (asset.kind, asset.domain) == ("encoder", domain)
        ]
        if names:
            return names[0]
    raise RequestError(
        f"Projection method '{settings.method}' needs {kind} weights, and none are "
        f"known for generator '{generator}'. Name them with --{kind}."
    )


def _pixels(path: Path, side: int, channels: int) -> Images:
    image = read_image(path)
    if image.size != (side, side):
        image = squared(image, side)
    pixels = torch.from_numpy(to_pixels(image))[None]
    return pixels if channels == 3 else pixels.mean(dim=1, keepdim=True)


def _save_picture(pixels: np.ndarray, path: Path) -> None:
    values = np.round(np.broadcast_to(pixels, (3, *pixels.shape[1:])) * 255)
    image = Image.fromarray(values.transpose(1, 2, 0).astype(np.uint8))
    with whole_file(path) as temporary:
        image.save(temporary, format="PNG")
