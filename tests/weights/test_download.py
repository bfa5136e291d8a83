import hashlib
import io
import os
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from deeplabx.errors import CheckpointError, resource_error
from deeplabx.weights import download
from deeplabx.weights.download import cached, unpacked
from deeplabx.weights.known import Known, imagenet

BODY = bytes(range(256)) * 5000
Answer = Callable[[BaseHTTPRequestHandler], None]
FETCH = """
import sys
from deeplabx.weights import download
from deeplabx.weights.known import imagenet
download.SCHEMES = ("http",)
print("ready", flush=True)
print(download.cached(imagenet("resnet18")._replace(url=sys.argv[1], sha256=sys.argv[2])), flush=True)
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
    monkeypatch.setattr(download, "SCHEMES", ("http",))
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


def fetching(entry: Known) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", FETCH, entry.url, entry.sha256]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("digits", [8, 64])
def test_a_file_is_fetched_once_and_verified(digits: int, server: Server, cache: Path) -> None:
    entry = weights(server.url("a.pth", sends(BODY)))
    entry = entry._replace(sha256=entry.sha256[:digits])
    assert cached(entry) == cached(entry) == cache / "a.pth"
    assert (cache / "a.pth").read_bytes() == BODY
    assert server.asked == ["/a.pth"]
    assert left_in(cache) == {"a.pth"}


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (sends(BODY[:-1000], length=len(BODY)), "the connection ended 1000 bytes too early"),
        (
            sends(b"<html>Please log in"),
            f"what came is not the file: its sha256 begins with {sha256(b'<html>Please log in')[:8]}, not "
            "with",
        ),
        (lambda handler: handler.send_error(404), "the server answers 404 Not Found"),
        (lambda handler: handler.close_connection, "Remote end closed connection without response"),
        (hangs, "no answer within 0.3 seconds"),
        (sends_half, "no answer within 0.3 seconds"),
        (redirects_to("ftp://127.0.0.1/a.pth"), "ftp://127.0.0.1/a.pth is not http"),
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
        f"put {entry.url}",
        f"as {cache / 'a.pth'}, or in weights/ of another folder: DEEPLABX_CACHE=FOLDER",
    ]
    assert server.asked == ["/a.pth"]  # no retries
    assert left_in(cache) == set()


def test_without_a_network_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    entry = weights(f"http://127.0.0.1:{port}/a.pth")
    with pytest.raises(CheckpointError, match=r"cannot be downloaded: no network \(.*refused"):
        cached(entry)

    def unknown(*host: object, **options: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(
        CheckpointError, match=r"cannot be downloaded: no network \(.*Name or service not known\)"
    ):
        cached(entry)


def test_only_https_is_spoken(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "SCHEMES", ("https",))
    with pytest.raises(CheckpointError, match="is not https"):
        cached(weights(server.url("a.pth", sends(BODY))))
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
    with pytest.raises(CheckpointError, match=f"{path} is damaged or another file: .*\nremove it"):
        cached(entry)
    assert path.read_bytes() == BODY[:-1]
    assert len(server.asked) == 1


def test_a_full_disk_is_not_mistaken_for_the_network(
    server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space") as caught:
        cached(weights(server.url("a.pth", sends(BODY))))
    assert resource_error(caught.value) is not None
    assert left_in(cache) == set()


def test_of_two_processes_and_a_few_threads_one_downloads(server: Server) -> None:
    entry = weights(server.url("a.pth", sends_half))
    with fetching(entry) as process, ThreadPoolExecutor(3) as threads:
        assert server.begun.wait(120)
        waiting = [threads.submit(cached, entry) for _ in range(3)]
        server.go_on.set()
        assert {future.result(120) for future in waiting} == {entry.path}
        assert process.communicate(timeout=120)[0] == f"{entry.path}\n"
    assert server.asked == ["/a.pth"]


def test_a_killed_download_counts_for_nothing_and_keeps_nobody_waiting(server: Server, cache: Path) -> None:
    entry = weights(server.url("a.pth", sends_half))
    with fetching(entry) as process:
        assert server.begun.wait(120)
        process.send_signal(signal.SIGKILL)
    assert not entry.path.exists()
    server.url("a.pth", sends(BODY))
    assert cached(entry).read_bytes() == BODY
    assert left_in(cache) == {"a.pth"}


Members = dict[str, bytes]
PACKAGE = {"package/model/model.json": b"{}", "package/model/deep/shard": BODY, "package/readme": b"no"}


def tgz(members: Members, *more: tarfile.TarInfo) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for info in more:
            archive.addfile(info)
    return file.getvalue()


def zipped(members: Members, *more: zipfile.ZipInfo) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        for info in more:
            archive.writestr(info, "target")
    return file.getvalue()


def archive_of(cache: Path, file: str, body: bytes, wanted: str = "package/model/") -> Known:
    cache.mkdir(exist_ok=True)
    (cache / file).write_bytes(body)
    return weights(f"http://127.0.0.1:9/{file}", body, wanted=wanted)


def linked(name: str, kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, "/etc/passwd"
    return info


def zip_link(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = 0o120777 << 16
    return info


@pytest.mark.parametrize(
    ("file", "pack"), [("a.tgz", tgz), ("a.tar.gz", tgz), ("a.zip", zipped), ("a.whl", zipped)]
)
def test_what_is_wanted_of_an_archive_is_unpacked_beside_it(
    file: str, pack: Callable[[Members], bytes], cache: Path
) -> None:
    folder = unpacked(archive_of(cache, file, pack(PACKAGE)))
    assert folder == cache / f"{file}.unpacked"
    assert {
        str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    } == {
        "model.json": b"{}",
        "deep/shard": BODY,
    }
    assert left_in(cache) == {file, folder.name}


def test_a_single_file_is_its_path(cache: Path) -> None:
    path = unpacked(archive_of(cache, "a.tgz", tgz(PACKAGE), "package/model/deep/shard"))
    assert path == cache / "a.tgz.unpacked" / "shard"
    assert path.read_bytes() == BODY


@pytest.mark.parametrize(
    ("file", "body", "why"),
    [
        ("a.tgz", tgz({**PACKAGE, "package/model/../../../evil": b""}), "evil leads out of the folder"),
        ("a.tgz", tgz({**PACKAGE, "/evil": b""}), "/evil leads out of the folder"),
        ("a.tgz", tgz(PACKAGE, linked("package/model/evil", tarfile.SYMTYPE)), "evil is a link or a device"),
        ("a.tgz", tgz(PACKAGE, linked("package/model/evil", tarfile.LNKTYPE)), "evil is a link or a device"),
        ("a.tgz", tgz(PACKAGE, linked("package/model/evil", tarfile.FIFOTYPE)), "evil is a link or a device"),
        ("a.zip", zipped({**PACKAGE, "package/model/../../../evil": b""}), "evil leads out of the folder"),
        ("a.zip", zipped(PACKAGE, zip_link("package/model/evil")), "evil is a link or a device"),
        ("a.tgz", tgz(PACKAGE, tarfile.TarInfo("package/model/model.json")), "model.json is there twice"),
        ("a.tgz", tgz({"package/model/bomb": bytes(3 << 20)}), "bomb makes it larger than 2097152 bytes"),
        ("a.zip", zipped({"package/model/bomb": bytes(3 << 20)}), "bomb makes it larger than 2097152 bytes"),
        ("a.tgz", tgz({"elsewhere": b""}), "holds no package/model/"),
        ("a.tgz", tgz(PACKAGE)[:-200], "cannot be unpacked"),
        ("a.tgz", BODY, "cannot be unpacked"),
        ("a.zip", BODY, "cannot be unpacked"),
    ],
    ids=[  # an archive holds the time it was made: as an id it would differ between two processes
        "up and out",
        "from the root",
        "a symbolic link",
        "a hard link",
        "a pipe",
        "up and out of a zip",
        "a link in a zip",
        "twice",
        "a bomb",
        "a bomb in a zip",
        "nothing wanted",
        "cut off",
        "not a tar",
        "not a zip",
    ],
)
def test_an_archive_that_is_not_plain_is_refused_and_leaves_nothing(
    file: str, body: bytes, why: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "MOST_UNPACKED", 2 << 20)
    with pytest.raises(CheckpointError) as caught:
        unpacked(archive_of(cache, file, body))
    assert why in str(caught.value)
    assert caught.value.exit_code == 4
    assert left_in(cache) == {file}


def test_what_a_kill_left_half_unpacked_does_not_count(cache: Path) -> None:
    entry = archive_of(cache, "a.tgz", tgz(PACKAGE))
    half = cache / f"{download.prefix(cache / 'a.tgz.unpacked')}0123"
    half.mkdir()
    (half / "model.json").touch()
    assert (unpacked(entry) / "model.json").read_bytes() == b"{}"
    assert left_in(cache) == {"a.tgz", "a.tgz.unpacked"}


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(BODY[:-1]),
        lambda path: path.write_bytes(BODY + b"0"),
    ],
)
def test_a_folder_that_is_not_what_the_archive_holds_is_named(
    damage: Callable[[Path], object], cache: Path
) -> None:
    entry = archive_of(cache, "a.tgz", tgz(PACKAGE))
    folder = unpacked(entry)
    damage(folder / "deep" / "shard")
    download.compare.cache_clear()  # as in another process
    with pytest.raises(CheckpointError, match=f"shard is not what a.tgz holds\nremove {folder} "):
        unpacked(entry)
