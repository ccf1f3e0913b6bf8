"""Encoder and generator, trained together on images alone.

No renderer parameters, no pairs, no attack-like noise; labels only where a recipe
weighs pixels by `relevance`. Two stages: an auto-encoder, then the same with a
discriminator and a cycle on images whose coarse and fine codes come from two different
images.
"""

import copy
import functools
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustgen.checkpoints import read_checkpoint
from robustgen.files import whole_file, write_text
from robustgen.gan.encoder import EncoderConfig, SplitEncoder
from robustgen.gan.stylegan2 import GanConfig, StyleGAN2
from robustgen.rngs import rng_for
from robustgen.training.discriminator import Discriminator
from robustgen.training.images import TrainingImages, relight
from robustgen.training.losses import (
    non_saturating,
    r1_penalty,
    reconstruction_loss,
)
from robustgen.training.recipe import Recipe
from robustgen.training.relevance import relevance_weights

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


def build_autoencoder(
    recipe: Recipe, device: torch.device | str = "cpu"
) -> Autoencoder:
    """Untrained networks of a recipe's sizes, the same on every device."""
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
            widths=sizes.encoder_widths,
            hidden=sizes.encoder_hidden,
        )
    )
    initialize(encoder, recipe.seed, "encoder")
    separate_codes(gan, recipe)
    gan, encoder = gan.to(device), encoder.to(device)
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
        weight.register_hook(functools.partial(_masked, keep))


def _masked(keep: Tensor, gradient: Tensor) -> Tensor:
    return gradient * keep.to(gradient.device)


def mix_codes(w: Tensor, recipe: Recipe, rng: torch.Generator) -> Tensor:
    """Each code's coarse part with the fine part of another of the batch."""
    order = torch.randperm(len(w), generator=rng).to(w.device)
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


@dataclass
class Progress:
    """Where a stage of a training stands.

    Args:
        path: Checkpoint; what it says of the course stands beside it as CSV.
        parts: What a checkpoint keeps.
        step: The next step.
        seconds: Spent, interruptions left out.
        course: One line for each checkpoint: its step and the mean of each loss over
            the steps since the last one.
    """

    path: Path
    parts: Sequence[nn.Module | torch.optim.Adam]
    step: int = 0
    seconds: float = 0.0
    course: list[dict[str, float]] = field(default_factory=list[dict[str, float]])

    def save(self, step: int, seconds: float, losses: Mapping[str, float]) -> None:
        """Writes the checkpoint and the course, both whole."""
        self.step, self.seconds = step, seconds
        self.course.append({"step": step, "seconds": round(seconds), **losses})
        state = {
            "step": step,
            "seconds": seconds,
            "states": [part.state_dict() for part in self.parts],
            "course": self.course,
        }
        with whole_file(self.path) as temporary:
            torch.save(state, temporary)
        rows = [",".join(self.course[0])]
        rows += [",".join(f"{v:.6g}" for v in line.values()) for line in self.course]
        write_text(self.path.with_suffix(".csv"), "\n".join(rows) + "\n")
        log.info(
            "%s step %d, %.0f s: %s",
            self.path.stem,
            step,
            seconds,
            ", ".join(f"{name} {value:.4f}" for name, value in losses.items()),
        )


