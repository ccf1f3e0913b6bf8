"""From figures to SVG and PNG. The same figure gives the same bytes."""

import io
import re

import matplotlib as mpl
from matplotlib.figure import Figure

from robustgen.plots.style import DPI, drawing

_METADATA = dict.fromkeys(("Date", "Creator", "Format", "Type"))
_LARGEST = 1.7
"""Times its natural size: the largest that a page shows a figure."""


def svg_text(figure: Figure, name: str, title: str) -> str:
    """The figure as an SVG element to stand inside a page.

    Black becomes the page's text color and text stays text, so that the figure reads
    on light and dark pages alike. The page sets the width, up to 1.7 times the natural
    one.

    Args:
        figure: What to draw.
        name: Prefix of the element ids; each figure of a page needs its own.
        title: What the figure shows, for readers who cannot see it.
    """
    text = _svg(figure, name)
    text = text[text.index("<svg") :]
    # Inside HTML no namespace is declared, and `href` needs no prefix.
    text = re.sub(r' xmlns(:\w+)?="[^"]*"', "", text).replace("xlink:href", "href")
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", text)
    text = text.replace("#000000", "currentColor")
    # The viewBox alone sets the shape; the page sets the size.
    text = re.sub(r'<svg (.*?)width="[^"]*"', r"<svg \1", text, count=1)
    text = re.sub(r'(<svg [^>]*?)\sheight="[^"]*"', r"\1", text, count=1)
    largest = figure.get_figwidth() * 96 * _LARGEST
    head = f'<svg role="img" aria-label="{title}" style="max-width: {largest:.0f}px" '
    return text.replace("<svg ", head, 1).strip()


def svg_file(figure: Figure, name: str) -> str:
    """The figure as an SVG file of its own, on white. Text stays text.

    Args:
        figure: What to draw.
        name: Salt of the element ids.
    """
    ground = '<rect width="100%" height="100%" fill="#ffffff"/>\n'
    text = _svg(figure, name)
    start = text.index(">", text.index("<svg")) + 2
    return text[:start] + ground + text[start:]


def png_file(figure: Figure) -> bytes:
    """The figure as a PNG file of 150 dots per inch, on white."""
    buffer = io.BytesIO()
    with drawing():
        # By default the file names the version of matplotlib.
        figure.savefig(
            buffer,
            format="png",
            dpi=DPI,
            facecolor="white",
            metadata={"Software": None},
        )
    return buffer.getvalue()


def _svg(figure: Figure, name: str) -> str:
    buffer = io.StringIO()
    with drawing(), mpl.rc_context({"svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", transparent=True, metadata=_METADATA)
    return re.sub(r"\s*<metadata>.*?</metadata>", "", buffer.getvalue(), flags=re.S)
