"""What robustgen does differently from the released code, and what that changes.

    python benchmarks/departures.py
    python benchmarks/departures.py --only optimizer

Prints Markdown rows: the figure of robustgen's choice, that of the other one (of the
released code of *Ensembling with Deep Generative Views*, or of the paper's text), their
paired difference over test images with a 95% bootstrap, and the p of a sign-flip test.
Everything else is as in the suites `celebahq_smiling` (embedded) and `digits`. Nothing
is asserted, and nothing was tuned on these images.
"""

import argparse
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import MappingProxyType
from typing import TypeAlias

import numpy as np
import torch
from departures_optimizer import Progress, minimize_released
from departures_scene import (
    ATTACKS,
    PASSES,
    SEED,
    Kind,
    Scene,
    attacked,
    classify,
    decode,
    labels,
    layer_range,
    members,
    networks,
    objective_of,
    projected,
    samples,
    views,
)
from departures_scoring import (
    Members,
    Row,
    Rule,
    Tie,
    best_alphas,
    compare,
    count_of,
    image_bar,
    resample_bar,
    resampled,
    right,
    scored,
    sweep,
)
from torch import Tensor

from robustgen.assets import asset_path
from robustgen.domain import load_domain
from robustgen.seeding import numpy_rng
from robustgen.views.isotropic import isotropic_codes
from robustgen.views.pca import PcaStats, load_pca, pca_codes

Rows: TypeAlias = Iterator[Row]

BUDGETS = (8, 25, 100)
"""Passes at which the optimizers are compared."""

DIGITS_OF_OPTIMIZER = 100
"""Digits that the optimizers are compared on; 100 passes are the longest work here."""

LONGEST, LONGEST_IMAGES = 600, 16
"""Passes and images on which failed lines are counted, for the released 500 steps."""

KINDS: tuple[Kind, ...] = ("stylemix", "combined")
"""Ensembles of generated views."""

TIE_CURVES = 2000
"""Made-up curves on which the rules for tied alphas are compared."""

FAMILY_VIEWS = 8
"""Views of an image in the comparison of view families."""

RELEASED_SEED = 2
"""Seed of the global generators in the released evaluation."""


def both(limit: int | None) -> tuple[Scene, Scene]:
    """Faces and digits."""
    return Scene("faces", limit), Scene("digits", limit)


def averages(limit: int | None) -> Rows:
    """Probabilities averaged (code) or logits (paper, equation 7)."""
    logits = Rule(average="logits")
    for scene in both(limit):
        for attack in ATTACKS:
            for source in dict.fromkeys(("clean", attack)):
                test, val = (
                    members(scene, "test", attack),
                    members(scene, "val", source),
                )
                what = (
                    f"{scene.assets} {attack}, stylemix_ensemble, alpha from {source}"
                )
                yield compare(
                    "average", what, scored(test, val), scored(test, val, logits)
                )


def reconstruction(scene: Scene, attack: str, terms: str) -> np.ndarray:
    """Whether the reconstruction of each test image is classified right."""
    made = projected(scene, "test", attack, terms).images.clamp(0, 1)
    return right(classify(scene, made), labels(scene, "test"))


def terms_of(limit: int | None, *, name: str, terms: str) -> Rows:
    """Another loss of the projection."""
    for scene in both(limit):
        for attack in ATTACKS:
            yield compare(
                name,
                f"{scene.assets} {attack}, reconstruction",
                reconstruction(scene, attack, "robustgen"),
                reconstruction(scene, attack, terms),
            )


def scale(limit: int | None) -> Rows:
    """The whole loss times two: weights of the paper's text, instead of the code's."""
    scene, attack = Scene("faces", limit), "pgd"
    single = projected(scene, "test", attack)
    double = projected(scene, "test", attack, "doubled")
    moved = (single.w_plus - double.w_plus).abs().amax(dim=(1, 2)).numpy()
    yield Row(
        "scale",
        "faces pgd, robustgen's optimizer: codes that move by more than 0.001",
        "",
        count_of(moved > 1e-3),
        f"largest move {moved.max():.1e}",
    )
    budget = PASSES[scene.assets]
    found = {
        terms: minimize_released(
            *objective_of(scene, "test", attack, terms), budgets=(budget,)
        )[budget]
        for terms in ("robustgen", "doubled")
    }
    yield compare(
        "scale",
        f"faces pgd, released optimizer, {budget} passes: reconstruction",
        *(reached_right(scene, progress) for progress in found.values()),
    )
    yield compare(
        "scale",
        f"faces pgd, released optimizer, {budget} passes: final loss, halved again",
        np.array([one.loss for one in found["robustgen"]]),
        np.array([one.loss / 2 for one in found["doubled"]]),
        form=".4f",
    )


