"""The one graphic style of the report, on matplotlib: a canvas in pixels, and SVG whose text is text.

Figures are laid out in CSS pixels (72 dpi, so a point is a pixel). Text stays text and takes the page's
system fonts. matplotlib reads some SVG settings from process-wide parameters, hence the lock.
"""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from pathlib import Path
from threading import RLock
from typing import Literal

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager

INK = "#1b1f24"
MUTED = "#59626d"
LINE = "#aab2bc"
FAINT = "#e6e9ed"
PAPER = "#ffffff"
ACCENT = "#0b5a8f"
FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', 'Noto Sans', Arial, sans-serif"
PNG_FONTS = ("Inter", "Helvetica Neue", "Arial", "Liberation Sans", "Noto Sans", "DejaVu Sans")

WIDE = 720
NARROW = 350
TEXT_SIZE = 12.5
SMALL_SIZE = 11.5

_STYLE_LOCK = RLock()


@contextmanager
def style() -> Iterator[None]:
    """Apply the style; one thread at a time."""
    with (
        _STYLE_LOCK,
        matplotlib.rc_context(
            {
                "svg.fonttype": "none",
                "svg.hashsalt": "tunesmith",
                "text.parse_math": False,
                "axes.unicode_minus": True,
                "font.family": ["DejaVu Sans"],
                "axes.linewidth": 0.8,
            }
        ),
    ):
        yield


def canvas(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure whose one axes is measured in pixels from the top left."""
    figure = Figure(figsize=(width / 72, height / 72), dpi=72)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    return figure, axes


def write(
    axes: Axes,
    x: float,
    y: float,
    text: str,
    *,
    size: float = TEXT_SIZE,
    colour: str = INK,
    align: Literal["left", "center", "right"] = "left",
    bold: bool = False,
) -> None:
    """Put text with its baseline at ``y``."""
    axes.text(
        x, y, text, fontsize=size, color=colour, ha=align, va="baseline",
        fontweight="bold" if bold else "normal",
    )  # fmt: skip


def wrap(text: str, width: float, size: float = TEXT_SIZE, lines: int = 2) -> list[str]:
    """``text`` in at most ``lines`` lines of about ``width`` pixels; what is cut ends in an ellipsis."""
    characters = max(8, int(width / (0.57 * size)))
    return textwrap.wrap(text, characters, max_lines=lines, placeholder=" …") or [""]


def to_svg(figure: Figure, title: str, prefix: str) -> str:
    """The figure as an inline SVG element: scalable, titled, with ids that are unique on the page."""
    stream = io.StringIO()
    figure.savefig(
        stream, format="svg", transparent=True,
        metadata={"Date": None, "Creator": None, "Format": None, "Type": None},
    )  # fmt: skip
    text = stream.getvalue()
    view_box = re.search(r'viewBox="([^"]+)"', text)
    assert view_box is not None, "matplotlib wrote an SVG without a viewBox"
    body = text[text.index(">", text.index("<svg")) + 1 :]
    body = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", body, count=1, flags=re.DOTALL)
    body = re.sub(r"font-family: [^;\"]+; ?", "", body)
    body = re.sub(r' transform="rotate\(-0 [^"]*\)"', "", body)
    body = body.replace("xlink:href=", "href=")
    body = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}-", body)
    body = re.sub(r"\n\s*", "\n", body)
    name = escape(title, quote=True)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{view_box.group(1)}" width="100%" role="img" '
        f'aria-label="{name}" font-family="{FONTS}" stroke-linejoin="round">\n<title>{name}</title>{body}'
    ).strip()


def save_png(figure: Figure, path: Path) -> None:
    """The figure at double resolution on white."""
    figure.savefig(path, format="png", dpi=144, facecolor=PAPER, metadata={"Software": None})


def png_font() -> str:
    """The first installed font of a list that ends with the one matplotlib ships."""
    installed = {font.name for font in fontManager.ttflist}
    return next(name for name in PNG_FONTS if name in installed)
