"""A path in Hydra's quotes: its grammar would trip over ( ) , = ~ [ ] and letters beyond ASCII. Standard
library only, as all that the command line is read with.
"""

import re


def in_quotes(path: str) -> str:
    """`path` in single quotes as Hydra reads them: a backslash is doubled only where a quote follows."""
    doubled = re.sub(r"(\\*)('|$)", lambda found: found[1] * 2 + ("\\'" if found[2] else ""), path)
    return f"'{doubled}'"


def is_quoted(text: str) -> bool:
    return len(text) > 1 and text[0] == text[-1] and text[0] in "'\""


def unquoted(text: str) -> str:
    """What is in the quotes, as Hydra reads it; a text without quotes as it is."""
    if not is_quoted(text):
        return text
    return re.sub(rf"(\\+)({text[0]}|$)", lambda found: found[1][: len(found[1]) // 2] + found[2], text[1:-1])


def elements(inside: str) -> list[str]:
    """What commas separate in a list, between its brackets; a comma in quotes separates nothing."""
    parts = re.findall(r"""((?:'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|[^,])+)(?:,|$)""", inside)
    return [part.strip() for part in parts]
