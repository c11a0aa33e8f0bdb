"""A page read as a browser would, and names that try to be more than text in one."""

import json
from html.parser import HTMLParser
from typing import Any

VOID = {"meta", "br", "wbr", "hr", "img", "link", "input"}
HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</svg></style></title><iframe>",
    "=cmd|' /C calc'!A0",
    "{{ 7777*7777 }}{% raw %}",
    "a\x00\x1b\u202eb",
    "javascript:alert(1)",
)


class Page(HTMLParser):
    """Reads a page as a browser would: its elements, attributes and text; fails on a tag that is not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts.append((self.elements[-1][1], data))
        else:
            self.texts.append(data)

    @property
    def text(self) -> str:
        """What a reader sees, style sheet included."""
        return "".join(self.texts)

    @property
    def data(self) -> dict[str, Any]:
        """What the page carries of the numbers."""
        (text,) = [text for attributes, text in self.scripts if attributes.get("id") == "data"]
        return dict(json.loads(text))
