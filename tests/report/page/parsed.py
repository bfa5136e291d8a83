"""A page as an HTML parser sees it."""

from html.parser import HTMLParser

VOID = {"meta", "link", "img", "br", "hr", "input"}
SVG_ALONE = {"rect", "line", "polyline"}


class Parsed(HTMLParser):
    """tags: each start tag with its attributes; texts: what is between tags, joined; problems: of nesting."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.problems: list[str] = []
        self.inside: dict[str, list[str]] = {}  # texts by the innermost tag
        self.feed(page)
        self.close()
        self.problems += [f"{tag} is not closed" for tag in self.open]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open[-1] != tag:
            self.problems.append(f"</{tag}> in {self.open[-3:]}")
        else:
            self.open.pop()

    def handle_data(self, data: str) -> None:
        if self.open and data.strip():
            self.inside.setdefault(self.open[-1], []).append(data.strip())

    def all(self, tag: str) -> list[dict[str, str]]:
        """The attributes of each element of this kind."""
        return [attributes for found, attributes in self.tags if found == tag]

    @property
    def text(self) -> str:
        shown = (
            text for tag, texts in self.inside.items() if tag not in ("script", "style") for text in texts
        )
        return " ".join(shown)
