"""Drawing with SVG: elements, scales and ticks. Knows nothing of what is drawn.

The drawings stand inside an HTML page, so they carry no namespace, and colours come from the page's
style sheet by class, so one drawing serves light, dark and paper.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, log10

CHARACTER_WIDTH_EM = 0.58  # on average, of the system's sans serif: for "does it fit?"


def number(value: float) -> str:
    """Return a coordinate to a tenth of a unit, as short as it can be."""
    text = f"{value:.1f}"
    return "0" if text == "-0.0" else text.removesuffix(".0")


def element(tag: str, content: str = "", **attributes: str | float) -> str:
    """Return an element. ``content`` is markup already; attributes are escaped.

    A trailing underscore of a name is dropped (``class_``), the others become dashes. An attribute
    with an empty text is left out.
    """
    written = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{_attribute(value)}"'
        for name, value in attributes.items()
        if value != ""
    )
    return f"<{tag}{written}>{content}</{tag}>" if content else f"<{tag}{written}/>"


def _attribute(value: str | float) -> str:
    return escape(value) if isinstance(value, str) else number(value)


def text(words: str, x: float, y: float, class_: str = "", title: str = "") -> str:
    """Return a line of text whose baseline starts at (x, y); the class may anchor it otherwise."""
    return element("text", escape(words) + tooltip(title), x=x, y=y, class_=class_)


def tooltip(words: str) -> str:
    """Return the title of an element: browsers show it on hover, readers of the page read it."""
    return f"<title>{escape(words)}</title>" if words else ""


def rect(
    x: float, y: float, width: float, height: float, class_: str, title: str = "", rx: float = 0
) -> str:
    """Return a rectangle; ``rx`` rounds its corners."""
    return element(
        "rect",
        tooltip(title),
        x=x,
        y=y,
        width=max(width, 0),
        height=max(height, 0),
        class_=class_,
        **({"rx": rx} if rx else {}),
    )


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> str:
    """Return a straight line."""
    return element("path", d=f"M{number(x1)} {number(y1)}L{number(x2)} {number(y2)}", class_=class_)


def path(parts: Sequence[str], class_: str) -> str:
    """Return one path of many parts, or nothing; thousands of marks stay one element."""
    return element("path", d="".join(parts), class_=class_) if parts else ""


def group(parts: Sequence[str], class_: str = "", **attributes: str | float) -> str:
    """Return ``parts`` as one group."""
    return element("g", "".join(parts), class_=class_, **attributes)


def fits(words: str, width: float, font_size: float = 11) -> bool:
    """Whether a line of text has room in ``width``, by estimate: fonts differ between readers."""
    return text_width(words, font_size) <= width


def text_width(words: str, font_size: float = 11) -> float:
    """Return about how wide a line of text is."""
    return len(words) * font_size * CHARACTER_WIDTH_EM


@dataclass(frozen=True, slots=True)
class Linear:
    """Maps [low, high] to [start, end]; values outside are drawn at the edge."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """Return the coordinate of ``value``."""
        part = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return self.start + part * (self.end - self.start)

    def ticks(self, about: int) -> list[float]:
        """Return round values inside the range, about as many as asked for."""
        step = nice_step(self.high - self.low, about)
        first, last = ceil(self.low / step - 1e-9), floor(self.high / step + 1e-9)
        return [index * step for index in range(first, last + 1)]


@dataclass(frozen=True, slots=True)
class Log:
    """Maps [low, high], both above 0, to [start, end] by the logarithm."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """Return the coordinate of ``value``."""
        inside = min(max(value, self.low), self.high)
        part = log10(inside / self.low) / log10(self.high / self.low)
        return self.start + part * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Return the powers of ten inside the range."""
        first, last = ceil(log10(self.low) - 1e-9), floor(log10(self.high) + 1e-9)
        return [10.0**exponent for exponent in range(first, last + 1)]


def nice_step(span: float, about: int) -> float:
    """Return 1, 2 or 5 times a power of ten that cuts ``span`` into about ``about`` pieces."""
    raw = span / max(about, 1)
    magnitude = 10.0 ** floor(log10(raw))
    return next(
        (factor * magnitude for factor in (1, 2, 5) if raw <= factor * magnitude * 1.0001),
        10 * magnitude,
    )


def nice_ceiling(value: float, about: int) -> float:
    """Return the first round tick at or above ``value``; 1 when there is nothing to show."""
    if value <= 0:
        return 1.0
    step = nice_step(value, about)
    return ceil(value / step - 1e-9) * step


def log_range(values: Sequence[float]) -> tuple[float, float]:
    """Return whole decades around ``values`` above 0; at least two decades."""
    above = [value for value in values if value > 0]
    if not above:
        return 1.0, 100.0
    low, high = 10.0 ** floor(log10(min(above))), 10.0 ** ceil(log10(max(above)))
    return (low, high) if high >= low * 100 else (low, low * 100)
