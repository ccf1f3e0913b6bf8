"""Encoder and generator, trained together on images alone.

No labels, no renderer parameters, no pairs, no attack-like noise. Two stages: an
auto-encoder, then the same with a discriminator and a cycle on images whose coarse and
fine codes come from two different images.
"""

import copy
import functools
import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustgen.checkpoints import read_checkpoint
from robustgen.files import whole_file
from robustgen.gan.encoder import EncoderConfig, SplitEncoder
from robustgen.gan.stylegan2 import GanConfig, StyleGAN2
from robustgen.rngs import rng_for
from robustgen.training.discriminator import Discriminator
from robustgen.training.images import TrainingImages
from robustgen.training.losses import (
    non_saturating,
    r1_penalty,
    reconstruction_loss,
)
from robustgen.training.recipe import Recipe

CHECKPOINT_EVERY = 500
"""Steps between checkpoints; a killed training loses at most these."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Autoencoder:
    """A generator and its encoder, and running averages of both."""

    gan: StyleGAN2
    encoder: SplitEncoder
    gan_average: StyleGAN2
    encoder_average: SplitEncoder

    @property
    def trained(self) -> nn.ModuleList:
        """What the optimizer moves."""
        return nn.ModuleList([self.gan, self.encoder])

    @property
    def average(self) -> nn.ModuleList:
        """What is kept."""
        return nn.ModuleList([self.gan_average, self.encoder_average])


def build_autoencoder(recipe: Recipe) -> Autoencoder:
    """Untrained networks of a recipe's sizes."""
    sizes = recipe.generator
    w_dim = sizes.coarse_dim + sizes.fine_dim
    config = GanConfig(
        resolution=sizes.resolution,
        channels=sizes.channels,
        z_dim=w_dim,
        w_dim=w_dim,
        mapping_layers=sizes.mapping_layers,
        img_channels=sizes.img_channels,
    )
    gan = StyleGAN2(config, rng_for(recipe.seed, "generator"))
    encoder = SplitEncoder(
        EncoderConfig(
            resolution=sizes.resolution,
            img_channels=sizes.img_channels,
            num_layers=config.num_layers,
            coarse_dim=sizes.coarse_dim,
            fine_dim=sizes.fine_dim,
            thumbnail=sizes.thumbnail,
        )
    )
    initialize(encoder, recipe.seed, "encoder")
    separate_codes(gan, recipe)
    return Autoencoder(gan, encoder, copy.deepcopy(gan), copy.deepcopy(encoder))


def initialize(network: nn.Module, seed: int, purpose: str) -> None:
    """Draws all weights anew (He, leaky ReLU) from their own stream; biases zero."""
    rng = rng_for(seed, "initial weights", purpose)
    for parameter in network.parameters():
        if parameter.ndim > 1:
            nn.init.kaiming_normal_(parameter, a=0.2, generator=rng)
        else:
            nn.init.zeros_(parameter)


def separate_codes(gan: StyleGAN2, recipe: Recipe) -> None:
    """Cuts coarse layers off the fine part of the code, and fine layers off the other.

    The columns are set to zero and keep a zero gradient, so they stay zero under Adam.
    """
    sizes = recipe.generator
    for code, layer in gan.styled_layers():
        keep = torch.zeros(gan.w_dim)
        if code < sizes.coarse_layers:
            keep[: sizes.coarse_dim] = 1
        else:
            keep[sizes.coarse_dim :] = 1
        weight = layer.affine.weight
        # Fewer inputs: keep the variance that the equalized gain assumes.
        weight.data.mul_(keep * (gan.w_dim / keep.sum()).sqrt())
        weight.register_hook(functools.partial(torch.mul, keep))


def mix_codes(w: Tensor, recipe: Recipe, rng: torch.Generator) -> Tensor:
    """Each code's coarse part with the fine part of another of the batch."""
    order = torch.randperm(len(w), generator=rng)
    coarse = recipe.generator.coarse_dim
    return torch.cat([w[:, :coarse], w[order][:, coarse:]], dim=1)


def decode(gan: StyleGAN2, w: Tensor) -> Tensor:
    """Images of one code per image."""
    return gan.synthesize(w[:, None].expand(-1, gan.num_layers, -1))


@torch.no_grad()
def update_average(average: nn.Module, trained: nn.Module, decay: float) -> None:
    """Exponential moving average of the parameters."""
    for mean, value in zip(average.parameters(), trained.parameters(), strict=True):
        mean.lerp_(value, 1 - decay)


def _save(
    path: Path,
    step: int,
    seconds: float,
    modules: Iterable[nn.Module | torch.optim.Adam],
) -> None:
    states = [m.state_dict() for m in modules]
    state = {"step": step, "seconds": seconds, "states": states}
    with whole_file(path) as temporary:
        torch.save(state, temporary)


def _resume(
    path: Path, modules: Iterable[nn.Module | torch.optim.Adam]
) -> tuple[int, float]:
    """Fills the modules; returns the step to go on with and the seconds spent."""
    if not path.exists():
        return 0, 0.0
    saved = read_checkpoint(path).content
    for module, state in zip(modules, saved["states"], strict=True):
        module.load_state_dict(state)
    return int(saved["step"]), float(saved["seconds"])


