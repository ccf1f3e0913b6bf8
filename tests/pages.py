"""Folders of pictures of known content, and headless Chromium, for tests of pages."""

import dataclasses
import io
import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from robustgen.table import PredictionTable

CHROMIUM = shutil.which("chromium")

OWN_HOSTS = re.compile(r"https?://[\w.]*\.(google|googleapis|gvt1)\.com/")
"""Where Chromium itself asks for updates, whatever page is open."""

PANELS = ("image", "attacked", "difference x10", "reconstruction", "view 1", "view 2")


def rename(table: PredictionTable, dataset: str, classifier: str) -> PredictionTable:
    """The table as one about another pair."""
    key = dataclasses.replace(table.key, dataset=dataset, classifier=classifier)
    return dataclasses.replace(table, key=key)


def entry(table: PredictionTable, row: int, file: str) -> dict[str, Any]:
    """What pictures.json says about one row of a table."""
    key = table.key
    names = [
        name for name in PANELS if key.attack != "clean" or name not in PANELS[1:3]
    ]
    return {
        "file": file,
        "dataset": key.dataset,
        "classifier": key.classifier,
        "attack": key.attack,
        "tier": key.tier,
        "norm": key.norm,
        "eps": key.eps if key.eps < float("inf") else "inf",
        "target": key.target,
        "sample": int(table.sample[row]),
        "label": table.class_names[int(table.label[row])],
        "classes": list(table.class_names),
        "panels": [
            {"name": name, **({"probability": 0.25} if "view" in name else {})}
            for name in names
        ],
    }


def strip(panels: int, side: int, seed: int) -> bytes:
    """A PNG strip of noise, which no compression makes smaller."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (side, side * panels, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="png")
    return buffer.getvalue()


def write_pictures(
    folder: Path, tables: Sequence[PredictionTable], *, shown: int = 24, side: int = 4
) -> None:
    """Writes pictures.json and strips for the first rows of every test table."""
    folder.mkdir(parents=True)
    entries: list[dict[str, Any]] = []
    for table in tables:
        if table.key.split != "test":
            continue
        for row in range(min(shown, len(table.sample))):
            said = entry(table, row, f"{len(entries)}.png")
            content = strip(len(said["panels"]), side, len(entries))
            (folder / said["file"]).write_bytes(content)
            entries.append(said)
    (folder / "pictures.json").write_text(json.dumps(entries))


@dataclasses.dataclass(frozen=True)
class Browsed:
    """What Chromium made of a page.

    Args:
        dom: The document after its scripts ran, as HTML.
        console: Lines that the page wrote to the console, errors among them.
        requests: Addresses on the network that the page asked for.
    """

    dom: str
    console: tuple[str, ...]
    requests: tuple[str, ...]

    @property
    def cards(self) -> list[tuple[str, int]]:
        """Attack and sample of every card shown, in order."""
        found = re.findall(r'data-sample="(\d+)" data-attack="([^"]*)"', self.dom)
        return [(attack, int(sample)) for sample, attack in found]

    @property
    def counts(self) -> list[str]:
        """What every gallery says of how many cards match."""
        return re.findall(r"data-count=\"\">([^<]*)<", self.dom)


def browse(page: Path, work: Path, fragment: str = "", *flags: str) -> Browsed:
    """Opens a page in headless Chromium and reads it back.

    Args:
        page: The file.
        work: Folder for the profile and the log of the network.
        fragment: What stands behind `#` in the address.
        flags: Further flags of Chromium.
    """
    assert CHROMIUM is not None
    log = work / "net.json"
    done = subprocess.run(
        [
            CHROMIUM,
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-dev-shm-usage",
            "--no-first-run",
            # Nothing leaves this machine; what is asked for is logged all the same.
            "--proxy-server=127.0.0.1:9",
            f"--user-data-dir={work / 'profile'}",
            f"--log-net-log={log}",
            "--enable-logging=stderr",
            "--v=0",
            *flags,
            "--dump-dom",
            page.as_uri() + (f"#{fragment}" if fragment else ""),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    text = log.read_text(errors="replace") if log.is_file() else ""
    return Browsed(
        dom=done.stdout,
        console=tuple(line for line in done.stderr.splitlines() if "CONSOLE" in line),
        requests=tuple(
            sorted(
                url
                for url in set(re.findall(r'"url":"(https?://[^"]*)"', text))
                if not OWN_HOSTS.match(url)
            )
        ),
    )
