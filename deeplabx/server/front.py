"""What every request passes first: whose it is, whether it is admitted, and what every response says."""

import sys
import time
import traceback
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import nullcontext
from typing import Any
from urllib.parse import urlsplit

from fastapi.responses import JSONResponse

from deeplabx.server.contract import RefusedError
from deeplabx.server.service import Service
from deeplabx.server.upload import Receive

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]
PREDICT = "/predict"  # all paths below it take an image
PIECE = 1 << 18  # bytes of a body that are written at a time: each waits until the client has read the last
CLOSED_BY_CLIENT = 499  # in the metrics alone, as nginx has it
HEADERS = (
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
        b"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)


class Front:
    """An ASGI application before another.

    hosts: names under which the server may be called; None for any. A page of another site can otherwise
    have its own name lead to 127.0.0.1 (DNS rebinding) and read what the server answers.
    """

    def __init__(self, app: App, service: Service, *, hosts: frozenset[str] | None) -> None:
        self.app, self.service, self.hosts = app, service, hosts
        self.paths: frozenset[str] = frozenset()  # that are counted each; others are one

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        started, path = time.perf_counter(), scope["path"]
        predicts = scope["method"] == "POST" and path.startswith(PREDICT)
        sending = Sending(send)
        try:
            self.refuse_foreign({name.lower(): value for name, value in scope["headers"]})
            with self.service.place() if predicts else nullcontext():
                await self.app(scope, receive, sending)
        except RefusedError as error:
            await refusal(error)(scope, receive, sending)
        except Exception:  # noqa: BLE001 (whatever it is, the server goes on)
            traceback.print_exc(file=sys.stderr)
            if not sending.status:
                await refusal(internal_error())(scope, receive, sending)
        finally:
            status = sending.status if sending.complete else CLOSED_BY_CLIENT
            seconds = time.perf_counter() - started if predicts and status == 200 else None
            self.service.metrics.answered(path if path in self.paths else "other", status, seconds=seconds)

    def refuse_foreign(self, headers: dict[bytes, bytes]) -> None:
        """Raise RefusedError for a request under another name than the server's, or from another site."""
        host = headers.get(b"host", b"").decode("latin-1")
        if self.hosts is not None and hostname(host) not in self.hosts:
            raise RefusedError(
                421,
                f"this server is not called {host[:100] or 'nothing'}",
                hint=f"use {', '.join(sorted(self.hosts))}; a proxy must send one of them as Host",
            )
        if headers.get(b"sec-fetch-site") in (b"cross-site", b"same-site"):
            raise RefusedError(403, "a page of another site may not use this server")


def hostname(host: str) -> str:
    """The name in a Host header, without its port; empty for what is none."""
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return ""


class Sending:
    """A `send` that notes the status, adds HEADERS and writes a body in pieces."""

    def __init__(self, send: Send) -> None:
        self.send = send
        self.status = 0
        self.complete = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            own = [*message.get("headers", [])]
            given = {name for name, _ in own}
            added = [pair for pair in HEADERS if pair[0] not in given]
            await self.send({**message, "headers": [*own, *added]})
            return
        body, more = message.get("body", b""), message.get("more_body", False)
        last = max(0, len(body) - 1) // PIECE * PIECE
        for start in range(0, last + 1, PIECE):
            piece = body[start : start + PIECE]
            await self.send({**message, "body": piece, "more_body": more or start < last})
        self.complete = not more


def refusal(error: RefusedError) -> JSONResponse:
    """The response of an error."""
    words = {"error": error.message} | ({"hint": error.hint} if error.hint else {})
    headers = {} if error.retry_after is None else {"retry-after": str(error.retry_after)}
    return JSONResponse(words, status_code=error.status, headers=headers)


def internal_error() -> RefusedError:
    return RefusedError(500, "internal error", hint="the server has printed what it is")
