import errno

import pytest

from deeplabx.errors import ResourceError, resource_error


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device", "file"),
        RuntimeError("SafetensorError: I/O error: No space left on device (os error 28)"),
        MemoryError("out"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_a_lack_of_memory_or_disk_is_recognized_under_its_names(error: Exception) -> None:
    assert isinstance(resource_error(error), ResourceError)


def test_another_error_is_not() -> None:
    assert resource_error(ValueError("no")) is None
