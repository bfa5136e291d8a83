"""Errors and their exit codes. A message has one to three lines: what was found, what would be right."""

import errno
import os
import re
import sys
from collections.abc import Iterable
from reprlib import Repr


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
    """A data set, image or label that cannot be used."""

    exit_code = 3


class CheckpointError(DeeplabxError):
    """A checkpoint or weights file that is missing, damaged or does not fit."""

    exit_code = 4


class DeviceError(DeeplabxError):
    """A device that is missing or cannot do what was asked."""

    exit_code = 5


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


def report(error: DeeplabxError) -> int:
    """Print an error in at most three lines, after the traceback of a user's own code; its exit code."""
    if isinstance(error, PluginError) and error.trace:
        print("\n".join(printable(line) for line in error.trace.splitlines()), file=sys.stderr)
    hint = [printable(line) for line in error.hint.splitlines()]
    print("\n  ".join([f"deeplabx: {printable(error.message)}", *hint[:MOST_HINT]]), file=sys.stderr)
    return error.exit_code


def resource_error(error: Exception) -> ResourceError | None:
    """Running out of memory or disk, which libraries raise as many different errors, as a ResourceError; None
    if `error` is something else.
    """
    first_line = (str(error).splitlines() or [""])[0][:200]
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return ResourceError(
            f"{error.filename or 'writing'}: {error.strerror}",
            hint="free some space, then `deeplabx resume RUN`",
        )
    if isinstance(error, OSError) and error.errno in PATH_ERRORS and error.filename:
        return ResourceError(
            f"{error.filename}: {error.strerror}", hint="use another path, or change its permissions"
        )
    if isinstance(error, OSError) and "temporary directory" in first_line:  # Python's wording
        return ResourceError(
            f"temporary files cannot be written: {error.strerror or first_line}",
            hint="set TMPDIR to a writable folder: TMPDIR=FOLDER deeplabx ...",
        )
    number = re.search(r"\(os error (\d+)\)", first_line)  # in the form of Rust, from safetensors
    if number and not isinstance(error, OSError):
        return resource_error(OSError(int(number[1]), os.strerror(int(number[1])), "a checkpoint"))
    if "No space left on device" in first_line:  # torch's wording
        return ResourceError(first_line, hint="free some space, then `deeplabx resume RUN`")
    if (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "can't allocate memory" in first_line
    ):
        return ResourceError(
            f"out of memory: {first_line}",
            hint="try a smaller augment.crop_size, or the same batch in more passes: trainer.accumulate=2",
        )
    return None
