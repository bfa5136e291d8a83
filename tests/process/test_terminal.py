import io
import os
import subprocess
import sys

import pytest

from deeplabx.process.terminal import columns, padded, show_any_text, shown

ODD = os.fsdecode(b"caf\xe9 ") + "背景"


@pytest.mark.parametrize(
    ("encoding", "written"),
    [
        ("ascii", rb"caf\udce9 \u80cc\u666f"),
        ("latin-1", rb"caf\udce9 \u80cc\u666f"),
        ("cp1252", rb"caf\udce9 \u80cc\u666f"),
        ("utf-8", rb"caf\udce9 " + "背景".encode()),
    ],
)
def test_a_stream_takes_any_text(encoding: str, written: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    own = io.TextIOWrapper(raw, encoding=encoding, write_through=True)
    assert shown(ODD, own).encode(encoding) == written  # a program that imports deeplabx keeps its stream
    with pytest.raises(UnicodeEncodeError):
        own.write(ODD)
    monkeypatch.setattr(sys, "stdout", own)
    show_any_text()
    print(ODD, end="")
    assert raw.getvalue() == written


def test_a_closed_stream_discards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    show_any_text()
    print("nothing", file=sys.stderr)
    assert not sys.stderr.isatty()
    sys.stderr.close()


def test_a_terminal_is_discarded_where_a_stream_is_closed() -> None:
    code = "import os; from deeplabx.process import terminal; os.close(1); terminal.discard_terminal()"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("text", "width"),
    [("road", 4), ("背景", 4), ("ｶﾅ", 2), ("e\u0301", 1), ("도로", 4), ("a\u200bb", 2), ("дорога", 6)],
)
def test_columns_of_a_terminal(text: str, width: int) -> None:
    assert columns(text) == width
    assert columns(padded(text, 8)) == 8
