"""What the streams of a process can show, and how wide text is there. Standard library only."""

import io
import os
import stat
import sys
import unicodedata
from typing import TextIO


def show_any_text() -> None:
    """Let stdout and stderr take any text: what their encoding cannot hold (ascii, latin-1, a file name that
    is not UTF-8) is written as a backslash escape. A closed stream becomes one that discards.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by the caller, as in `deeplabx train >&-`
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def discard_terminal() -> None:
    """Discard what is written to a terminal from now on: once it is closed, each write would be an error."""
    for descriptor in (1, 2):
        try:
            terminal = stat.S_ISCHR(os.fstat(descriptor).st_mode)  # isatty is False for one that hung up
        except OSError:  # closed by the caller, as in `deeplabx train >&-`
            continue
        if terminal:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, descriptor)
            os.close(null)


def shown(text: str, stream: TextIO) -> str:
    """`text` as `stream` can take it: a program that imports deeplabx keeps the streams that it has."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def columns(text: str) -> int:
    """The columns of a terminal that `text` takes: East Asian characters take two, combining marks none."""
    return sum(
        0
        if unicodedata.category(one) in ("Mn", "Me", "Cf")
        else 1 + (unicodedata.east_asian_width(one) in "WF")
        for one in text
    )


def padded(text: str, width: int) -> str:
    """`text` with spaces after it, up to `width` columns."""
    return text + " " * (width - columns(text))