def train_first_stage(
    model: Autoencoder, data: TrainingImages, recipe: Recipe, folder: Path
) -> float:
    """Auto-encoding: Adam, warm-up, linear decay in the second half, clipped gradients.

    Writes checkpoints into `folder` and goes on from the last one.

    Returns:
        Seconds spent, those before an interruption included.
    """
    stage = recipe.autoencoder
    optimizer = torch.optim.Adam(
        model.trained.parameters(), lr=stage.learning_rate, betas=(0.9, 0.99)
    )
    state = [model.trained, model.average, optimizer]
    checkpoint = folder / "stage1.pt"
    start, seconds = _resume(checkpoint, state)
    began, losses = time.monotonic() - seconds, 0.0
    for step in range(start, stage.steps):
        warm = min(1.0, (step + 1) / stage.warmup)
        decay = min(1.0, 2 * (1 - step / stage.steps))
        optimizer.param_groups[0]["lr"] = stage.learning_rate * warm * decay
        target, _ = data.batch(
            stage.batch, recipe.augmentation, recipe.seed, "autoencoder", step
        )
        w = model.encoder.styles(target)
        rng = rng_for(recipe.seed, "code noise", step)
        w_plus = w[:, None].expand(-1, model.gan.num_layers, -1)
        noise = torch.randn(w_plus.shape, generator=rng) * stage.code_noise
        loss = reconstruction_loss(model.gan.synthesize(w_plus + noise), target, w)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.trained.parameters(), stage.clip)
        optimizer.step()
        update_average(model.average, model.trained, stage.ema)
        losses += loss.item()
        if (step + 1) % CHECKPOINT_EVERY == 0 or step + 1 == stage.steps:
            seconds = time.monotonic() - began
            _save(checkpoint, step + 1, seconds, state)
            log.info(
                "stage 1 step %d/%d loss %.4f, %.0f s",
                step + 1,
                stage.steps,
                losses / CHECKPOINT_EVERY,
                seconds,
            )
            losses = 0.0
    return seconds


def train_second_stage(
    model: Autoencoder, data: TrainingImages, recipe: Recipe, folder: Path
) -> float:
    """Adds a discriminator and a cycle on mixed codes to the first stage's losses.

    Starts from the running averages. The fakes are images of mixed codes; the cycle
    asks the encoder to find the mixed code in its image.

    Returns:
        Seconds spent, those before an interruption included.
    """
    stage = recipe.adversarial
    model.gan.load_state_dict(model.gan_average.state_dict())
    model.encoder.load_state_dict(model.encoder_average.state_dict())
    critic = Discriminator(recipe.generator.img_channels, recipe.generator.resolution)
    initialize(critic, recipe.seed, "discriminator")
    optimizer = torch.optim.Adam(
        model.trained.parameters(), lr=stage.learning_rate, betas=(0.5, 0.99)
    )
    critic_optimizer = torch.optim.Adam(
        critic.parameters(), lr=stage.learning_rate, betas=(0.0, 0.99)
    )
    state = [model.trained, model.average, critic, optimizer, critic_optimizer]
    checkpoint = folder / "stage2.pt"
    start, seconds = _resume(checkpoint, state)
    began = time.monotonic() - seconds
    for step in range(start, stage.steps):
        decay = min(1.0, 2 * (1 - step / stage.steps))
        optimizer.param_groups[0]["lr"] = stage.learning_rate * decay
        critic_optimizer.param_groups[0]["lr"] = stage.learning_rate * decay
        target, _ = data.batch(
            stage.batch, recipe.augmentation, recipe.seed, "adversarial", step
        )
        rng = rng_for(recipe.seed, "mix", step)
        w = model.encoder.styles(target)
        mixed = mix_codes(w, recipe, rng)
        output = decode(model.gan, w)
        fake = decode(model.gan, mixed)

        real = target.requires_grad_()
        real_logits = critic(real)
        critic_loss = non_saturating(real_logits, real=True) + non_saturating(
            critic(fake.detach()), real=False
        )
        if step % stage.r1_every == 0:
            penalty = r1_penalty(real_logits, real)
            critic_loss = critic_loss + stage.r1 / 2 * stage.r1_every * penalty
        critic_optimizer.zero_grad()
        critic_loss.backward()
        critic_optimizer.step()
        target = target.detach()

        critic.requires_grad_(False)
        adversarial = non_saturating(critic(fake), real=True)
        critic.requires_grad_(True)
        cycle = F.mse_loss(model.encoder.styles(fake), mixed.detach())
        pixels = reconstruction_loss(output, target, w)
        loss = pixels + stage.weight * adversarial + stage.cycle * cycle
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.trained.parameters(), recipe.autoencoder.clip)
        optimizer.step()
        update_average(model.average, model.trained, stage.ema)
        if (step + 1) % CHECKPOINT_EVERY == 0 or step + 1 == stage.steps:
            seconds = time.monotonic() - began
            _save(checkpoint, step + 1, seconds, state)
            log.info(
                "stage 2 step %d/%d pixels %.4f critic %.3f cycle %.4f, %.0f s",
                step + 1,
                stage.steps,
                pixels.item(),
                critic_loss.item(),
                cycle.item(),
                seconds,
            )
    return seconds
