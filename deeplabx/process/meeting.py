"""Rendezvous of the processes of a run through a store that outlives some of them.

A launcher that restarts processes gives them the store of the previous attempt, which still holds the
addresses of processes that have exited; connecting to those would block forever. So the main process chooses
a name for this attempt and sends it to each process that asks.
"""

import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from torch.distributed import init_process_group
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

HELLOS = "deeplabx/hellos"  # how many processes have asked since the store was created
POLL = 0.05  # seconds


def join(backend: str, *, timeout: timedelta) -> None:
    """Initialise the process group with the processes of this attempt. Raises torch's DistError if they do
    not join in time.
    """
    store, rank, world_size = next(iter(rendezvous("env://", timeout=timeout)))
    name = uuid.uuid4().hex
    if rank == 0:
        with answering(
            store.clone(), name
        ):  # its own connection: a store handles one call at a time, and joining takes long
            init_process_group(
                backend, store=PrefixStore(name, store), rank=rank, world_size=world_size, timeout=timeout
            )
        return
    place = store.add(HELLOS, 1)
    store.set(hello(place), name)
    attempt = store.get(answer(name)).decode()
    init_process_group(
        backend, store=PrefixStore(attempt, store), rank=rank, world_size=world_size, timeout=timeout
    )


def hello(place: int) -> str:
    return f"deeplabx/hello/{place}"


def answer(name: str) -> str:
    return f"deeplabx/answer/{name}"


@contextmanager
def answering(store: Store, attempt: str) -> Iterator[None]:
    """Send `attempt` to every process that asks or has asked; an answer to one that exited is harmless."""
    over = threading.Event()

    def tell() -> None:
        place = 1
        while not over.wait(POLL):
            while store.check([hello(place)]):
                store.set(answer(store.get(hello(place)).decode()), attempt)
                place += 1

    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
