"""Known weights in the cache: fetched once, there whole or not at all, and verified when a process first uses
them.
"""

import errno
import fcntl
import functools
import gzip
import hashlib
import http.client
import os
import shutil
import ssl
import stat
import sys
import tarfile
import urllib.error
import urllib.request
import uuid
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple
from urllib.parse import urlsplit

from tqdm import tqdm

from deeplabx.errors import CheckpointError, printable
from deeplabx.weights.known import Known

TIMEOUT = 5.0  # seconds until a server must answer, and for each further piece
SCHEMES = ("https",)  # 8 digits of a hash tell damage, not forgery: the connection must
PIECE = 1 << 20  # bytes
MOST_UNPACKED = 2 << 30  # bytes; the largest archive of the table holds a tenth of a GiB
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
DAMAGED = (
    tarfile.TarError,
    zipfile.BadZipFile,
    gzip.BadGzipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
)


def cached(known: Known) -> Path:
    """The file of known weights in the cache, downloaded where it is absent. Raises CheckpointError where it
    cannot be had, or is not the one.
    """
    path = known.path
    if not path.is_file():
        if os.environ.get("DEEPLABX_OFFLINE", "0") not in ("", "0"):
            raise unavailable(known, "DEEPLABX_OFFLINE is set")
        with alone(path):
            if not path.is_file():  # another process may have fetched it while this one waited
                download(known)
    digest = sha256_of(path)
    if not digest.startswith(known.sha256):
        raise CheckpointError(
            f"{path} is damaged or another file: its sha256 begins with {digest[:8]}, that of {known.name} "
            f"with {known.sha256[:8]}",
            hint="remove it to have it downloaded again",
        )
    return path


def sha256_of(path: Path) -> str:
    status = path.stat()
    return computed_sha256(path, changed=(status.st_mtime_ns, status.st_size))