def points_right(scene: Scene, points: Tensor) -> np.ndarray:
    """Whether the pictures of flat codes [N, P] are classified right."""
    gan = networks(scene.assets).gan
    codes = points.unflatten(1, (gan.num_layers, gan.w_dim))
    made = decode(scene, codes).clamp(0, 1)
    return right(classify(scene, made), labels(scene, "test"))


def reached_right(scene: Scene, progress: list[Progress]) -> np.ndarray:
    """Whether the pictures that searches have reached are classified right."""
    return points_right(scene, torch.stack([one.point for one in progress]))


def optimizer(limit: int | None) -> Rows:
    """The released optimizer and ours at equal passes, on the same loss."""
    digits = min(limit or DIGITS_OF_OPTIMIZER, DIGITS_OF_OPTIMIZER)
    for scene in (Scene("faces", limit), Scene("digits", digits)):
        for attack in ("clean", "pgd"):
            found = minimize_released(*objective_of(scene, "test", attack), BUDGETS)
            for passes, progress in found.items():
                yield from _optimizer_rows(scene, attack, passes, progress)
            yield _stuck_row(scene, attack, max(BUDGETS), found[max(BUDGETS)])
    few = min(limit or LONGEST_IMAGES, LONGEST_IMAGES)
    for scene in (Scene("faces", few), Scene("digits", few)):
        for attack in ("clean", "pgd"):
            objective, start = objective_of(scene, "test", attack)
            found = minimize_released(objective, start, (LONGEST,))
            yield _stuck_row(scene, attack, LONGEST, found[LONGEST])


def _optimizer_rows(
    scene: Scene, attack: str, passes: int, progress: list[Progress]
) -> Rows:
    ours = projected(scene, "test", attack, passes=passes)
    label = labels(scene, "test")
    what = f"{scene.assets} {attack}, n = {len(progress)}, {passes} passes"
    theirs = np.array([one.loss for one in progress])
    yield compare(
        "optimizer", f"{what}: final loss", ours.loss.numpy(), theirs, form=".4f"
    )
    yield compare(
        "optimizer",
        f"{what}: reconstruction",
        right(classify(scene, ours.images.clamp(0, 1)), label),
        reached_right(scene, progress),
    )


def _stuck_row(scene: Scene, attack: str, passes: int, progress: list[Progress]) -> Row:
    stuck = count_of([one.repeats > 0 for one in progress])
    escaped = count_of([one.escaped for one in progress])
    wasted = sum(one.wasted for one in progress) / (passes * len(progress))
    return Row(
        "optimizer",
        f"{scene.assets} {attack}, {passes} passes: searches whose last line failed; "
        "searches that failed and went on",
        "",
        f"{stuck}; {escaped}",
        f"{wasted:.4f} of the passes in failed lines; "
        f"{np.mean([one.steps for one in progress]):.1f} steps an image",
    )


def passes(limit: int | None) -> Rows:
    """100 passes (the released code takes 200 to 500 steps) or those of the suites."""
    digits = min(limit or DIGITS_OF_OPTIMIZER, DIGITS_OF_OPTIMIZER)
    for scene in (Scene("faces", limit), Scene("digits", digits)):
        for attack in ("clean", "pgd"):
            few, many = (
                projected(scene, "test", attack, passes=count)
                for count in (None, max(BUDGETS))
            )
            label = labels(scene, "test")
            yield compare(
                "passes",
                f"{scene.assets} {attack}, n = {len(label)}, reconstruction: "
                f"{PASSES[scene.assets]} passes and {max(BUDGETS)}",
                right(classify(scene, few.images.clamp(0, 1)), label),
                right(classify(scene, many.images.clamp(0, 1)), label),
            )


