"""deeplabx serve: a page and a JSON service that segment images."""

import sys
from dataclasses import replace
from functools import partial

import numpy as np
import torch

from deeplabx.command.job import Job
from deeplabx.command.weights import checkpoint_of
from deeplabx.config import schema
from deeplabx.config.checks import checked_section, device_count
from deeplabx.dataset.contract import id_dtype
from deeplabx.errors import ConfigError, needed
from deeplabx.process.signals import StopRequest
from deeplabx.report.overlay import overlay
from deeplabx.run.description import StoredModel, stored_model
from deeplabx.server.contract import Limits, Segmentation, ServedModel

LOOPBACK = ("localhost", "127.0.0.1", "::1")


def main(job: Job) -> None:
    for module in ("fastapi", "uvicorn"):
        needed(module, extra="serve")
    settings = checked_section(job.config, "serve")
    found = stored_model(checkpoint_of(job.config.ckpt), change=job.changed)
    for words in found.warnings:
        print(f"warning: {words}", file=sys.stderr)
    serve(found, settings)


def serve(found: StoredModel, settings: schema.ServerConfig) -> None:
    """Serve until TERM, HUP, USR1 or Ctrl-C: the ordinary end of a server, which is no error."""
    from deeplabx.server.app import application  # here, because they need the extra
    from deeplabx.server.listening import Server, address_of, bound_socket, is_loopback
    from deeplabx.server.service import Service

    if device_count(found.config.trainer.devices) > 1:
        raise ConfigError(
            f"trainer.devices={found.config.trainer.devices}, but a server uses one device",
            hint="start one server per device, each with its own CUDA_VISIBLE_DEVICES and serve.port",
        )
    limits = Limits(
        max_bytes=settings.max_bytes,
        max_pixels=settings.max_pixels,
        queue=settings.queue,
        timeout=settings.timeout,
    )
    with StopRequest() as stop, bound_socket(settings.host, settings.port) as listener:
        local = is_loopback(listener)
        if not local:
            print(open_to_all(settings.host), file=sys.stderr)
        service = Service(served(found), limits)
        service.start()
        words = f"{service.model.name} at {address_of(listener, settings.host)}   (Ctrl-C ends it)"
        hosts = frozenset({*LOOPBACK, settings.host.lower()}) if local else None
        app = application(service, hosts=hosts)
        Server(app, service, stop=stop, announce=partial(print, words, flush=True)).run([listener])
    if service.accepted:
        print(f"warning: {service.accepted} accepted images were not answered", file=sys.stderr)
    print("stopped")


def open_to_all(host: str) -> str:
    return (
        f"warning: serve.host={host}: everyone who reaches this port can use the server; it asks for no "
        "password and encrypts nothing"
    )


def served(found: StoredModel) -> ServedModel:
    """The model of a checkpoint as the server uses it."""
    config, description = found.config, found.description
    predictor, palette = found.predictor(), description.palette
    dtype = id_dtype(len(palette))
    ids_alone = predictor.gives_ids  # as an exported file may

    def segment(image: np.ndarray, probabilities: bool, stop: StopRequest) -> Segmentation:
        [found] = replace(predictor, stop=stop).predict(
            [image], probabilities=probabilities and not ids_alone
        )
        ids = found.ids.cpu().numpy().astype(dtype)
        if found.probabilities is None:
            return Segmentation(ids)
        largest = found.probabilities.amax(dim=0).mul_(255).round_().clamp_(0, 255)
        return Segmentation(ids, largest.to(torch.uint8).cpu().numpy())

    def drawn(image: np.ndarray, ids: np.ndarray, opacity: float) -> np.ndarray:
        return overlay(image, ids, palette, opacity=opacity)

    network = f"{config.model.name} on {config.backbone.name}"
    return ServedModel(
        name=f"{network}, {len(palette)} classes of {config.dataset.name}",
        classes=description.classes,
        palette=palette,
        segment=segment,
        overlay=drawn,
        channels=config.dataset.channels,
    )
