"""A path in Hydra's quotes: its grammar would trip over ( ) , = ~ [ ] and letters beyond ASCII. Standard
library only, as all that the command line is read with.
"""

import os
import re


def in_quotes(path: str) -> str:
    """`path` with ~ expanded, in single quotes as Hydra reads them: a backslash is doubled only where a quote
    follows.
    """
    text = os.path.expanduser(path)  # noqa: PTH111 - pathlib takes a while to import
    doubled = re.sub(r"(\\*)('|$)", lambda found: found[1] * 2 + ("\\'" if found[2] else ""), text)
    return f"'{doubled}'"


def is_quoted(text: str) -> bool:
    return len(text) > 1 and text[0] == text[-1] and text[0] in "'\""


def unquoted(text: str) -> str:
    return text[1:-1] if is_quoted(text) else text
