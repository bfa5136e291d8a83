"""The server's pages and endpoints."""

import json
from importlib.resources import files
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse

from deeplabx import __version__
from deeplabx.server import answers
from deeplabx.server.contract import ClientGoneError, RefusedError
from deeplabx.server.front import CLOSED_BY_CLIENT, Front, internal_error, refusal
from deeplabx.server.service import Service

PAGE = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/favicon.svg": ("favicon.svg", "image/svg+xml"),
}
ABOUT = """Semantic segmentation of images. The body of a request is the image file itself, as in
`curl --data-binary @photo.jpg`; formats: JPEG, PNG, BMP, TIFF, WebP, PPM, GIF. An error is JSON with `error`
and, where there is one, `hint`."""
ERRORS = {
    400: "no body",
    408: "the image did not arrive in time",
    413: "too many bytes or pixels",
    415: "a form or a compressed body",
    422: "not an image that can be read",
    503: "the queue is full or the server stops; Retry-After says when to come again",
    504: "the prediction took too long",
    507: "not enough memory for this image",
}
IMAGE = {
    "required": True,
    "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
}
PNG: dict[str, Any] = {"content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}}
BYTES: dict[str, Any] = {"content": {"application/octet-stream": {}}}


def application(service: Service, *, hosts: frozenset[str] | None = None) -> Front:
    """The ASGI application of a service. hosts: as in `Front`."""
    app = FastAPI(
        title="deeplabx",
        version=__version__,
        description=ABOUT,
        docs_url=None,  # it loads its scripts from another server
        redoc_url=None,
        redirect_slashes=False,
    )
    add_page(app)
    add_state(app, service)
    add_predictions(app, service)
    add_errors(app)
    front = Front(app, service, hosts=hosts)
    front.paths = frozenset(str(getattr(route, "path", "")) for route in app.routes)
    return front


def add_page(app: FastAPI) -> None:
    for path, (name, media_type) in PAGE.items():
        content = (files("deeplabx.server") / "page" / name).read_bytes()
        app.add_api_route(path, static(content, media_type), methods=["GET", "HEAD"], include_in_schema=False)


def static(content: bytes, media_type: str) -> Any:
    async def page() -> Response:
        return Response(content, media_type=media_type, headers={"cache-control": "no-cache"})

    return page


def add_state(app: FastAPI, service: Service) -> None:
    model, limits = service.model, service.limits
    classes = {
        "model": model.name,
        "classes": [
            {"id": index, "name": name, "colour": list(colour)}
            for index, (name, colour) in enumerate(zip(model.classes, model.palette, strict=True))
        ],
        "max_bytes": limits.max_bytes,
        "max_pixels": limits.max_pixels,
    }
    described = json.dumps(classes, ensure_ascii=False).encode("utf-8")

    @app.get("/classes", summary="The model's name, its classes with their colours, and the limits")
    async def list_classes() -> Response:
        return Response(described, media_type="application/json")

    @app.get("/health", summary="200 while images are accepted, 503 while the server stops")
    @app.head("/health", include_in_schema=False)
    async def health() -> Response:
        state = "stopping" if service.stopping else "ok"
        return JSONResponse({"status": state}, status_code=503 if service.stopping else 200)

    @app.get("/metrics", summary="Counts, durations and memory, as Prometheus reads them")
    async def metrics() -> Response:
        text = service.metrics.text(accepted=service.accepted, queue=limits.queue)
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4; charset=utf-8")


def add_predictions(app: FastAPI, service: Service) -> None:
    errors: dict[int | str, dict[str, Any]] = {
        status: {"description": words} for status, words in ERRORS.items()
    }
    body = {"requestBody": IMAGE}

    @app.post(
        "/predict",
        summary="The image's classes with pixels, share and run lengths, largest first",
        description="`rle` is COCO's compressed run-length encoding: pycocotools decodes it.",
        responses={**errors, 200: {"model": answers.Found}},
        openapi_extra=body,
    )
    async def predict(request: Request) -> Response:
        return await service.answer(request, answers.classes_json)

    @app.post(
        "/predict/ids.png",
        summary="Class ids as a palette PNG, of the image's size",
        responses={**errors, 200: PNG},
        openapi_extra=body,
    )
    async def predict_ids(request: Request) -> Response:
        return await service.answer(request, answers.ids_png)

    @app.post(
        "/predict/overlay.png",
        summary="The image with the colours of its classes laid over it",
        responses={**errors, 200: PNG},
        openapi_extra=body,
    )
    async def predict_overlay(
        request: Request, opacity: Annotated[float, Query(ge=0, le=1, description="of the colours")] = 0.5
    ) -> Response:
        return await service.answer(request, answers.overlay_png(opacity))

    @app.post(
        "/predict/map",
        summary="Class and probability of each pixel, as bytes",
        description=answers.id_map.__doc__,
        responses={**errors, 200: BYTES},
        openapi_extra=body,
    )
    async def predict_map(request: Request) -> Response:
        return await service.answer(request, answers.id_map, probabilities=True)


def add_errors(app: FastAPI) -> None:
    @app.exception_handler(RefusedError)
    async def refused(request: Request, error: RefusedError) -> Response:
        return refusal(error)

    @app.exception_handler(ClientGoneError)
    async def gone(request: Request, error: ClientGoneError) -> Response:
        return Response(status_code=CLOSED_BY_CLIENT)  # which nobody reads

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        words = "; ".join(f"{one['loc'][-1]}={one['input']}: {one['msg']}" for one in error.errors())
        return refusal(RefusedError(422, words[:200]))

    @app.exception_handler(404)
    async def not_found(request: Request, error: Exception) -> Response:
        return refusal(RefusedError(404, f"there is no {request.url.path[:100]}", hint="see /openapi.json"))

    @app.exception_handler(405)
    async def not_allowed(request: Request, error: Exception) -> Response:
        response = refusal(
            RefusedError(405, f"{request.method} is not possible here", hint="see /openapi.json")
        )
        response.headers.update(getattr(error, "headers", None) or {})
        return response

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> Response:
        return refusal(internal_error())
