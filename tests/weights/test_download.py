import hashlib
import io
import os
import random
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.request import HTTPHandler

import pytest

from deeplabx.errors import CheckpointError, resource_error
from deeplabx.weights import download
from deeplabx.weights.download import cached, fetched
from deeplabx.weights.known import Known, imagenet
from tests.engine.test_durable import no_more_than

BODY = bytes(range(256)) * 5000
Answer = Callable[[BaseHTTPRequestHandler], None]
ONLY_HTTPS = download.HANDLERS
FETCH = """
import sys
from urllib.request import HTTPHandler
from deeplabx.weights import download
from deeplabx.weights.known import imagenet
download.HANDLERS = (*download.HANDLERS, HTTPHandler)
download.cached(imagenet("resnet18")._replace(url=sys.argv[1], sha256=sys.argv[2]))
"""


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


class Server(ThreadingHTTPServer):
    """Answers as a test says, and counts how often it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: dict[str, Answer] = {}
        self.asked: list[str] = []
        self.begun, self.go_on = threading.Event(), threading.Event()

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that leave early are what some tests are about."""

    def url(self, file: str, answer: Answer) -> str:
        self.answers[f"/{file}"] = answer
        return f"http://127.0.0.1:{self.server_port}/{file}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self.server.begun.set()
        self.server.answers[self.path](self)

    def log_message(self, format: str, *values: object) -> None:
        pass