def clamp(limit: int | None) -> Rows:
    """What the generator makes is classified as it is, or clamped to [0, 1]."""
    for scene in both(limit):
        made = projected(scene, "test", "clean").images
        outside = (made - made.clamp(0, 1)).abs()
        shares = (outside > 0).float().mean(dim=(1, 2, 3)).numpy()
        yield Row(
            "clamp",
            f"{scene.assets} clean, reconstruction: share of pixels outside [0, 1]",
            "0",
            f"{shares.mean():.3f}",
            f"they lie {float(outside.sum() / (outside > 0).sum()):.4f} outside",
        )
        for attack in ATTACKS:
            made = projected(scene, "test", attack).images
            label = labels(scene, "test")
            yield compare(
                "clamp",
                f"{scene.assets} {attack}, reconstruction",
                right(classify(scene, made.clamp(0, 1)), label),
                right(classify(scene, made), label),
            )
            yield compare(
                "clamp",
                f"{scene.assets} {attack}, stylemix_ensemble",
                scored(members(scene, "test", attack), members(scene, "val", "clean")),
                scored(
                    members(scene, "test", attack, "unclamped"),
                    members(scene, "val", "clean", "unclamped"),
                ),
            )


def at_both_alphas(
    name: str, what: str, ours: tuple[Members, Members], other: tuple[Members, Members]
) -> Rows:
    """Two ensembles, each with its own alphas of clean images, and both at alpha 1.

    Alphas of clean images hang on the one or two validation images that differ, so that
    the first comparison is as much one of two draws of alpha.

    Args:
        name: Which departure.
        what: Data, attack and path.
        ours: Members on test images and on clean validation images.
        other: The same for the other choice.
    """
    lowest = [
        np.linspace(0, 1, 21)[best_alphas(sweep(val, Rule()), "largest")].min()
        for _, val in (ours, other)
    ]
    yield compare(
        name,
        f"{what}, lowest alpha {lowest[0]:.2f} and {lowest[1]:.2f}",
        scored(*ours),
        scored(*other),
    )
    yield compare(
        name,
        f"{what}, alpha 1",
        *(sweep(test, Rule())[:, -1].mean(axis=0) for test, _ in (ours, other)),
    )


def combined(limit: int | None) -> Rows:
    """8 latents jittered 4 times, a shift of hue, a pool without reconstruction."""
    for scene in both(limit):
        for attack in ATTACKS:
            ours = pair(scene, attack, "combined")
            others = {
                "8 latents x 4 jitters": pair(scene, attack, "eight"),
                "no reconstruction": pair(scene, attack, "combined", first=False),
            }
            if scene.assets == "faces":
                others["hue 0.05 as well"] = pair(scene, attack, "hue")
            for change, other in others.items():
                what = f"{scene.assets} {attack}, combined_ensemble: {change}"
                yield from at_both_alphas("combined", what, ours, other)


def pair(
    scene: Scene, attack: str, kind: Kind, *, first: bool = True
) -> tuple[Members, Members]:
    """Members on attacked test images and on clean validation images."""
    return (
        members(scene, "test", attack, kind, first=first),
        members(scene, "val", "clean", kind, first=first),
    )


def control(limit: int | None) -> Rows:
    """Photographs jittered by crop or color, 32 of 32, no alpha: the released rule."""
    scene = Scene("faces", limit)
    for attack in ATTACKS:
        ours = scored(
            members(scene, "test", attack, "image"),
            members(scene, "val", "clean", "image"),
        )
        for kind in ("crop", "color"):
            made = members(scene, "test", attack, kind)
            pool = Members(made.label, made.image, made.pool[:, :32])
            theirs = sweep(pool, Rule(draw="full"))[:, -1].mean(axis=0)
            what = f"faces {attack}, image_ensemble: {kind} and flip, no alpha"
            yield compare("control", what, ours, theirs)