def _resume(path: Path, parts: Sequence[nn.Module | torch.optim.Adam]) -> Progress:
    """Fills the parts from a checkpoint, if there is one."""
    if not path.exists():
        return Progress(path, parts)
    saved = read_checkpoint(path).content
    for part, state in zip(parts, saved["states"], strict=True):
        part.load_state_dict(state)
    return Progress(
        path,
        parts,
        step=int(saved["step"]),
        seconds=float(saved["seconds"]),
        course=list(saved["course"]),
    )


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
    told = _resume(folder / "stage1.pt", [model.trained, model.average, optimizer])
    weight = _pixel_weights(data, recipe)
    began, total = time.monotonic() - told.seconds, 0.0
    for step in range(told.step, stage.steps):
        warm = min(1.0, (step + 1) / stage.warmup)
        decay = min(1.0, 2 * (1 - step / stage.steps))
        optimizer.param_groups[0]["lr"] = stage.learning_rate * warm * decay
        target, seen, relit = _batch(data, recipe, stage.batch, "autoencoder", step)
        rng = rng_for(recipe.seed, "code noise", step)
        with _precision(recipe, data.device):
            w = model.encoder.styles(seen, relit=relit).float()
            w_plus = w[:, None].expand(-1, model.gan.num_layers, -1)
            noise = torch.randn(w_plus.shape, generator=rng).to(w) * stage.code_noise
            output = model.gan.synthesize(w_plus + noise)
        loss = reconstruction_loss(output.float(), target, w, weight)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.trained.parameters(), stage.clip)
        optimizer.step()
        update_average(model.average, model.trained, stage.ema)
        total += loss.item()
        if _checkpoint_due(step, stage.steps):
            count = step + 1 - told.step
            told.save(step + 1, time.monotonic() - began, {"loss": total / count})
            total = 0.0
    return told.seconds


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
    critic = critic.to(data.device)
    optimizer = torch.optim.Adam(
        model.trained.parameters(), lr=stage.learning_rate, betas=(0.5, 0.99)
    )
    critic_optimizer = torch.optim.Adam(
        critic.parameters(), lr=stage.learning_rate, betas=(0.0, 0.99)
    )
    parts = [model.trained, model.average, critic, optimizer, critic_optimizer]
    told = _resume(folder / "stage2.pt", parts)
    weight = _pixel_weights(data, recipe)
    began = time.monotonic() - told.seconds
    totals = torch.zeros(3)
    for step in range(told.step, stage.steps):
        decay = min(1.0, 2 * (1 - step / stage.steps))
        optimizer.param_groups[0]["lr"] = stage.learning_rate * decay
        critic_optimizer.param_groups[0]["lr"] = stage.learning_rate * decay
        target, seen, relit = _batch(data, recipe, stage.batch, "adversarial", step)
        rng = rng_for(recipe.seed, "mix", step)
        with _precision(recipe, data.device):
            w = model.encoder.styles(seen, relit=relit).float()
            mixed = mix_codes(w, recipe, rng)
            output = decode(model.gan, w).float()
            fake = decode(model.gan, mixed).float()

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
        with _precision(recipe, data.device):
            found = model.encoder.styles(fake).float()
        cycle = F.mse_loss(found, mixed.detach())
        pixels = reconstruction_loss(output, target, w, weight)
        loss = pixels + stage.weight * adversarial + stage.cycle * cycle
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.trained.parameters(), recipe.autoencoder.clip)
        optimizer.step()
        update_average(model.average, model.trained, stage.ema)
        totals += torch.stack([pixels, critic_loss, cycle]).detach().cpu()
        if _checkpoint_due(step, stage.steps):
            means = (totals / (step + 1 - told.step)).tolist()
            losses = {"pixels": means[0], "critic": means[1], "cycle": means[2]}
            told.save(step + 1, time.monotonic() - began, losses)
            totals.zero_()
    return told.seconds


def _batch(
    data: TrainingImages, recipe: Recipe, size: int, purpose: str, step: int
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Images of one step, what the encoder sees of them, and what its coarse part sees.

    The last two differ from the first where the recipe asks for noise or other light.
    """
    stage = recipe.autoencoder
    target, _ = data.batch(size, recipe.augmentation, recipe.seed, purpose, step)
    noise = torch.zeros(())
    if stage.input_noise:
        rng = rng_for(recipe.seed, "input noise", purpose, step)
        strength = torch.rand(size, 1, 1, 1, generator=rng) * stage.input_noise
        noise = torch.randn(target.shape, generator=rng) * strength
    seen = target + noise.to(data.device)
    if not stage.coarse_light:
        return target, seen, None
    rng = rng_for(recipe.seed, "light", purpose, step)
    relit = relight(target.cpu(), stage.coarse_light, rng) + noise
    return target, seen, relit.to(data.device)


def _pixel_weights(data: TrainingImages, recipe: Recipe) -> Tensor | None:
    strength = recipe.autoencoder.relevance
    if not strength:
        return None
    return relevance_weights(data, strength).to(data.device)


def _precision(recipe: Recipe, device: torch.device) -> torch.autocast:
    wanted = recipe.autoencoder.precision == "bfloat16"
    return torch.autocast(device.type, torch.bfloat16, enabled=wanted)


def _checkpoint_due(step: int, steps: int) -> bool:
    return (step + 1) % CHECKPOINT_EVERY == 0 or step + 1 == steps
