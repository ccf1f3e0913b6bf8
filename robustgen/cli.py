"""The command line: `robustgen run SUITE` and its sisters.

Exit status: 0 done; 1 a gate failed; 2 the request is wrong; 3 the evaluation cannot be
trusted; 130 interrupted. What
needs torch or pandas is imported by the command that needs it, so that help, `list`
and `--dry-run` answer at once.
"""

import enum
import logging
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from pydantic import TypeAdapter

from robustgen.allocator import LARGE, keep_large_blocks
from robustgen.cost import attack_cost, duration, estimate_cost
from robustgen.errors import RequestError, RobustgenError, unknown_name
from robustgen.full_assets import full_assets
from robustgen.library import attack_names, load_attack, suite_names
from robustgen.names import EMBEDDED
from robustgen.plugins import Factory, check_plugins, require_plugin
from robustgen.projection_settings import METHODS, ProjectionSettings, max_passes
from robustgen.sources import choose_profile
from robustgen.suite import Case, Suite, load_suite, narrow, resolve_cases
from robustgen.view_settings import FAMILIES

if TYPE_CHECKING:
    from rich.console import Console

    from robustgen.report_schema import Report

app = typer.Typer(
    name="robustgen",
    help="Measures, truthfully, how much a generative defense protects a classifier.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


class ProfileOption(enum.StrEnum):
    """Which assets a run uses."""

    AUTO = "auto"
    EMBEDDED = "embedded"
    FULL = "full"


class DeviceOption(enum.StrEnum):
    """Where a run computes."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


class Kind(enum.StrEnum):
    """What `robustgen list` lists."""

    SUITES = "suites"
    ATTACKS = "attacks"
    GENERATORS = "generators"
    CLASSIFIERS = "classifiers"
    DATASETS = "datasets"
    PROJECTORS = "projectors"
    VIEWS = "views"


Seed = Annotated[
    int | None, typer.Option(min=0, max=2**63 - 1, help="Instead of the file's seed.")
]


@app.command("run")
def run_command(
    suite: Annotated[str, typer.Argument(help="A YAML file, or a shipped suite.")],
    profile: Annotated[
        ProfileOption,
        typer.Option(help="auto: full if all its files are here, else embedded."),
    ] = ProfileOption.AUTO,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder to write. [default: reports/runs/SUITE-PROFILE]"),
    ] = None,
    device: Annotated[
        DeviceOption, typer.Option(help="auto: cuda if there is one.")
    ] = DeviceOption.AUTO,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Images of each split, at most.")
    ] = None,
    seed: Seed = None,
    batch_size: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=100_000,
            help="Changes speed, no number. [default: 64, fewer from 512 px]",
        ),
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Reuse nothing from an earlier run.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the cases and the cost, and stop.")
    ] = False,
    plugin: Annotated[
        list[str] | None,
        typer.Option(metavar="MODULE", help="A module whose factories may run."),
    ] = None,
) -> None:
    """Runs a suite: attacks, projects, varies, classifies, and reports."""
    plugins = tuple(plugin or ())
    asked = narrow(load_suite(suite), seed=seed, limit=limit)
    chosen, message = choose_profile(asked, profile.value)
    typer.echo(message)
    cases = resolve_cases(asked, chosen)
    for factory in _factories(cases):
        require_plugin(factory, plugins)
    check_plugins(plugins)
    folder = out or Path("reports/runs") / f"{asked.name}-{chosen}"
    if dry_run:
        _refuse_file(folder)
        typer.echo(_dry_run_text(asked, cases, folder, batch_size))
        return
    _writable(folder)
    if any(case.domain and case.domain.resolution >= LARGE for case in cases):
        keep_large_blocks()
    again = "Finished work is kept; the same command continues."
    with _interruptible(again), _progress() as progress:
        from robustgen.rendering import terminal_table
        from robustgen.runner import run

        report = run(
            asked,
            out=folder,
            profile=profile.value,
            device=device.value,
            limit=limit,
            seed=seed,
            batch_size=batch_size,
            fresh=fresh,
            plugins=plugins,
            progress=progress,
        )
    typer.echo(terminal_table(report))
    typer.echo(f"Written to {folder}/: open report.html")
    _refuse_invalid(report)


@app.command("report")
def report_command(
    run: Annotated[Path, typer.Argument(help="Folder that a run has written.")],
) -> None:
    """Rebuilds every report file of a run from its saved tables."""
    from robustgen.rendering import terminal_table
    from robustgen.report import rebuild_report

    report = rebuild_report(run)
    typer.echo(terminal_table(report))
    typer.echo(f"Written to {run}/: open report.html")
    _refuse_invalid(report)


@app.command("attacks")
def attacks_command(
    run: Annotated[Path, typer.Argument(help="Folder that a run has written.")],
) -> None:
    """Ranks the attacks of a run by strength."""
    from robustgen.strength.rendering import strength_text
    from robustgen.strength.report import load_strength, write_strength

    strength = load_strength(run)
    write_strength(strength, run)
    typer.echo(strength_text(strength))
    typer.echo(f"Written to {run}/: attacks.md, attacks.csv, attacks.json")


@app.command("doctor")
def doctor_command(
    canaries: Annotated[
        bool,
        typer.Option("--canaries", help="Measure subjects whose truth is known."),
    ] = False,
) -> None:
    """Says what is installed, which assets are present, and which device."""
    from robustgen.doctor import doctor_text

    typer.echo(doctor_text())
    if not canaries:
        return
    with _interruptible("Nothing is lost."), _progress() as progress:
        from robustgen.canaries import canaries_text, run_canaries

        results = run_canaries(progress=progress)
    typer.echo(canaries_text(results))
    if not all(result.passed for result in results):
        raise typer.Exit(3)


@app.command("train")
def train_command(
    recipe: Annotated[str, typer.Argument(help="A YAML file, or digits or faces.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder to write. [default: assets/RECIPE]")
    ] = None,
    seed: Seed = None,
) -> None:
    """Trains generator, encoder and classifier assets from a recipe."""
    folder = out or Path("assets") / Path(recipe).stem
    _writable(folder)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with _interruptible("Checkpoints are kept; the same command continues."):
        from robustgen.training.train import train

        train(recipe, folder, seed)
    typer.echo(f"Written to {folder}/")


@app.command("project")
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
    method: Annotated[str, typer.Option(help="See `list projectors`.")] = "hybrid",
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
    _writable(out)
    keep_large_blocks()
    with _interruptible("Nothing is lost but this image."), _progress() as progress:
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
            progress=progress,
        )
    for one in found:
        typer.echo(
            f"{one.image}: loss {one.initial_loss:.4f} -> {one.loss:.4f} in "
            f"{one.passes} passes"
        )
    typer.echo(f"Written to {out}/: codes as .safetensors, pictures as .png")


@app.command("fetch")
def fetch_command(
    name: Annotated[str, typer.Argument(help="A data set or weights, see `list`.")],
) -> None:
    """Downloads a data set or weights, as far as that may be automated."""
    again = "What was fetched is kept; the same command continues."
    with _interruptible(again), _progress() as progress:
        from robustgen.fetch import fetch, fetched_lines

        fetched = fetch(name, progress=progress)
    for line in fetched_lines(name, fetched):
        typer.echo(line)


@app.command("list")
def list_command(
    kind: Annotated[Kind | None, typer.Argument(help="What to list.")] = None,
) -> None:
    """Lists what a suite may name."""
    for each in [kind] if kind else list(Kind):
        typer.echo(f"{each.value}:")
        lines = _LISTS[each]()
        width = max((len(name) for name, _ in lines), default=0)
        for name, about in lines:
            typer.echo(f"  {name:{width}}  {about}".rstrip())


@app.command("score")
def score_command(
    val: Annotated[Path, typer.Argument(help="Released .npz of the validation split.")],
    test: Annotated[Path, typer.Argument(help="Released .npz of the test split.")],
    family: Annotated[str, typer.Option(help="Views to score.")] = "stylemix_fine",
    ensemble_size: Annotated[
        int, typer.Option(min=1, help="Views of an ensemble.")
    ] = 31,
    image_crops: Annotated[
        bool, typer.Option("--image-crops", help="The protocol for cars.")
    ] = False,
) -> None:
    """Scores released prediction files by the paper's rule."""
    from robustgen.score import score_predictions

    scores = score_predictions(val, test, family, ensemble_size, image_crops)
    typer.echo(f"accuracy {scores['mean']:.4f}, standard error {scores['stderr']:.4f}")


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Runs one command and exits.

    Args:
        argv: Arguments after the program's name; by default those of the process.

    Raises:
        SystemExit: always; see the exit statuses at the head of this module.
    """
    command = typer.main.get_command(app)
    try:
        command.main(args=None if argv is None else list(argv), prog_name="robustgen")
    except RobustgenError as error:
        typer.echo(f"robustgen: {error}", err=True)
        raise SystemExit(error.exit_code) from None
    raise SystemExit(0)


def _dry_run_text(
    suite: Suite, cases: Sequence[Case], folder: Path, batch_size: int | None
) -> str:
    """The resolved cases and what they would cost."""
    first, cost = cases[0], estimate_cost(cases, batch_size=batch_size)
    projection, views = first.projection, first.views
    rows = [("case", "norm", "eps", "passes", "tier")]
    rows += [
        (
            case.name,
            case.attack.norm,
            f"{case.attack.eps:.4g}",
            str(attack_cost(case.attack)),
            case.attack.tier,
        )
        for case in cases
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    table = [
        "  " + "  ".join(f"{cell:{n}}" for cell, n in zip(row, widths, strict=True))
        for row in rows
    ]
    return "\n".join(
        (
            f"Suite {suite.name}, seed {suite.seed}: {len(cases)} cases of "
            f"{first.splits.val} validation and {first.splits.test} test images",
            *(line.rstrip() for line in table),
            f"  paths: {', '.join(first.paths)}",
            f"  projection: {projection.method}, "
            f"{max_passes(projection)} passes at most",
            f"  views: {views.count} x {views.family}, layers {views.layers}",
            f"Cost: {cost.images:,} images; passes: {cost.attack_passes:,} of attacks, "
            f"{cost.projection_passes:,} of projections",
            f"  {cost.synthesized:,} images made, {cost.classified:,} classified",
            f"  about {duration(cost.seconds)} on two CPU cores, "
            f"{cost.memory_mb / 1000:.1f} GB of memory",
            f"Would write {folder}/",
        )
    )


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


def _factories(cases: Sequence[Case]) -> list[str]:
    """Every `module:callable` that the cases would run."""
    found: list[str] = []
    for case in cases:
        pair = case.pair
        assets = (
            pair.dataset,
            pair.classifier,
            pair.defense,
            pair.generator,
            pair.encoder,
            pair.perceptual,
        )
        found += [asset.factory for asset in assets if isinstance(asset, Factory)]
        if case.attack.attack == "factory":
            found.append(case.attack.factory)
    return list(dict.fromkeys(found))


def _refuse_invalid(report: "Report") -> None:
    """Ends with status 3 where a number is no measurement."""
    invalid = report.accuracy.loc[report.accuracy["verdict"] == "INVALID"]
    if len(invalid):
        about = dict.fromkeys(
            f"{row.attack} on {row.path}" for row in invalid.itertuples(index=False)
        )
        typer.echo(
            f"robustgen: {len(invalid)} rows of accuracy.csv are INVALID "
            f"({_short(about)}): the checks in report.md say why.",
            err=True,
        )
        raise typer.Exit(3)


def _short(names: Iterable[str]) -> str:
    """At most three names."""
    listed = list(names)
    more = f" and {len(listed) - 3} more" if len(listed) > 3 else ""
    return ", ".join(listed[:3]) + more


def _refuse_file(folder: Path) -> None:
    """Refuses a folder that is a file or would lie below one."""
    try:
        existing = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    except OSError as error:
        raise RequestError(f"{folder}: cannot be used ({error.strerror}).") from error
    if not existing.is_dir():
        raise RequestError(f"{existing}: is a file; --out needs a folder.")


def _writable(folder: Path) -> None:
    """Refuses a folder that cannot be written before any work is done."""
    _refuse_file(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise RequestError(
            f"{folder}: cannot write here ({error.strerror}). "
            "Name another folder with --out."
        ) from error


@contextmanager
def _interruptible(message: str) -> Generator[None]:
    """Ctrl-C ends the command with status 130 and says what is left."""
    try:
        yield
    except KeyboardInterrupt:
        typer.echo(f"\nInterrupted. {message}", err=True)
        raise typer.Exit(130) from None


class _Bars:
    """Progress as a bar with an ETA, for a terminal."""

    def __init__(self, console: "Console") -> None:
        from rich import progress

        self.bars = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TimeElapsedColumn(),
            progress.TimeRemainingColumn(),
            console=console,
        )
        self.task: progress.TaskID | None = None

    def start(self, stage: str, total: int) -> None:
        self.task = self.bars.add_task(stage, total=total)

    def advance(self, count: int = 1) -> None:
        if self.task is not None:
            self.bars.advance(self.task, count)


class _Lines:
    """Progress as one line when a stage starts and every ten seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.stage, self.done, self.total = "", 0, 0
        self.began = self.said = clock()

    def start(self, stage: str, total: int) -> None:
        self.stage, self.done, self.total = stage, 0, total
        self.began = self.said = self.clock()
        typer.echo(f"{stage}: {total}", err=True)

    def advance(self, count: int = 1) -> None:
        self.done += count
        now = self.clock()
        if now - self.said < 10 or not self.done:
            return
        self.said = now
        left = (now - self.began) / self.done * (self.total - self.done)
        typer.echo(
            f"{self.stage}: {self.done} of {self.total}, {duration(left)} left",
            err=True,
        )


@contextmanager
def _progress() -> Generator[_Bars | _Lines]:
    """Bars on a terminal, plain lines otherwise; both on stderr."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Lines()
        return
    shown = _Bars(console)
    with shown.bars:
        yield shown


def _suite_lines() -> list[tuple[str, str]]:
    return [(name, load_suite(name).about) for name in suite_names()]


def _attack_lines() -> list[tuple[str, str]]:
    return [(name, load_attack(name).about) for name in attack_names()]


def _asset_lines(kind: str) -> list[tuple[str, str]]:
    shipped = [(name, "ships with robustgen") for name in EMBEDDED[kind]]
    return shipped + [(name, "needs a download") for name in full_assets(kind)]


_LISTS: dict[Kind, Callable[[], list[tuple[str, str]]]] = {
    Kind.SUITES: _suite_lines,
    Kind.ATTACKS: _attack_lines,
    Kind.GENERATORS: lambda: _asset_lines("generator"),
    Kind.CLASSIFIERS: lambda: _asset_lines("classifier"),
    Kind.DATASETS: lambda: _asset_lines("dataset"),
    Kind.PROJECTORS: lambda: list(METHODS.items()),
    Kind.VIEWS: lambda: list(FAMILIES.items()),
}


if __name__ == "__main__":
    sys.exit(main())
