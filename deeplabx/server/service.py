"""Requests for a prediction, from their admission to the answer."""

import asyncio
import signal
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from math import ceil

import numpy as np
from fastapi import Request, Response

from deeplabx.errors import DataError, ResourceError, memory_error
from deeplabx.process.signals import StopRequest
from deeplabx.server.answers import Answer, Encode
from deeplabx.server.contract import ClientGoneError, Limits, RefusedError, ServedModel
from deeplabx.server.metrics import Metrics
from deeplabx.server.upload import Receive, image_of, received, refuse_headers
from deeplabx.server.worker import Worker

FIRST_SIDE = 65  # of the image that is predicted before the first request
LESS = "send a smaller image; the server's eval.window=513 takes less memory"


class Service:
    """One model, its worker thread and its queue. All but `predicted` runs in the event loop."""

    def __init__(self, model: ServedModel, limits: Limits) -> None:
        self.model, self.limits = model, limits
        self.metrics, self.worker = Metrics(), Worker()
        self.accepted = 0
        self.stopping = False

    def start(self) -> None:
        """Start the worker and predict a small image: what cannot predict does not begin to serve."""
        self.worker.start()
        first = np.zeros((FIRST_SIDE, FIRST_SIDE, 3), np.uint8)
        self.worker.submit(partial(self.model.segment, first, True, StopRequest())).result()

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place in the queue, from before an image is received until its answer is sent. Raises
        RefusedError where there is none.
        """
        if self.stopping:
            raise RefusedError(503, "the server is stopping", retry_after=10)
        if self.accepted >= self.limits.queue:
            raise RefusedError(
                503,
                f"all {self.limits.queue} places of the queue are taken",
                hint="try again later; serve.queue is the limit of this server",
                retry_after=max(1, ceil(self.accepted * self.metrics.prediction_seconds.mean)),
            )
        self.accepted += 1
        try:
            yield
        finally:
            self.accepted -= 1

    async def answer(self, request: Request, encode: Encode, *, probabilities: bool = False) -> Response:
        """The response with the segmentation of the image in the request's body."""
        refuse_headers(request.headers, self.limits)
        try:
            async with asyncio.timeout(self.limits.timeout):
                content = await received(request.receive, self.limits)
        except TimeoutError:
            raise RefusedError(408, f"the image did not arrive within {self.limits.timeout:g} s") from None
        stop = StopRequest()
        future = self.worker.submit(partial(self.predicted, content, encode, probabilities, stop))
        del content  # the call has it, and frees it
        try:
            answer = await self.result_of(future, request.receive)
        finally:
            stop.number = signal.SIGTERM  # of a prediction in windows, what is left is not computed
        return Response(answer.body, media_type=answer.media_type, headers=answer.headers)

    async def result_of(self, future: Future, receive: Receive) -> Answer:
        """What the worker returns. Its call is cancelled when the client goes, or has waited for too long;
        one that runs is stopped by `answer`.
        """
        result = asyncio.wrap_future(future)
        gone = asyncio.ensure_future(disconnected(receive))
        try:
            await asyncio.wait(
                {result, gone}, timeout=self.limits.timeout, return_when=asyncio.FIRST_COMPLETED
            )
            if result.done():
                return result.result()
            if gone.done():
                raise ClientGoneError
            running, seconds = future.running(), f"{self.limits.timeout:g} s"
            if running:
                raise RefusedError(504, f"the prediction took longer than {seconds}", hint=LESS)
            raise RefusedError(503, f"the prediction did not begin within {seconds}", retry_after=10)
        finally:
            result.cancel()
            gone.cancel()

    def predicted(self, content: bytes, encode: Encode, probabilities: bool, stop: StopRequest) -> Answer:
        """The answer to an image file. Raises RefusedError. In the worker thread."""
        started = time.perf_counter()
        try:
            image = image_of(content, self.limits, channels=self.model.channels)
            answer = encode(self.model, image, self.model.segment(image, probabilities, stop))
        except DataError as error:
            raise RefusedError(422, error.message, hint=error.hint) from None
        except (MemoryError, RuntimeError, ResourceError) as error:
            full = error if isinstance(error, ResourceError) else memory_error(error)
            if full is None:
                raise
            raise RefusedError(507, full.message, hint=LESS) from None
        seconds = time.perf_counter() - started
        self.metrics.predicted(image.shape[0] * image.shape[1], seconds)
        answer.headers["server-timing"] = f"prediction;dur={1000 * seconds:.1f}"
        return answer


async def disconnected(receive: Receive) -> None:
    """Wait until the client has closed the connection."""
    while (await receive())["type"] != "http.disconnect":
        pass
