"""`deeplabx serve`: the process, from its start to its end. What it answers is in tests/server."""

import io
import json
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deeplabx.process.signals import StopRequest
from deeplabx.run.description import stored_model
from deeplabx.server.listening import Server, bound_socket
from tests.conftest import Deeplabx
from tests.server.stub import file_of, photo


def started(run: Path, *settings: str, cwd: Path) -> tuple[subprocess.Popen[str], str]:
    """A server on any free port, and its address."""
    command = [
        sys.executable,
        "-m",
        "deeplabx",
        "serve",
        str(run),
        "serve.port=0",
        "trainer.devices=cpu",
        *settings,
    ]
    process = subprocess.Popen(
        command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8"
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    found = re.search(r"at (http://\S+)", line)
    assert found, (line, process.communicate())
    return process, found[1]


def posted(url: str, body: bytes) -> bytes:
    with urllib.request.urlopen(urllib.request.Request(url, data=body), timeout=60) as response:
        content: bytes = response.read()
    return content


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_predicts_as_predict_does_and_ends_when_it_is_told_to(
    tiny_run: Path, tmp_path: Path, number: signal.Signals
) -> None:
    process, address = started(tiny_run, cwd=tmp_path)
    image = photo(40, 50)
    ids = Image.open(io.BytesIO(posted(f"{address}predict/ids.png", file_of(image))))
    expected = stored_model(str(tiny_run)).predictor().ids(image)
    np.testing.assert_array_equal(np.array(ids), expected.cpu().numpy())
    with urllib.request.urlopen(f"{address}classes") as response:
        assert len(json.load(response)["classes"]) == 7
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (0, "stopped\n", "")
    assert not list(tmp_path.iterdir())  # nothing was written


def test_a_port_that_is_taken_is_a_wrong_setting(deeplabx: Deeplabx, tiny_run: Path) -> None:
    with bound_socket("127.0.0.1", 0) as taken:
        taken.listen()
        port = taken.getsockname()[1]
        ended = deeplabx("serve", str(tiny_run), f"serve.port={port}")
    assert ended.code == 2
    assert f"serve.port={port} is in use by another program" in ended.err


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("serve.port=70000", "serve.port=70000 is out of range"),
        ("serve.queue=0", "serve.queue=0 is out of range"),
        ("serve.timeout=nan", "serve.timeout=nan is not a finite number"),
        ("serve.prt=8000", "serve.prt"),
        ("serve.host=nowhere.invalid", "serve.host=nowhere.invalid is not an address"),
        ("~serve.port", "serve.port"),
        ("trainer.devices=2", "a server uses one device"),
    ],
)
def test_wrong_settings_are_told(deeplabx: Deeplabx, tiny_run: Path, setting: str, words: str) -> None:
    ended = deeplabx("serve", str(tiny_run), setting)
    assert ended.code == 2
    assert words in ended.err


@pytest.fixture
def not_run(monkeypatch: pytest.MonkeyPatch) -> list[Server]:
    """Servers that are made, but do not listen."""
    made: list[Server] = []
    monkeypatch.setattr(Server, "run", lambda self, sockets: made.append(self))
    return made


def test_a_server_for_all_says_what_that_means_and_serves_the_run(
    deeplabx: Deeplabx, tiny_run: Path, not_run: list[Server]
) -> None:
    ended = deeplabx("serve", str(tiny_run), "serve.port=0", "serve.host=0.0.0.0", "serve.queue=3")
    assert ended.code == 0
    assert "everyone who reaches this port can use the server" in ended.err
    [server] = not_run
    assert server.config.app.hosts is None  # type: ignore[union-attr]
    assert server.service.limits.queue == 3
    model, image = server.service.model, photo(40, 50)
    assert model.name == "deeplabv3plus on mobilenetv2, 7 classes of shapes"
    [expected] = stored_model(str(tiny_run)).predictor().predict([image], probabilities=True)
    assert expected.probabilities is not None
    found = model.segment(image, True, StopRequest())
    assert found.probability is not None
    np.testing.assert_array_equal(found.ids, expected.ids.numpy())
    largest = expected.probabilities.numpy().max(axis=0)
    np.testing.assert_allclose(found.probability / 255, largest, atol=0.5 / 255 + 1e-6)
    assert model.segment(image, False, StopRequest()).probability is None


def test_a_missing_extra_is_told(deeplabx: Deeplabx, tiny_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fastapi", None)
    ended = deeplabx("serve", str(tiny_run), "serve.port=0")
    assert ended.code == 2
    assert "needs the package fastapi" in ended.err
    assert "deeplabx[serve]" in ended.err