def families(limit: int | None) -> Rows:
    """PCA steps in eigenvalues instead of stds; noise of variance sigma."""
    scene = Scene("faces", limit)
    w_plus = projected(scene, "test", "clean").w_plus
    stats = load_pca(asset_path("faces", "pca.safetensors"))
    squared = PcaStats(stats.components, stats.stddev.square(), stats.mean)
    low, high = (float(end) for end in stats.stddev[:20].aminmax())
    yield Row(
        "families", "faces, std along the 20 directions", f"{low:.2f} to {high:.2f}", ""
    )
    index = samples(scene, "test")
    card = load_domain("faces").views
    for name in ("coarse", "fine"):
        layers = layer_range(scene, name)
        for beta in getattr(card.beta, name):
            codes = (
                pca_codes(
                    w_plus,
                    stats=one,
                    layers=layers,
                    beta=beta,
                    count=FAMILY_VIEWS,
                    seed=SEED,
                    samples=index,
                )
                for one in (stats, squared)
            )
            yield from _family_rows(scene, f"pca {name}, beta {beta:g}", *codes)
        for sigma in getattr(card.sigma, name):
            codes = (
                isotropic_codes(
                    w_plus,
                    layers=layers,
                    sigma=std,
                    count=FAMILY_VIEWS,
                    seed=SEED,
                    samples=index,
                )
                for std in (sigma, sigma**0.5)
            )
            yield from _family_rows(scene, f"isotropic {name}, sigma {sigma:g}", *codes)


def _family_rows(scene: Scene, what: str, ours: Tensor, other: Tensor) -> Rows:
    plain = projected(scene, "test", "clean").images.clamp(0, 1)
    seen = classify(scene, plain).argmax(axis=-1)
    figures: list[tuple[np.ndarray, np.ndarray]] = []
    for codes in (ours, other):
        made = decode(scene, codes).clamp(0, 1)
        change = (made - plain[:, None]).abs().mean(dim=(1, 2, 3, 4)).numpy()
        kept = (classify(scene, made).argmax(axis=-1) == seen[:, None]).mean(axis=1)
        figures.append((change, kept))
    (our_change, our_kept), (change, kept) = figures
    yield compare(
        "families",
        f"{what}: mean change of a pixel",
        our_change,
        change,
        form=".4f",
    )
    yield compare("families", f"{what}: views that keep the class", our_kept, kept)


def order(limit: int | None) -> Rows:
    """Images evaluated in reverse: one global generator, or a stream for each image."""
    scene = Scene("faces", limit)
    sigma = max(load_domain("faces").views.sigma.fine or ())
    for attack in ("clean", "pgd"):
        projection = projected(scene, "test", attack)
        lead = classify(scene, projection.images.clamp(0, 1))
        made: dict[tuple[str, str], Members] = {}
        for streams in ("own", "global"):
            for direction in ("forwards", "backwards"):
                rows = list(range(len(lead)))
                rows = rows if direction == "forwards" else rows[::-1]
                codes = torch.empty(0)
                if streams == "own":
                    index = samples(scene, "test")
                    codes = isotropic_codes(
                        projection.w_plus[rows],
                        layers=layer_range(scene, "fine"),
                        sigma=sigma,
                        count=32,
                        seed=SEED,
                        samples=[index[row] for row in rows],
                    )
                else:
                    codes = global_noise(
                        projection.w_plus[rows], layer_range(scene, "fine").start, sigma
                    )
                # Back in the order of the data set before networks see them, so that
                # nothing but the draws can differ.
                codes = codes[torch.tensor(rows).argsort()]
                logits = classify(scene, decode(scene, codes).clamp(0, 1))
                made[streams, direction] = Members(
                    labels(scene, "test"),
                    lead,
                    np.concatenate([lead[:, None], logits], axis=1),
                )
        yield from _order_rows(attack, made)


def global_noise(w_plus: Tensor, start: int, sigma: float) -> Tensor:
    """Isotropic views of the released code: noise from one generator, in order."""
    rng = torch.Generator()
    rng.manual_seed(RELEASED_SEED)
    codes = w_plus[:, None].repeat(1, 32, 1, 1)
    for row in codes:
        # It draws for all layers, then keeps some.
        row[:, start:] += sigma * torch.randn(row.shape, generator=rng)[:, start:]
    return codes


