"""Reconstructions and style-mixed views of training images, for a classifier."""

from dataclasses import dataclass
from pathlib import Path

import torch
import yaml

from robustgen.assets import asset_path
from robustgen.errors import RequestError
from robustgen.gan.encoder import SplitEncoder
from robustgen.gan.load import load_encoder, load_gan
from robustgen.gan.stylegan2 import StyleGAN2
from robustgen.types import Images


@dataclass(frozen=True)
class ViewMaker:
    """Generator and encoder that turn an image into a view of it.

    Args:
        gan: Generator.
        encoder: Its encoder.
        fine_from: First fine style layer; it and those after it are mixed.
    """

    gan: StyleGAN2
    encoder: SplitEncoder
    fine_from: int

    @torch.no_grad()
    def __call__(self, images: Images, rng: torch.Generator) -> Images:
        """A third of the images as they are, a third encoded, a third mixed as well.

        Which is which is drawn for each image. Encoded means the generator's image of
        the encoder's code, without a search; mixed means that the fine layers take the
        code of a random latent.
        """
        kind = torch.randint(3, (len(images),), generator=rng).to(images.device)
        z = torch.randn(len(images), self.gan.z_dim, generator=rng).to(images.device)
        made = kind > 0
        if not made.any():
            return images
        w_plus = self.encoder(images[made]).clone()
        mixed = kind[made] == 2
        styles = self.gan.map(z[made][mixed])
        w_plus[mixed, self.fine_from :] = styles[:, None]
        output = images.clone()
        output[made] = self.gan.synthesize(w_plus).clamp(0, 1)
        return output


def load_view_maker(family: str, device: torch.device | str) -> ViewMaker:
    """The view maker of a family of assets.

    Args:
        family: Name of an asset that ships, or the folder of a trained one.
        device: Where it computes.

    Raises:
        RequestError: a file is missing, or the encoder is no split encoder.
    """
    folder = Path(family)
    if not folder.is_dir():
        folder = asset_path(family, "generator.safetensors").parent
    card = yaml.safe_load((folder / "card.yaml").read_text(encoding="utf-8"))
    encoder = load_encoder(folder / "encoder.safetensors")
    if not isinstance(encoder, SplitEncoder):
        raise RequestError(f"{folder}: its encoder is not one that `train` made.")
    return ViewMaker(
        load_gan(folder / "generator.safetensors").to(device).eval(),
        encoder.to(device).eval(),
        int(card["layers"]["fine"][0]),
    )
