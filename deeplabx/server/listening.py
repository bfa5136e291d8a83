"""The port, its connections, and the end of a server."""

import errno
import ipaddress
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from deeplabx.errors import ConfigError
from deeplabx.process.signals import StopRequest
from deeplabx.server.front import Front
from deeplabx.server.service import Service

MOST_CONNECTIONS = 500  # half of the files that a process may usually open
SECONDS_FOR_HEADERS = 10
IN_WORDS = {
    errno.EADDRINUSE: "is in use by another program",
    errno.EADDRNOTAVAIL: "is not an address of this machine",
    errno.EACCES: "is not for this user: ports below 1024 are the system's",
}


def bound_socket(host: str, port: int) -> socket.socket:
    """A socket bound to the address, not listening yet. Raises ConfigError where that is not possible."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError):
        raise ConfigError(f"serve.host={host} is not an address", hint="as in serve.host=127.0.0.1") from None
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
    except OSError as error:
        listener.close()
        reason = IN_WORDS.get(error.errno or 0, os.strerror(error.errno or 0))
        raise ConfigError(
            f"serve.host={host} serve.port={port} {reason}", hint="serve.port=0 takes any free port"
        ) from None
    return listener


def is_loopback(listener: socket.socket) -> bool:
    """Whether only this machine can reach it."""
    return ipaddress.ip_address(listener.getsockname()[0].partition("%")[0]).is_loopback


def address_of(listener: socket.socket, host: str) -> str:
    """Where a browser on this machine finds it."""
    place, port = listener.getsockname()[:2]
    if place in ("0.0.0.0", "::"):
        host = "localhost"
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"


class Connection(H11Protocol):
    """Uvicorn's, but one that neither sends nor receives is closed: uvicorn waits for it for ever."""

    phase: tuple[str, float] = ("", 0.0)  # and since when

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS:
            transport.abort()

    def send_400_response(self, msg: str) -> None:
        """The answer to what is not HTTP, unless another one has begun."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            self.transport.abort()
        elif self.conn.our_state is h11.IDLE or self.conn.our_state is h11.SEND_RESPONSE:
            super().send_400_response(msg)
        else:
            self.transport.abort()

    def current_phase(self) -> str:
        """What the client is to do: send headers or a body, or receive. Empty when nothing is waited for, and
        between two requests, for which uvicorn has a limit.
        """
        if self.transport.get_write_buffer_size():
            return "receive"
        if self.conn.their_state is h11.SEND_BODY:
            return "body"
        fresh = self.conn.their_state is h11.IDLE and self.timeout_keep_alive_task is None
        return "headers" if fresh else ""

    def close_if_late(self, now: float, *, timeout: float) -> None:
        current = self.current_phase()
        known, since = self.phase
        if current != known:
            self.phase = (current, now)
        elif current and now - since > (SECONDS_FOR_HEADERS if current == "headers" else timeout):
            self.transport.abort()


class Server(uvicorn.Server):
    """Serves until a signal comes: then it accepts no more images, answers those that it has, and ends.

    announce: is called when it is ready.
    """

    def __init__(
        self, app: Front, service: Service, *, stop: StopRequest, announce: Callable[[], None]
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                loop="asyncio",
                http=Connection,
                ws="none",
                lifespan="off",
                log_config=None,
                log_level="critical",  # uvicorn's words on broken requests; Front prints our own errors
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=1,
            )
        )
        self.service, self.stop, self.announce = service, stop, announce
        self.last = float("inf")  # moment at which it ends in any case

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # `stop` has them

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.announce()

    async def on_tick(self, counter: int) -> bool:
        now, timeout = time.monotonic(), self.service.limits.timeout
        if self.stop.number is not None and not self.service.stopping:
            self.service.stopping = True
            self.last = now + timeout
        if self.service.stopping and (self.service.accepted == 0 or now > self.last):
            self.should_exit = True
        if counter % 10 == 0:
            for connection in list(self.server_state.connections):
                if isinstance(connection, Connection):
                    connection.close_if_late(now, timeout=timeout)
        return await super().on_tick(counter)
