import errno
import json
import re
import socket
import time
from dataclasses import replace

import numpy as np
import pytest

from deeplabx.errors import ConfigError
from deeplabx.process.signals import StopRequest
from deeplabx.server import listening as listening_module
from deeplabx.server.contract import Segmentation
from deeplabx.server.listening import address_of, bound_socket, is_loopback
from tests.server.stub import LIMITS, file_of, listening, photo, segment, stub

POST = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"


def connected(port: int, sent: bytes = b"") -> socket.socket:
    one = socket.create_connection(("127.0.0.1", port), timeout=10)
    one.sendall(sent)
    return one


def answer(one: socket.socket) -> tuple[int, bytes]:
    """The status and the body of a response whose connection is closed at its end, or that has a length."""
    received = b""
    while True:
        head, found, body = received.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head)
        if found and length and len(body) >= int(length[1]):
            break
        if not (piece := one.recv(65536)):
            break
        received += piece
    return int(received.split(b" ", 2)[1]), body


def test_an_image_is_answered_over_a_socket_and_the_connection_is_used_again() -> None:
    image = file_of(photo())
    with listening(stub()) as (port, _), connected(port) as one:
        for _ in range(2):
            one.sendall(POST % len(image) + image)
            status, body = answer(one)
            assert status == 200
            assert json.loads(body)["width"] == 30


def test_broken_requests_end_nothing() -> None:
    image = file_of(photo())
    broken = [
        b"hello\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(50),  # of TLS
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"x" * 70_000 + b"\r\n\r\n",
        POST.replace(b"%d", b"-1"),
        POST.replace(b"%d", b"12x"),
        POST.replace(b"Content-Length: %d", b"Transfer-Encoding: chunked") + b"zz\r\nabc\r\n",
        POST.replace(b"Content-Length: %d", b"Upgrade: websocket\r\nConnection: upgrade"),
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 50,  # pipelined
    ]
    server = stub(limits=replace(LIMITS, queue=9))
    with listening(server) as (port, _):
        for sent in broken:
            with connected(port, sent) as one:
                one.settimeout(2)
                one.recv(100)
        for cut in (0, 1, len(image) // 2):  # closed in the middle of the body
            connected(port, POST % len(image) + image[:cut]).close()
        with connected(port, POST % len(image) + image) as one:
            assert answer(one)[0] == 200
    assert server.service.accepted == 0


def test_a_body_that_is_refused_before_its_end_is_answered() -> None:
    with listening(stub()) as (port, _), connected(port, POST % 5_000_000) as one:
        one.sendall(bytes(4_000_000))
        assert answer(one)[0] == 413


def test_clients_that_do_nothing_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening_module, "SECONDS_FOR_HEADERS", 0.5)
    silent = [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: localhost\r\n", POST % 100 + b"x"]
    with listening(stub(limits=replace(LIMITS, timeout=0.5))) as (port, _):
        clients = [connected(port, sent) for sent in silent]
        for one in clients:
            received = b""
            while piece := one.recv(1000):  # b"" is the end; of the last one, after a 408
                received += piece
            one.close()
        assert received.startswith(b"HTTP/1.1 408")


def test_a_client_that_does_not_receive_is_closed_and_keeps_no_place() -> None:
    large = photo(1500, 1500)
    server = stub(limits=replace(LIMITS, max_bytes=10**8, max_pixels=10**7, timeout=0.7, queue=1))
    image = file_of(large, compress_level=0)
    head = POST.replace(b"/predict", b"/predict/overlay.png")
    with listening(server) as (port, _):
        one = socket.socket()
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        one.connect(("127.0.0.1", port))
        one.sendall(head % len(image) + image)
        deadline = time.monotonic() + 8
        accepted = []
        while time.monotonic() < deadline and (0 not in accepted or 1 not in accepted):
            accepted.append(server.service.accepted)
            time.sleep(0.02)
        assert accepted[-1] == 0
        one.close()


def test_a_server_that_is_stopped_answers_what_it_has_accepted() -> None:
    begun = []

    def slow(image: np.ndarray, probabilities: bool, stop: StopRequest) -> Segmentation:
        begun.append(1)
        time.sleep(0.3)
        return segment(image, probabilities, stop)

    image = file_of(photo())
    server = stub(slow)
    with listening(server) as (port, stop):
        one = connected(port, POST % len(image) + image)
        while len(begun) < 2:
            time.sleep(0.01)
        stop.number = 15
        while not server.service.stopping:
            time.sleep(0.01)
        with connected(port, b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n") as health:
            assert answer(health)[0] == 503
        assert answer(one)[0] == 200
        one.close()
    with pytest.raises(ConnectionRefusedError):
        connected(port)


# --- the port -----------------------------------------------------------------------------------------------


def test_a_port_that_is_taken_is_told() -> None:
    with bound_socket("127.0.0.1", 0) as first:
        first.listen()
        port = first.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"serve.port={port} is in use") as caught:
            bound_socket("127.0.0.1", port)
        assert "serve.port=0" in caught.value.hint


@pytest.mark.parametrize("host", ["no.such.host.invalid", "256.1.1.1", "a" * 300, "\x00"])
def test_an_address_that_is_none_is_told(host: str) -> None:
    with pytest.raises(ConfigError, match="is not an address"):
        bound_socket(host, 0)


def test_an_address_of_another_machine_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(self: socket.socket, address: object) -> None:
        raise OSError(errno.EADDRNOTAVAIL, "")

    monkeypatch.setattr(socket.socket, "bind", refused)
    with pytest.raises(ConfigError, match="is not an address of this machine"):
        bound_socket("192.0.2.1", 8000)


@pytest.mark.parametrize(
    ("host", "loopback", "shown"),
    [("127.0.0.1", True, "127.0.0.1"), ("localhost", True, "localhost"), ("0.0.0.0", False, "localhost")],
)
def test_who_can_reach_the_port_is_known(host: str, loopback: bool, shown: str) -> None:
    with bound_socket(host, 0) as one:
        assert is_loopback(one) == loopback
        assert address_of(one, host) == f"http://{shown}:{one.getsockname()[1]}/"
