"""Known weights in the cache: downloaded once, complete or absent, verified on first use by a process."""

import functools
import gzip
import hashlib
import http.client
import os
import shutil
import tarfile
import urllib.request
import zlib
from pathlib import Path, PurePosixPath
from urllib.error import HTTPError, URLError

from tqdm import tqdm

from deeplabx.engine.durable import arriving, arriving_file, remove
from deeplabx.engine.lock import exclusive
from deeplabx.errors import CheckpointError, printable, resource_error
from deeplabx.weights.known import Known

TIMEOUT = 5.0  # seconds to wait for a server's response, and for each further block
# Without a handler for http, ftp or files, urllib refuses such an address, also after a redirect: 8 digits of
# a sha256 detect damage, not forgery. torch.hub.download_url_to_file follows a redirect to http and waits for
# a silent server forever; both can be changed only for the whole process.
HANDLERS: tuple[type[urllib.request.BaseHandler], ...] = (
    urllib.request.ProxyHandler,
    urllib.request.HTTPSHandler,
    urllib.request.HTTPRedirectHandler,
    urllib.request.HTTPErrorProcessor,
    urllib.request.HTTPDefaultErrorHandler,
    urllib.request.UnknownHandler,
)
SUMS = ".sha256"  # in an unpacked folder, as `sha256sum` writes it
DAMAGED = (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError)


def fetched(known: Known) -> Path:
    """The path that the importers take: the file, or the part of an archive that is needed, unpacked beside
    it in the cache.

    It is unpacked again if one of its files has changed.
    """
    path = cached(known)
    if not known.wanted:
        return path
    folder = path.with_name(f"{path.name}.unpacked")
    if not intact(folder):
        with exclusive(folder):
            if not intact(folder):
                unpack(path, known.wanted, folder)
    return folder / known.wanted


def cached(known: Known) -> Path:
    """The file of known weights in the cache, downloaded if missing. Raises CheckpointError if it cannot be
    downloaded or has another sha256.
    """
    path = known.path
    if not path.is_file():
        if os.environ.get("DEEPLABX_OFFLINE", "0") not in ("", "0"):
            raise unavailable(known, "DEEPLABX_OFFLINE is set")
        with exclusive(path):
            if not path.is_file():  # another process may have downloaded it while this one waited
                download(known)
    digest = sha256_of(path)
    if not digest.startswith(known.sha256):
        raise CheckpointError(
            f"{path} is damaged or another file: the sha256 of {known.name} begins with "
            f"{known.sha256[:8]}, that of this file with {digest[:8]}",
            hint="delete it to download it again",
        )
    return path


def sha256_of(path: Path) -> str:
    status = path.stat()
    return computed_sha256(path, changed=(status.st_mtime_ns, status.st_size))


@functools.cache  # once in a process: half a gigabyte takes a second
def computed_sha256(path: Path, *, changed: tuple[int, int]) -> str:
    """changed: modification time and size of the file; if they change, the sha256 is computed again."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def unavailable(known: Known, why: str) -> CheckpointError:
    return CheckpointError(
        f"{known.name} cannot be downloaded: {why}",
        hint=f"download {known.url}\nto {known.path}, or to weights/ in DEEPLABX_CACHE=FOLDER",
    )


def download(known: Known) -> None:
    with arriving_file(known.path) as temporary:
        try:
            receive(known, temporary)
        except (OSError, http.client.HTTPException) as error:
            if resource_error(error):  # a full disk is not a network error
                raise
            raise unavailable(known, words(error)) from None
        digest = sha256_of(temporary)
        if not digest.startswith(known.sha256):
            raise unavailable(
                known, f"checksum mismatch: its sha256 begins with {digest[:8]}, not with {known.sha256[:8]}"
            )


def receive(known: Known, path: Path) -> None:
    """Download to `path`, with a progress bar on a terminal."""
    opener = urllib.request.OpenerDirector()
    opener.addheaders = [("User-Agent", "deeplabx")]  # some servers refuse Python's own
    for handler in HANDLERS:
        opener.add_handler(handler())
    with opener.open(known.url, timeout=TIMEOUT) as response:
        bar = tqdm.wrapattr(
            response, "read", total=response.length, desc=known.name, leave=False, disable=None
        )
        with bar as body, path.open("xb") as file:
            shutil.copyfileobj(body, file)
        if response.length:  # bytes not received
            raise http.client.HTTPException(f"the connection ended {response.length} bytes too early")


def words(error: Exception) -> str:
    """The reason, in one line."""
    if isinstance(error, HTTPError):
        error.close()
        return printable(f"the server returned {error.code} {error.reason}", 200)
    reason = error.reason if isinstance(error, URLError) else error
    if isinstance(reason, TimeoutError):
        return f"no answer within {TIMEOUT:g} seconds"
    return printable(str(reason) or type(reason).__name__, 200)


def unpack(archive: Path, wanted: str, folder: Path) -> None:
    if folder.exists():
        remove(folder)
    try:
        with arriving(folder, over=False) as unfinished, tarfile.open(archive, "r:gz") as file:
            members = [member for member in file if PurePosixPath(member.name).is_relative_to(wanted)]
            file.extractall(unfinished, members, filter="data")
            if not (unfinished / wanted).exists():
                raise CheckpointError(f"{archive} does not contain {wanted}")
            (unfinished / SUMS).write_text(sums(unfinished), encoding="utf-8")
    except DAMAGED as error:
        raise CheckpointError(f"{archive} cannot be unpacked: {words(error)}") from None


def intact(folder: Path) -> bool:
    """Whether an unpacked folder exists and its files still match their checksums."""
    path = folder / SUMS
    return path.is_file() and path.read_bytes() == sums(folder).encode()


def sums(folder: Path) -> str:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != SUMS)
    return "".join(f"{sha256_of(path)}  {path.relative_to(folder)}\n" for path in files)