def _order_rows(attack: str, made: Mapping[tuple[str, str], Members]) -> Rows:
    for streams in ("own", "global"):
        first, second = made[streams, "forwards"], made[streams, "backwards"]
        views_changed = first.pool.argmax(axis=-1) != second.pool.argmax(axis=-1)
        scores = [sweep(one, Rule())[:, -1].mean(axis=0) for one in (first, second)]
        title = "a stream per image" if streams == "own" else "one global generator"
        counts = (
            f"{count_of(views_changed[:, 1:].ravel())} views, "
            f"{count_of(scores[0] != scores[1])} images"
        )
        yield Row(
            "order",
            f"faces {attack}, isotropic fine, {title}: classes changed by the reverse "
            "order",
            counts if streams == "own" else "",
            "" if streams == "own" else counts,
            f"accuracy {scores[0].mean():.4f} and {scores[1].mean():.4f}",
        )


def temperature(limit: int | None) -> Rows:
    """Logits doubled before the softmax: what released attribute classifiers do."""
    for scene in both(limit):
        for attack in ATTACKS:
            for kind in KINDS:
                ours = pair(scene, attack, kind)
                test, val = (
                    Members(one.label, 2 * one.image, 2 * one.pool) for one in ours
                )
                what = f"{scene.assets} {attack}, {kind}_ensemble"
                yield from at_both_alphas("temperature", what, ours, (test, val))


def draws(limit: int | None) -> Rows:
    """All members once, and all views once without the reconstruction."""
    once = Rule(draw="once")
    for scene in both(limit):
        for attack in ATTACKS:
            test, val = members(scene, "test", attack), members(scene, "val", "clean")
            ours = scored(test, val)
            what = f"{scene.assets} {attack}, stylemix_ensemble"
            yield compare(
                "draws", f"{what}: each of 33 once", ours, scored(test, val, once)
            )
            bare = [Members(m.label, m.image, m.pool[:, 1:]) for m in (test, val)]
            yield compare(
                "draws",
                f"{what}: each of 32 views once, no reconstruction",
                ours,
                scored(bare[0], bare[1], once),
            )


def alpha(limit: int | None) -> Rows:
    """Alpha from validation images under the same attack, or from clean ones."""
    for scene in both(limit):
        for attack in ("fgsm", "pgd"):
            for kind in KINDS:
                test = members(scene, "test", attack, kind)
                sources = [
                    members(scene, "val", source, kind) for source in ("clean", attack)
                ]
                found = [
                    best_alphas(sweep(val, Rule()), "largest") / 20 for val in sources
                ]
                ends = " and ".join(f"{a.min():.2f} to {a.max():.2f}" for a in found)
                yield compare(
                    "alpha",
                    f"{scene.assets} {attack}, {kind}_ensemble, alphas {ends}",
                    *(scored(test, val) for val in sources),
                )


def ties(limit: int | None) -> Rows:
    """Which of several equally good alphas wins."""
    rng = numpy_rng(SEED, "departures", "ties")
    # Curves of 21 alphas with four levels, so that some five share the best one.
    curves = rng.integers(4, size=(TIE_CURVES, 21, 1)) == np.arange(4)
    levels = curves.cumsum(axis=2) > 0
    unstable = best_alphas(levels, "quicksort") != best_alphas(levels, "largest")
    yield Row(
        "ties", "random curves: quicksort takes another alpha", "", count_of(unstable)
    )
    for scene in both(limit):
        for source, attack in (("clean", "clean"), ("clean", "pgd"), ("pgd", "pgd")):
            test, val = members(scene, "test", attack), members(scene, "val", source)
            ours = scored(test, val)
            swept = sweep(val, Rule())
            largest = best_alphas(swept, "largest")
            tied = swept.sum(axis=2) == swept.sum(axis=2).max(axis=1, keepdims=True)
            for tie in ("quicksort", "smallest"):
                rule: Tie = tie
                chosen = best_alphas(swept, rule)
                what = (
                    f"{scene.assets} {attack}, stylemix_ensemble, alpha from {source}: "
                    f"{tie}, another alpha in {count_of(chosen != largest)} resamples, "
                    f"{tied.sum(axis=1).mean():.1f} of 21 tied"
                )
                yield compare("ties", what, ours, scored(test, val, Rule(tie=rule)))