@functools.cache  # once in a process: half a gigabyte takes a second
def computed_sha256(path: Path, *, changed: tuple[int, int]) -> str:
    """changed: when the file was, and its size; another pair is another file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def unavailable(known: Known, why: str) -> CheckpointError:
    return CheckpointError(
        f"{known.name} cannot be downloaded: {why}",
        hint=f"put {known.url}\nas {known.path}, or in weights/ of another folder: DEEPLABX_CACHE=FOLDER",
    )


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Wait until no other process makes `path`, and keep others from it. Removes what killed ones left
    unfinished.

    A flock, unlike engine.lock's lockf, also holds between threads; the kernel gives back that of a process
    that is killed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f".{path.name}.lock").open("a") as file:
        if locked(file, path.name):
            for left_over in path.parent.glob(f"{prefix(path)}*"):
                remove(left_over)
        yield


def locked(file: IO[str], name: str) -> bool:
    """Whether the lock is now ours; False on a file system without locks, where two may do the same work,
    each under a name of its own.
    """
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if sys.stderr.isatty():
                tqdm.write(f"waiting for another process, which fetches {name}", file=sys.stderr)
            fcntl.flock(file, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        return False
    return True


def prefix(path: Path) -> str:
    return f".tmp-{path.name}-"


def remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def unfinished(path: Path) -> Iterator[Path]:
    """A path beside, which becomes `path` when all went well, and else is removed."""
    temporary = path.with_name(f"{prefix(path)}{uuid.uuid4().hex}")
    try:
        yield temporary
        temporary.rename(path)
    finally:
        remove(temporary)
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write(path: Path, pieces: Iterator[bytes]) -> str:
    """The sha256 of what was written, which is on the disk then."""
    digest = hashlib.sha256()
    with path.open("xb") as file:
        for piece in pieces:
            file.write(piece)
            digest.update(piece)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def download(known: Known) -> None:
    with unfinished(known.path) as temporary:
        digest = write(temporary, received(known))
        if not digest.startswith(known.sha256):
            raise unavailable(
                known,
                f"what came is not the file: its sha256 begins with {digest[:8]}, not with "
                f"{known.sha256[:8]}",
            )


def received(known: Known) -> Iterator[bytes]:
    """The bytes of a file, with a bar on a terminal. Only what goes wrong on the network is a CheckpointError
    here: a full disk is its caller's.
    """
    try:
        with opened(known.url) as response:
            with tqdm(
                total=response.length, desc=known.name, unit="B", unit_scale=True, leave=False, disable=None
            ) as bar:
                while piece := response.read(PIECE):
                    yield piece
                    bar.update(len(piece))
            if response.length:  # what is still to come
                raise unavailable(known, f"the connection ended {response.length} bytes too early")
    except (OSError, http.client.HTTPException) as error:
        raise unavailable(known, words(error)) from None


def opened(url: str) -> http.client.HTTPResponse:
    check(url)
    request = urllib.request.Request(
        url, headers={"User-Agent": "deeplabx"}
    )  # some servers refuse Python's own
    return urllib.request.build_opener(Redirects).open(request, timeout=TIMEOUT)


class Redirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        try:
            check(newurl)
        except urllib.error.URLError:
            fp.close()
            raise
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def check(url: str) -> None:
    if urlsplit(url).scheme not in SCHEMES:
        raise urllib.error.URLError(f"{url} is not {' or '.join(SCHEMES)}")


def words(error: Exception) -> str:
    """What went wrong on the network, in one line."""
    if isinstance(error, urllib.error.HTTPError):
        error.close()
        return printable(f"the server answers {error.code} {error.reason}", 200)
    connecting = isinstance(error, urllib.error.URLError)
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, TimeoutError):
        return f"no answer within {TIMEOUT:g} seconds"
    shown = printable(str(reason) or type(reason).__name__, 200)
    return (
        f"no network ({shown})"
        if connecting and isinstance(reason, OSError) and not isinstance(reason, ssl.SSLError)
        else shown
    )


def fetched(known: Known) -> Path:
    """What the importers take: the file, or, of an archive, what is wanted of it."""
    return unpacked(known) if known.wanted else cached(known)


def unpacked(known: Known) -> Path:
    """What is wanted of an archive of known weights, beside it in the cache: a folder or a file, compared
    with the archive on first use.
    """
    archive = cached(known)
    folder = archive.with_name(f"{archive.name}.unpacked")
    if not folder.is_dir():
        with alone(folder):
            if not folder.is_dir():
                unpack(archive, known.wanted, folder)
    compare(archive, known.wanted, folder)
    return folder if known.wanted.endswith("/") else folder / PurePosixPath(known.wanted).name


def unpack(archive: Path, wanted: str, folder: Path) -> None:
    with unfinished(folder) as temporary, named_damage(archive):
        temporary.mkdir()
        for name, content in members(archive, wanted):
            target = temporary / name
            target.parent.mkdir(parents=True, exist_ok=True)
            write(target, pieces_of(content))


@functools.cache  # once in a process
def compare(archive: Path, wanted: str, folder: Path) -> None:
    """Raises CheckpointError unless the folder holds what the archive does."""
    with named_damage(archive):
        for name, content in members(archive, wanted):
            path = folder / name
            if not path.is_file() or not same(path, content):
                raise CheckpointError(
                    f"{path} is not what {archive.name} holds",
                    hint=f"remove {folder} to have it unpacked again",
                )


def same(path: Path, content: IO[bytes]) -> bool:
    with path.open("rb") as file:
        return all(piece == file.read(len(piece)) for piece in pieces_of(content)) and not file.read(1)


def pieces_of(content: IO[bytes]) -> Iterator[bytes]:
    while piece := content.read(PIECE):
        yield piece


@contextmanager
def named_damage(archive: Path) -> Iterator[None]:
    try:
        yield
    except DAMAGED as error:
        raise CheckpointError(
            f"{archive} cannot be unpacked: {printable(str(error) or type(error).__name__, 200)}"
        ) from None


class Member(NamedTuple):
    name: str
    size: int
    is_file: bool
    is_folder: bool
    open: Callable[[], IO[bytes] | None]


def members(archive: Path, wanted: str) -> Iterator[tuple[str, IO[bytes]]]:
    """The wanted files of an archive, by their names in the folder to come. Raises CheckpointError for one
    that holds anything but plain files.

    Stricter than tarfile's data filter, the same for zip files, and about all members: none of the known
    archives has links.
    """
    total, found = 0, set()
    for member in zip_members(archive) if archive.suffix in (".zip", ".whl") else tar_members(archive):
        total += member.size
        if why := suspicion(member, total):
            raise CheckpointError(f"{archive} is not unpacked: {printable(member.name, 200)} {why}")
        name = wanted_name(member.name, wanted)
        if name is None or not member.is_file:
            continue
        content = member.open()
        if name in found or content is None:
            raise CheckpointError(f"{archive} is not unpacked: {printable(member.name, 200)} is there twice")
        found.add(name)
        with content:
            yield name, content
    if not found:
        raise CheckpointError(f"{archive} holds no {wanted}")


def suspicion(member: Member, total: int) -> str:
    """Why a member is not to be unpacked, or nothing. total: bytes up to its end."""
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts:
        return "leads out of the folder"
    if not (member.is_file or member.is_folder):
        return "is a link or a device"
    return f"makes it larger than {MOST_UNPACKED} bytes" if total > MOST_UNPACKED else ""


def wanted_name(name: str, wanted: str) -> str | None:
    """The name in the folder to come, None where a member is not wanted."""
    if wanted.endswith("/"):
        return name.removeprefix(wanted) if name.startswith(wanted) and name != wanted else None
    return PurePosixPath(name).name if name == wanted else None


def tar_members(archive: Path) -> Iterator[Member]:
    with tarfile.open(archive, "r:gz") as file:
        for info in file:
            yield Member(
                info.name, info.size, info.isreg(), info.isdir(), functools.partial(file.extractfile, info)
            )


def zip_members(archive: Path) -> Iterator[Member]:
    with zipfile.ZipFile(archive) as file:
        for info in file.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)  # of the system that packed it; 0 where it has none
            is_file = not info.is_dir() and kind in (0, stat.S_IFREG)
            yield Member(
                info.filename, info.file_size, is_file, info.is_dir(), functools.partial(file.open, info)
            )