def sends(body: bytes, *, length: int | None = None) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(body) if length is None else length))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def sends_half(handler: BaseHTTPRequestHandler) -> None:
    """And the rest when the test says so."""
    assert isinstance(handler.server, Server)
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(BODY)))
    handler.end_headers()
    handler.wfile.write(BODY[: len(BODY) // 2])
    handler.wfile.flush()
    handler.server.go_on.wait(120)
    handler.wfile.write(BODY[len(BODY) // 2 :])


def hangs(handler: BaseHTTPRequestHandler) -> None:
    assert isinstance(handler.server, Server)
    handler.server.go_on.wait(120)


def redirects_to(url: str) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(302)
        handler.send_header("Location", url)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.go_on.set()
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DEEPLABX_CACHE", str(tmp_path))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("DEEPLABX_OFFLINE", raising=False)
    monkeypatch.setattr(download, "HANDLERS", (*ONLY_HTTPS, HTTPHandler))
    return tmp_path / "weights"


def weights(url: str, body: bytes = BODY, *, wanted: str = "") -> Known:
    return imagenet("resnet18")._replace(url=url, sha256=sha256(body), wanted=wanted)


def left_in(cache: Path) -> set[str]:
    """What is in the cache besides lock files."""
    return (
        {path.name for path in cache.iterdir() if not path.name.endswith(".lock")}
        if cache.is_dir()
        else set()
    )


@pytest.mark.parametrize("digits", [8, 64])
def test_a_file_is_fetched_once_and_verified(digits: int, server: Server, cache: Path) -> None:
    entry = weights(server.url("a.pth", sends(BODY)))
    entry = entry._replace(sha256=entry.sha256[:digits])
    assert cached(entry) == cached(entry) == cache / "a.pth"
    assert (cache / "a.pth").read_bytes() == BODY
    assert server.asked == ["/a.pth"]
    assert left_in(cache) == {"a.pth"}


def test_a_redirect_is_followed(server: Server) -> None:
    entry = weights(server.url("a.pth", redirects_to(server.url("elsewhere", sends(BODY)))))
    assert cached(entry).read_bytes() == BODY


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (sends(BODY[:-1000], length=len(BODY)), "the connection ended 1000 bytes too early"),
        (
            sends(b"<html>Please log in"),
            f"checksum mismatch: its sha256 begins with {sha256(b'<html>Please log in')[:8]}, not with",
        ),
        (lambda handler: handler.send_error(404), "the server returned 404 Not Found"),
        (lambda handler: handler.close_connection, "Remote end closed connection without response"),
        (hangs, "no answer within 0.3 seconds"),
        (sends_half, "no answer within 0.3 seconds"),
        (redirects_to("ftp://127.0.0.1/a.pth"), "unknown url type: ftp"),
    ],
    ids=["truncated", "wrong hash", "404", "silent", "hangs", "stalls", "another scheme"],
)
def test_what_fails_is_told_with_what_to_put_where_and_leaves_nothing(
    answer: Answer, why: str, server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "no answer" in why:  # the others have time, on a busy machine too
        monkeypatch.setattr(download, "TIMEOUT", 0.3)
    entry = weights(server.url("a.pth", answer))
    with pytest.raises(CheckpointError) as caught:
        cached(entry)
    first, *rest = str(caught.value).splitlines()
    assert first.startswith(f"{entry.name} cannot be downloaded: {why}")
    assert rest == [
        f"download {entry.url}",
        f"to {cache / 'a.pth'}, or to weights/ in DEEPLABX_CACHE=FOLDER",
    ]
    assert server.asked == ["/a.pth"]  # no retries
    assert left_in(cache) == set()


def test_without_a_network_it_says_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(CheckpointError, match=r"cannot be downloaded: .*Connection refused"):
        cached(weights(f"http://127.0.0.1:{port}/a.pth"))


def test_only_https_is_spoken(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "HANDLERS", ONLY_HTTPS)
    (tmp_path / "a.pth").write_bytes(BODY)
    for url in (server.url("a.pth", sends(BODY)), (tmp_path / "a.pth").as_uri()):
        with pytest.raises(CheckpointError, match="unknown url type: (http|file)"):
            cached(weights(url))
    assert not server.asked


def test_offline_no_connection_is_made(server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPLABX_OFFLINE", "1")
    entry = weights(server.url("a.pth", sends(BODY)))
    with pytest.raises(CheckpointError, match="DEEPLABX_OFFLINE is set"):
        cached(entry)
    assert not server.asked
    assert not cache.exists()
    cache.mkdir()
    entry.path.write_bytes(BODY)  # as the error says
    assert cached(entry) == entry.path


def test_a_read_only_cache_that_has_the_file_will_do(cache: Path) -> None:
    entry = weights("http://127.0.0.1:9/a.pth")
    cache.mkdir()
    entry.path.write_bytes(BODY)
    cached(entry)
    assert [path.name for path in cache.iterdir()] == ["a.pth"]  # not even a lock was written


def test_damage_in_the_cache_is_named_and_left_alone(server: Server) -> None:
    entry = weights(server.url("a.pth", sends(BODY)))
    path = cached(entry)
    path.write_bytes(BODY[:-1])
    with pytest.raises(CheckpointError, match=f"{path} is damaged or another file: .*\ndelete it"):
        cached(entry)
    assert path.read_bytes() == BODY[:-1]
    assert len(server.asked) == 1


def test_a_full_disk_is_not_mistaken_for_the_network(server: Server, cache: Path) -> None:
    with no_more_than(len(BODY) - 1), pytest.raises(OSError, match="File too large") as caught:
        cached(weights(server.url("a.pth", sends(BODY))))
    assert resource_error(caught.value) is not None
    assert left_in(cache) == set()


def test_one_downloads_while_others_wait_and_another_goes_on_when_it_is_killed(
    server: Server, cache: Path
) -> None:
    entry = weights(server.url("a.pth", sends_half))
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    with (
        subprocess.Popen([sys.executable, "-c", FETCH, entry.url, entry.sha256], env=environment) as process,
        ThreadPoolExecutor(3) as threads,
    ):
        assert server.begun.wait(120)
        while not left_in(cache):  # until the process writes
            time.sleep(0.01)
        waiting = [threads.submit(cached, entry) for _ in range(3)]
        assert not wait(waiting, timeout=0.2).done
        assert server.asked == ["/a.pth"]
        server.url("a.pth", sends(BODY))
        process.send_signal(signal.SIGKILL)
        assert {future.result(120) for future in waiting} == {entry.path}
    assert server.asked == ["/a.pth"] * 2
    assert left_in(cache) == {"a.pth"}
    assert entry.path.read_bytes() == BODY


PACKAGE = {"package/model/model.json": b"{}", "package/model/deep/shard": BODY, "package/readme": b"no"}


def tgz(members: dict[str, bytes], *more: tarfile.TarInfo) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for info in more:
            archive.addfile(info)
    return file.getvalue()


def special(name: str, kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, "/etc/passwd"
    return info


def archive_of(cache: Path, body: bytes, wanted: str = "package/model/") -> Known:
    """Known weights in an archive that is in the cache."""
    cache.mkdir(exist_ok=True)
    (cache / "a.tgz").write_bytes(body)
    return weights("http://127.0.0.1:9/a.tgz", body, wanted=wanted)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_of_an_archive_only_what_is_wanted_is_unpacked_beside_it(cache: Path) -> None:
    folder = fetched(archive_of(cache, tgz(PACKAGE)))
    assert contents(folder) == {"model.json": b"{}", "deep/shard": BODY}
    assert left_in(cache) == {"a.tgz", "a.tgz.unpacked"}
    assert folder.is_relative_to(cache / "a.tgz.unpacked")
    assert not list((cache / "a.tgz.unpacked").rglob("readme"))


def test_a_file_of_an_archive_is_its_path(cache: Path) -> None:
    path = fetched(archive_of(cache, tgz(PACKAGE), "package/model/deep/shard"))
    assert path.name == "shard"
    assert path.read_bytes() == BODY


NOISE = tgz({"package/model/noise": random.Random(0).randbytes(300_000)})  # which gzip leaves as it is


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (tgz({**PACKAGE, "package/model/../../../evil": b""}), "cannot be unpacked: .*evil"),
        (tgz(PACKAGE, special("package/model/evil", tarfile.SYMTYPE)), "cannot be unpacked: .*evil"),
        (tgz(PACKAGE, special("package/model/evil", tarfile.LNKTYPE)), "cannot be unpacked: .*evil"),
        (tgz(PACKAGE, special("package/model/evil", tarfile.FIFOTYPE)), "cannot be unpacked: .*evil"),
        (tgz({"elsewhere": b""}), "does not contain package/model/"),
        (tgz(PACKAGE)[:-200], "cannot be unpacked"),
        (NOISE[:100_000] + b"\xff" * 100_000 + NOISE[200_000:], "cannot be unpacked"),
        (BODY, "cannot be unpacked"),
    ],
    ids=[  # an archive holds the time it was made: as an id it would differ between two processes
        "up and out",
        "a symbolic link out",
        "a hard link out",
        "a pipe",
        "nothing wanted",
        "cut off",
        "overwritten",
        "not a tar",
    ],
)
def test_an_archive_that_cannot_be_unpacked_leaves_nothing(body: bytes, why: str, cache: Path) -> None:
    with pytest.raises(CheckpointError, match=why):
        fetched(archive_of(cache, body))
    assert left_in(cache) == {"a.tgz"}


@pytest.mark.parametrize(
    "damage",
    [
        lambda shard: shard.unlink(),
        lambda shard: shard.write_bytes(BODY[:-1] + b"0"),
        lambda shard: shard.with_name("more").touch(),
    ],
    ids=["removed", "changed", "added"],
)
def test_what_is_no_longer_what_was_unpacked_is_unpacked_again(
    damage: Callable[[Path], object], cache: Path
) -> None:
    entry = archive_of(cache, tgz(PACKAGE))
    folder = fetched(entry)
    unpacked_at = folder.stat().st_ctime_ns
    assert fetched(entry).stat().st_ctime_ns == unpacked_at
    damage(folder / "deep" / "shard")
    assert contents(fetched(entry)) == {"model.json": b"{}", "deep/shard": BODY}
    assert left_in(cache) == {"a.tgz", "a.tgz.unpacked"}


def test_a_read_only_cache_that_has_the_unpacked_folder_will_do(cache: Path) -> None:
    entry = archive_of(cache, tgz(PACKAGE))
    folder = fetched(entry)
    (cache / ".a.tgz.unpacked.lock").unlink()
    assert fetched(entry) == folder
    assert {path.name for path in cache.iterdir()} == {"a.tgz", "a.tgz.unpacked"}
