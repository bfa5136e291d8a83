"""Errors and their exit codes. A message has one to three lines: what was found, what would be right."""

import errno
import importlib
import os
import re
import sys
from collections.abc import Iterable
from reprlib import Repr
from types import ModuleType


class DeeplabxError(Exception):
    """An error that the user can fix. `hint` says how."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


class ConfigError(DeeplabxError):
    """A wrong command line or config."""

    exit_code = 2


class PluginError(DeeplabxError):
    """An error in a plug-in, which is the user's own code. trace: its traceback, from their file on."""

    exit_code = 2

    def __init__(self, message: str, *, trace: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.trace = trace


class DataError(DeeplabxError):
    """A data set, image or label that cannot be used. kind: what is wrong, in a word for programs, such as
    "size_mismatch"; "unreadable" of an image or label file that is none of the other kinds.
    """

    exit_code = 3

    def __init__(self, message: str, *, hint: str = "", kind: str = "unreadable") -> None:
        super().__init__(message, hint=hint)
        self.kind = kind


class CheckpointError(DeeplabxError):
    """A checkpoint or weights file that is missing, damaged or does not fit."""

    exit_code = 4


class DeviceError(DeeplabxError):
    """A device that is missing or cannot do what was asked."""

    exit_code = 5


class PeerFailedError(DeviceError):
    """Another process of the run ends with an error, which says more than this one."""


class ResourceError(DeeplabxError):
    """Out of memory or disk, or a path that cannot be read or written."""

    exit_code = 6


class DivergedError(DeeplabxError):
    """The loss is no longer a finite number."""

    exit_code = 7


class SweepError(DeeplabxError):
    """Some jobs of a sweep failed; the others completed."""

    exit_code = 8


class PreemptedError(DeeplabxError):
    """The run was preempted (TERM, USR1); it is saved and can be resumed."""

    exit_code = 75


class StoppedError(DeeplabxError):
    """The user stopped the run (Ctrl-C); it is saved and can be resumed."""

    exit_code = 130


MOST_HINT = 2  # lines of a message's hint
LONGEST_LINE = 500  # characters in a line of a message, which may quote a file's content
SHORT = Repr()
SHORT.maxstring = SHORT.maxother = 120
SHORT.maxlevel = 2
# A path that cannot be read or written, whatever it is for.
PATH_ERRORS = (
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENAMETOOLONG,
    errno.ELOOP,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EEXIST,
    errno.EIO,
)


def nearest(name: str, known: Iterable[str]) -> str:
    """' Did you mean X?', or nothing if no known name is similar.

    A dotted key with the same last part comes first (`lr` suggests `optimizer.lr`), then up to three names
    that start with `name`, then the most similar name.
    """
    import difflib  # here, because only a wrong name needs it

    known = list(known)
    last = [key for key in known if "." in key and key.rpartition(".")[2] == name.rpartition(".")[2]]
    longer = [key for key in known if len(name) > 2 and key.startswith(name)][:3]
    by_lower_case = {key.lower(): key for key in known}
    close = [by_lower_case[key] for key in difflib.get_close_matches(name.lower(), by_lower_case, n=1)]
    found = sorted(last, key=lambda key: key.count("."))[:1] or longer or close
    return f" Did you mean {' or '.join(found)}?" if found else ""


def quoted(value: object) -> str:
    """`repr` of a value from a file, shortened: YAML aliases let a short file hold a value whose repr
    exhausts the memory.
    """
    return SHORT.repr(value)


def printable(text: str, limit: int = LONGEST_LINE) -> str:
    """`text` as one line without terminal control sequences, which names of files and classes may contain."""
    shown = "".join(
        character if character.isprintable() else repr(character)[1:-1] for character in text[: limit + 1]
    )
    return shown if len(shown) <= limit else f"{shown[: limit - 4]} ..."


def listed(names: Iterable[str], most: int = 20) -> str:
    """Names with commas between them; of more than `most`, the first ones and how many there are."""
    names = list(names)
    return ", ".join(names) if len(names) <= most else f"{', '.join(names[:most])}, ... ({len(names)} in all)"


def report(error: DeeplabxError) -> int:
    """Print an error in at most three lines, after the traceback of a user's own code; its exit code."""
    if isinstance(error, PluginError) and error.trace:
        print("\n".join(printable(line) for line in error.trace.splitlines()), file=sys.stderr)
    hint = [printable(line) for line in error.hint.splitlines()]
    print("\n  ".join([f"deeplabx: {printable(error.message)}", *hint[:MOST_HINT]]), file=sys.stderr)
    return error.exit_code


LESS_FOR_TRAINING = (
    "set trainer.accumulate=2 or more first: the same batch in passes that need less memory;\n"
    "then a smaller augment.crop_size or trainer.batch_size"
)
LESS_FOR_PREDICTION = "set eval.window=513 first, then fewer eval.scales"
LESS_FOR_LOADING = "set fewer trainer.workers first, then a smaller augment.crop_size or trainer.batch_size"
MORE_SHARED_MEMORY = "docker run --shm-size=1g gives a container more of it; trainer.workers=0 needs none"
AMOUNT = r"([\d.]+ (?:[KMGTP]i?B|bytes))"
GPU_MEMORY = (  # torch's words, today's and those of older versions: needed, GPU, total, free
    rf"Tried to allocate {AMOUNT}\. GPU (\d+) has a total capacity of {AMOUNT} of which {AMOUNT} is free",
    rf"Tried to allocate {AMOUNT} \(GPU (\d+); {AMOUNT} total capacity;.*? {AMOUNT} free",
)
NO_GPU_MEMORY = re.compile(
    r"(CUDA|HIP|XPU|MPS backend) out of memory|(CUDA|HIP) error: out of memory|ALLOC_FAILED|"
    r"Cuda failure.*out of memory"
)
NO_MEMORY = re.compile(r"can't allocate memory|not enough memory|Insufficient memory|bad_alloc|MemoryError")


def byte_words(count: float) -> str:
    """A number of bytes in words, such as 1.5 GiB."""
    for unit in ("bytes", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if count >= 10 or unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def memory_error(error: BaseException, *, hint: str = LESS_FOR_TRAINING) -> ResourceError | None:
    """Running out of memory, of a GPU or not, as one sentence with its numbers; None if `error` is something
    else.
    """
    text = " ".join(str(error).split())
    if type(error).__name__ == "OutOfMemoryError" or NO_GPU_MEMORY.search(text):
        return ResourceError(gpu_memory_words(text), hint=hint)
    known = isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
    if not known and not NO_MEMORY.search(text):
        return None
    if "DataLoader worker" in text:
        return ResourceError(f"a loader worker is out of memory{needed_words(text)}", hint=LESS_FOR_LOADING)
    return ResourceError(f"out of memory{needed_words(text)}", hint=hint)


def gpu_memory_words(text: str) -> str:
    for pattern in GPU_MEMORY:
        if found := re.search(pattern, text):
            needed, gpu, total, free = found.groups()
            own = re.search(rf"this process has {AMOUNT} memory in use|{AMOUNT} already allocated", text)
            used = f", {own[1] or own[2]} used by this process" if own else ""
            return f"out of memory on GPU {gpu}: {needed} more needed, {free} of {total} free{used}"
    needed_only = re.search(rf"Tried to allocate {AMOUNT}", text)
    return "out of GPU memory" + (f": {needed_only[1]} more needed" if needed_only else "")


def needed_words(text: str) -> str:
    """How much was asked for, in the words of torch, OpenCV or NumPy."""
    if count := re.search(r"(?:tried to allocate|Failed to allocate) (\d+) bytes", text):
        return f": {byte_words(int(count[1]))} more needed"
    if array := re.search(rf"Unable to allocate {AMOUNT} for an array with shape (\([\d, ]*\))", text):
        return f": {array[1]} more needed, for an array of {array[2]}"
    return ""


def loader_error(text: str) -> ResourceError | None:
    """What torch says of its loader's workers and of shared memory, as a ResourceError."""
    if re.search(r"shared memory(\(shm\)| object| segment)", text):
        reason = re.search(r"No space left on device|Permission denied|Read-only file system", text)
        words = reason[0] if reason else text[:200]
        return ResourceError(f"shared memory (/dev/shm) cannot be used: {words}", hint=MORE_SHARED_MEMORY)
    if re.search(r"Too many open files|received 0 items of ancdata", text):
        return ResourceError(
            "too many open files", hint="raise the limit with ulimit -n 65536, or set fewer trainer.workers"
        )
    if found := re.search(r"DataLoader worker \(pid\S* ([\d, ]+)\) (is killed by signal: \w+|exited)", text):
        how = found[2].replace("is killed by signal:", "was killed:")
        return ResourceError(
            f"a loader worker (process {found[1]}) {how}, as when memory runs out", hint=LESS_FOR_LOADING
        )
    return None


def resource_error(error: Exception) -> ResourceError | None:
    """Running out of memory or disk, which libraries raise as many different errors, as a ResourceError; None
    if `error` is something else.
    """
    text = " ".join(str(error).split())
    if (found := loader_error(text)) is not None:
        return found
    if isinstance(error, OSError) and error.errno == errno.EFBIG:
        return ResourceError(
            f"{error.filename or 'writing'}: {error.strerror}",
            hint="raise the limit on the size of files (ulimit -f), then `deeplabx resume RUN`",
        )
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ResourceError(
            f"{error.filename or 'writing'}: {error.strerror}",
            hint="free some space, then `deeplabx resume RUN`",
        )
    if isinstance(error, OSError) and error.errno in PATH_ERRORS and error.filename:
        return ResourceError(
            f"{error.filename}: {error.strerror}", hint="use another path, or change its permissions"
        )
    if isinstance(error, OSError) and "temporary directory" in text:  # Python's wording
        return ResourceError(
            f"temporary files cannot be written: {error.strerror or text}",
            hint="set TMPDIR to a writable folder: TMPDIR=FOLDER deeplabx ...",
        )
    number = re.search(r"\(os error (\d+)\)", text)  # in the form of Rust, from safetensors
    if number and not isinstance(error, OSError):
        return resource_error(OSError(int(number[1]), os.strerror(int(number[1])), "a checkpoint"))
    if "No space left on device" in text:  # torch's wording
        return ResourceError(text[:200], hint="free some space, then `deeplabx resume RUN`")
    return memory_error(error)


def needed(module: str, *, extra: str) -> ModuleType:
    """A module of an extra. Raises ConfigError, with the command that installs it, where it is absent."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        if error.name is None or error.name.partition(".")[0] != package:
            raise  # what is absent is a package that the module itself imports
        raise ConfigError(
            f"this needs the package {package}, which is not installed",
            hint=f"pip install 'deeplabx[{extra}]'",
        ) from None
