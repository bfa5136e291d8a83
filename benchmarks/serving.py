"""`deeplabx serve` under 10,000 requests, of which a third are bad, from several clients.

    python -m benchmarks.serving RUN [REQUESTS] [CLIENTS]

Good ones are a JPEG of 48 x 32 pixels, sent to the four endpoints by turns. Printed: what was answered, by
kind and status; what should not be; seconds of the answered ones; the server's memory before, on the way and
after. The exit code is 1 where an answer was not the expected one.
"""

import http.client
import io
import random
import re
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image

REQUESTS, CLIENTS = 10_000, 8
ENDPOINTS = ("/predict", "/predict/ids.png", "/predict/overlay.png", "/predict/map")
MAX_BYTES = 200_000
Ask = Callable[[http.client.HTTPConnection], int]


def jpeg() -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (8, 12, 3), np.uint8)
    Image.fromarray(pixels).resize((48, 32)).save(file, format="JPEG")
    return file.getvalue()


def bomb() -> bytes:
    """A PNG of 16,000 x 16,000 pixels in 0.1 MB."""
    file = io.BytesIO()
    Image.new("1", (16_000, 16_000)).save(file, format="PNG")
    return file.getvalue()


GOOD, BOMB = jpeg(), bomb()


def sent(method: str, path: str, body: bytes | None = None) -> Ask:
    def ask(connection: http.client.HTTPConnection) -> int:
        connection.request(method, path, body)
        response = connection.getresponse()
        response.read()
        return response.status

    return ask


def aborted(connection: http.client.HTTPConnection) -> int:
    """Half of a body, and the end of the connection."""
    connection.putrequest("POST", "/predict")
    connection.putheader("Content-Length", str(len(GOOD)))
    connection.endheaders(GOOD[: len(GOOD) // 2])
    connection.close()
    return 0


def without_length(connection: http.client.HTTPConnection) -> int:
    """A body in chunks that is too large, and is only noticed on the way."""
    try:
        connection.request("POST", "/predict", (bytes(50_000) for _ in range(6)), encode_chunked=True)
    except (BrokenPipeError, ConnectionResetError):
        connection.close()
        return 413
    response = connection.getresponse()
    response.read()
    return response.status


BAD: dict[str, tuple[Ask, int]] = {
    "not an image": (sent("POST", "/predict", b"no image, but text" * 20), 422),
    "truncated JPEG": (sent("POST", "/predict/map", GOOD[: len(GOOD) // 2]), 422),
    "too many pixels": (sent("POST", "/predict/ids.png", BOMB), 413),
    "empty": (sent("POST", "/predict", b""), 400),
    "too large": (sent("POST", "/predict", bytes(MAX_BYTES + 1)), 413),
    "too large, in chunks": (without_length, 413),
    "wrong method": (sent("GET", "/predict"), 405),
    "wrong path": (sent("POST", "/predict/nothing", GOOD), 404),
    "aborted": (aborted, 0),
}


def wanted(number: int) -> tuple[str, Ask, int]:
    """Kind, request and expected status of one of the requests."""
    draw = random.Random(number)
    if number % 3:
        return "good", sent("POST", ENDPOINTS[number % len(ENDPOINTS)], GOOD), 200
    kind = draw.choice(list(BAD))
    return (kind, *BAD[kind])


def started(run: str, *settings: str) -> tuple[subprocess.Popen[str], str]:
    """The server and its address."""
    command = [sys.executable, "-m", "deeplabx", "serve", run, "serve.port=0", *settings]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, encoding="utf-8")
    assert process.stdout is not None
    found = re.search(r"at http://(\S+)/", process.stdout.readline())
    assert found, "the server did not start"
    return process, found[1]


def memory(address: str) -> float:
    """MiB that the server has in memory, by its own metrics."""
    connection = http.client.HTTPConnection(address)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode("utf-8")
    return int(re.findall(r"^process_resident_memory_bytes (\d+)", text, re.MULTILINE)[0]) / 2**20


class Tally:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.answers: defaultdict[str, Counter[int]] = defaultdict(Counter)
        self.unexpected: Counter[tuple[str, object]] = Counter()
        self.seconds: list[float] = []

    def add(self, kind: str, status: int, expected: int, seconds: float) -> None:
        with self.lock:
            self.answers[kind][status] += 1
            if status != expected:
                self.unexpected[kind, status] += 1
            elif status == 200:
                self.seconds.append(seconds)


def client(address: str, numbers: range, tally: Tally) -> None:
    """Some of the requests, over one connection where the server keeps it."""
    connection = http.client.HTTPConnection(address, timeout=60)
    for number in numbers:
        kind, ask, expected = wanted(number)
        began = time.perf_counter()
        try:
            status = ask(connection)
        except (OSError, http.client.HTTPException):  # counted as unexpected
            connection.close()
            status = -1
        tally.add(kind, status, expected, time.perf_counter() - began)


def main(run: str, requests: int = REQUESTS, clients: int = CLIENTS) -> int:
    process, address = started(
        run, f"serve.max_bytes={MAX_BYTES}", "serve.max_pixels=1000000", "serve.queue=32"
    )
    tally, curve = Tally(), [memory(address)]
    began = time.perf_counter()
    parts = 10
    for part in range(parts):
        numbers = range(part * requests // parts, (part + 1) * requests // parts)
        with ThreadPoolExecutor(clients) as pool:
            for index in range(clients):
                pool.submit(client, address, numbers[index::clients], tally)
        curve.append(memory(address))
    seconds = time.perf_counter() - began
    process.terminate()
    code = process.wait(timeout=60)
    show(tally, curve, seconds, clients=clients, code=code)
    return 1 if tally.unexpected or code else 0


def show(tally: Tally, curve: list[float], seconds: float, *, clients: int, code: int) -> None:
    total = sum(counts.total() for counts in tally.answers.values())
    print(f"{total} requests of {clients} clients in {seconds:.0f} s, {total / seconds:.0f} a second")
    for kind, counts in sorted(tally.answers.items()):
        words = ", ".join(f"{status or 'closed by the client'}: {count}" for status, count in counts.items())
        print(f"  {kind:<22} {words}")
    print(f"unexpected: {dict(tally.unexpected) or 'none'}; exit code of the server after TERM: {code}")
    p50, p90, p99 = (1000 * value for value in np.percentile(tally.seconds, [50, 90, 99]))
    print(f"served {len(tally.seconds)}: p50 {p50:.0f} ms, p90 {p90:.0f} ms, p99 {p99:.0f} ms")
    print(f"memory in MiB, before and after each tenth: {', '.join(f'{one:.0f}' for one in curve)}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], *map(int, sys.argv[2:])))
