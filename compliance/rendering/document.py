"""The report's HTML page as a list of blocks, which is what the typesetter is given.

There is one account of a report, `audits.render.html`, and it is a pure function of the signed payload. What is
printed is read from that page, so that the two can't come to say different things. The page is our own and well
formed; an element that is not known here stops the rendering instead of being left out.
"""

import re
from collections.abc import Iterator
from functools import cache
from importlib import resources
from typing import Any
from xml.etree import ElementTree as ET

from audits.render import html

_SVG = "http://www.w3.org/2000/svg"
_FONT = "Libertinus Serif"
_SIGNS = {ord("✕"): "×"}  # noqa: RUF001 - the typesetter's fonts have no cross, and a multiplication sign is read as one
_INLINE = {"strong": "strong", "code": "code", "span": "", "b": "strong"}
_LONG = re.compile(r"[0-9a-f]{32,}")
_RULE = re.compile(r"(\.chart [^{}]+)\{([^}]*)\}")
_COLOUR = re.compile(r"--(\w+): (#[0-9a-f]{6})")


def read(payload: bytes) -> dict[str, Any]:
    """Title, and blocks in reading order, of the page of a verified payload; JSON all through.

    VerificationError when the payload is no report.
    """
    page = html.page(payload).decode().translate(_SIGNS)
    title = ET.fromstring(page[page.index("<title>") : page.index("</title>")] + "</title>").text  # noqa: S314
    # Our own page, without a document type: there is no entity to expand and nothing to fetch.
    main = ET.fromstring(page[page.index("<main>") : page.index("</main>")] + "</main>")  # noqa: S314
    return {"title": title, "blocks": [block for child in main for block in _blocks(child)]}


def _blocks(element: ET.Element) -> Iterator[dict[str, Any]]:
    """The blocks of one element of the page."""
    tag, kind = element.tag, element.get("class", "")
    match tag:
        case "header" | "section" | "div" | "figure":
            yield from (block for child in element for block in _blocks(child))
        case "dl":
            yield {"kind": "facts", "pairs": [[_text(name), _text(value)] for name, value in element]}
        case "article":
            yield {"kind": "card", "blocks": [block for child in element for block in _blocks(child)]}
        case "h1" | "h2" | "h3":
            yield {"kind": tag, "runs": _runs(element)}
        case "p" | "pre" | "figcaption":
            yield {"kind": "pre" if tag == "pre" else "p", "look": kind, "runs": _runs(element)}
        case "ul" | "ol":
            yield {"kind": "list", "items": [_runs(one) for one in element]}
        case "table":
            yield _table(element, kind)
        case "svg":
            yield {"kind": "picture", "svg": _svg(element), "told": element.get("aria-label", "")}
        case _:
            raise ValueError(f"The page holds an element that can't be printed: {tag}.")


def _table(element: ET.Element, kind: str) -> dict[str, Any]:
    caption = element.find("caption")
    rows = [[_cell(cell) for cell in row] for part in element if part.tag in ("thead", "tbody") for row in part]
    head = 0 if element.find("thead") is None else 1
    return {
        "kind": "table",
        "look": kind.partition(" ")[0],
        "caption": "" if caption is None else _text(caption),
        "head": head,
        "rows": rows,
    }


def _cell(cell: ET.Element) -> dict[str, Any]:
    return {"look": cell.get("class", ""), "head": cell.tag == "th", "runs": _runs(cell)}


def _runs(element: ET.Element, style: str = "") -> list[list[str]]:
    """Text with its style, in order: [[style, text], ...]; long digests are code wherever they stand."""
    runs = list(_styled(element.text, style))
    for child in element:
        if child.tag not in _INLINE:
            raise ValueError(f"The page holds an element that can't be printed in a line: {child.tag}.")
        runs += _runs(child, _INLINE[child.tag] or _outcome(child) or style)
        runs += _styled(child.tail, style)
    return runs


def _outcome(child: ET.Element) -> str:
    """A gate's outcome has its colour besides its sign and its word; a key to a picture has its line."""
    first, _, which = child.get("class", "").partition(" ")
    return {"outcome": which, "swatch": which or first}.get(first, "")


def _styled(text: str | None, style: str) -> Iterator[list[str]]:
    start = 0
    for found in _LONG.finditer(text or ""):
        yield [style, (text or "")[start : found.start()]]
        yield ["code", found.group()]
        start = found.end()
    yield [style, (text or "")[start:]]


def _text(element: ET.Element) -> str:
    return "".join(element.itertext())


def _svg(element: ET.Element) -> str:
    """The picture as a document of its own, in the page's colours for print on white paper."""
    drawn = ET.tostring(element, encoding="unicode")
    body = drawn[drawn.index(">") + 1 :]
    return f'<svg xmlns="{_SVG}" class="chart" viewBox="{element.get("viewBox", "")}"><style>{_style()}</style>{body}'


@cache
def _style() -> str:
    """The style sheets' rules for charts, with their colours written out: a picture file knows no variables."""
    folder = resources.files("audits") / "render"
    sheets = [(folder / name).read_text(encoding="utf-8") for name in ("page.css", "groups.css")]
    colours: dict[str, str] = {}
    for sheet in sheets:
        colours |= dict(_COLOUR.findall(sheet[: sheet.index("@media")]))
    rules = [
        f"{selector}{{{re.sub(r'var[(]--(.+?)[)]', lambda found: colours[found[1]], body)}}}"
        for sheet in sheets
        for selector, body in _RULE.findall(sheet)
    ]
    plain = [re.sub(r"font: (\d+px)[^;]*;", rf'font-size: \1; font-family: "{_FONT}";', rule) for rule in rules]
    return "\n".join(plain)
