"""Commands on assets and images: `train`, `project` and `fetch`."""

import logging
from pathlib import Path
from typing import Annotated

import typer
from pydantic import TypeAdapter

from robustgen.allocator import keep_large_blocks
from robustgen.cli.completion import downloads, methods, recipes
from robustgen.cli.options import DeviceOption, Seed
from robustgen.cli.terminal import interruptible, show_progress, writable
from robustgen.errors import RequestError, unknown_name
from robustgen.projection_settings import METHODS, ProjectionSettings


def train_command(
    recipe: Annotated[
        str,
        typer.Argument(
            help="A YAML file, or an asset that ships.", autocompletion=recipes
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(help="Folder to write. [default: assets/RECIPE]")
    ] = None,
    seed: Seed = None,
    device: Annotated[
        DeviceOption, typer.Option(help="auto: cuda if there is one.")
    ] = DeviceOption.AUTO,
) -> None:
    """Trains generator, encoder and classifier assets from a recipe."""
    folder = out or Path("assets") / Path(recipe).stem
    writable(folder)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with interruptible("Checkpoints are kept; the same command continues."):
        from robustgen.devices import find_device
        from robustgen.training.train import train

        train(recipe, folder, seed, find_device(device.value))
    typer.echo(f"Written to {folder}/")


def project_command(
    images: Annotated[list[Path], typer.Argument(help="Image files.")],
    generator: Annotated[str, typer.Option(help="Name or file of a generator.")],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    encoder: Annotated[
        str | None, typer.Option(help="Name or file. [default: the generator's]")
    ] = None,
    perceptual: Annotated[
        str | None, typer.Option(help="Name or file. [default: the generator's]")
    ] = None,
    method: Annotated[
        str, typer.Option(help="See `list projectors`.", autocompletion=methods)
    ] = "hybrid",
    passes: Annotated[
        int | None,
        typer.Option(min=1, max=100_000, help="Cost bound. [default: the method's]"),
    ] = None,
    device: Annotated[
        DeviceOption, typer.Option(help="auto: cuda if there is one.")
    ] = DeviceOption.AUTO,
) -> None:
    """Projects image files: writes their codes and the pictures of these."""
    settings = _projection_settings(method, passes)
    for image in images:
        if not image.is_file():
            raise RequestError(f"{image}: no such file.")
    writable(out)
    keep_large_blocks()
    with interruptible("Nothing is lost but this image."), show_progress() as told:
        from robustgen.devices import find_device
        from robustgen.project import project_files

        found = project_files(
            images,
            generator=generator,
            settings=settings,
            out=out,
            encoder=encoder,
            perceptual=perceptual,
            device=find_device(device.value),
            progress=told,
        )
    for one in found:
        typer.echo(
            f"{one.image}: loss {one.initial_loss:.4f} -> {one.loss:.4f} in "
            f"{one.passes} passes"
        )
    typer.echo(f"Written to {out}/: codes as .safetensors, pictures as .png")


def fetch_command(
    name: Annotated[
        str,
        typer.Argument(
            help="A data set or weights, see `list`.", autocompletion=downloads
        ),
    ],
) -> None:
    """Downloads a data set or weights, as far as that may be automated."""
    again = "What was fetched is kept; the same command continues."
    with interruptible(again), show_progress() as told:
        from robustgen.fetch import fetch, fetched_lines

        fetched = fetch(name, progress=told)
    for line in fetched_lines(name, fetched):
        typer.echo(line)


def _projection_settings(method: str, passes: int | None) -> ProjectionSettings:
    """A method with its published numbers, but for the bound on its cost."""
    if method not in METHODS:
        raise unknown_name("projection method", method, METHODS)
    asked: dict[str, object] = {"method": method}
    if passes is not None:
        if method == "encoder":
            raise RequestError("--passes: method 'encoder' searches nothing.")
        asked["passes"] = passes
    return TypeAdapter[ProjectionSettings](ProjectionSettings).validate_python(asked)