def errorbar(limit: int | None) -> Rows:
    """Std over resamples / sqrt(resamples), or the bootstrap over images."""
    for scene in both(limit):
        for attack in ATTACKS:
            test, val = members(scene, "test", attack), members(scene, "val", "clean")
            few, many = (
                resampled(test, val, Rule(resamples=count)) for count in (20, 80)
            )
            rng = numpy_rng(SEED, "departures", "errorbar", scene.assets, attack)
            ours, theirs = image_bar(few.mean(axis=0), rng), resample_bar(few)
            ratio = f"{ours / theirs:.0f} times" if theirs > 1e-9 else "no ratio"
            yield Row(
                "errorbar",
                f"{scene.assets} {attack}, stylemix_ensemble at {few.mean():.4f}",
                f"{ours:.4f}",
                f"{theirs:.4f}; of 80 resamples {resample_bar(many):.4f}",
                ratio,
            )


def seeds(limit: int | None) -> Rows:
    """Test image i takes the mixing codes of validation image i."""
    scene = Scene("faces", limit)
    first = samples(scene, "val")[0]
    for attack in ATTACKS:
        own = members(scene, "test", attack)
        shared = classify(scene, views(scene, "test", attack, first).clamp(0, 1))
        pool = np.concatenate([own.pool[:, :1], shared], axis=1)
        val = members(scene, "val", "clean")
        yield compare(
            "seeds",
            f"faces {attack}, stylemix_ensemble",
            scored(own, val),
            scored(Members(own.label, own.image, pool), val),
        )


def mask(limit: int | None) -> Rows:
    """A face on mid-gray padding: pixels of the face that count as padding."""
    scene = Scene("faces", limit)
    pixels = (attacked(scene, "test", "clean") * 255).round() / 255
    near = (2 * pixels - 1).abs() < 0.02
    first, all_three = (
        near[:, 0].float().mean(dim=(1, 2)).numpy(),
        near.all(dim=1).float().mean(dim=(1, 2)).numpy(),
    )
    yield compare(
        "mask",
        "faces, 8 bits: share of the picture taken for padding, by the first channel "
        "or by all three",
        first,
        all_three,
        form=".4f",
    )


MEASUREMENTS: Mapping[str, Callable[[int | None], Rows]] = MappingProxyType(
    {
        "average": averages,
        "latent": partial(terms_of, name="latent", terms="paper's latent term"),
        "scale": scale,
        "pixels": partial(terms_of, name="pixels", terms="pixels on [-1, 1]"),
        "optimizer": optimizer,
        "passes": passes,
        "clamp": clamp,
        "combined": combined,
        "control": control,
        "families": families,
        "order": order,
        "temperature": temperature,
        "draws": draws,
        "alpha": alpha,
        "ties": ties,
        "errorbar": errorbar,
        "seeds": seeds,
        "mask": mask,
    }
)
"""Names for `--only`, in the order in which they are printed."""

HEADER = "| name | what | robustgen | other | other - robustgen [95%] | p |"


def main() -> None:
    """Prints one table."""
    parser = argparse.ArgumentParser(description="Departures and their effect.")
    parser.add_argument("--only", choices=MEASUREMENTS, metavar="NAME")
    parser.add_argument("--limit", type=int, help="images of a split")
    arguments = parser.parse_args()
    chosen = [arguments.only] if arguments.only else list(MEASUREMENTS)
    print(HEADER, "|---" * 6 + "|", sep="\n", flush=True)
    tests: list[float] = []
    seconds: dict[str, float] = {}
    for name in chosen:
        began = time.process_time()
        for row in MEASUREMENTS[name](arguments.limit):
            print(row, flush=True)
            tests += [] if row.p is None else [row.p]
        seconds[name] = time.process_time() - began
    found = sum(p < 0.05 for p in tests)
    print(f"\n{len(tests)} tests, {found} with p < 0.05; {0.05 * len(tests):.1f} would")
    print("be expected were there no differences at all.")
    total, threads = sum(seconds.values()), torch.get_num_threads()
    print(f"{total:.0f} s of processor time, {threads} threads:")
    print(", ".join(f"{name} {value:.0f}" for name, value in seconds.items()))


if __name__ == "__main__":
    main()
