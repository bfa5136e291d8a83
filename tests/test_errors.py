import errno
import tempfile

import pytest

from deeplabx.errors import ResourceError, memory_error, printable, quoted, resource_error


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device", "file"),
        PermissionError(errno.EACCES, "Permission denied", "file"),
        OSError(errno.ENAMETOOLONG, "File name too long", "file"),
        RuntimeError("SafetensorError: I/O error: No space left on device (os error 28)"),
        MemoryError("out"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_a_lack_of_memory_or_disk_is_recognized_under_its_names(error: Exception) -> None:
    assert isinstance(resource_error(error), ResourceError)


def test_another_error_is_not() -> None:
    assert resource_error(ValueError("no")) is None


def test_a_quoted_value_is_short_however_large_its_repr_would_be() -> None:
    value: list[object] = ["x"] * 9
    for _ in range(30):
        value = [value] * 9
    assert len(quoted(value)) < 500
    assert quoted("x" * 10**6).startswith("'xxx")
    assert len(quoted("x" * 10**6)) < 200
    assert quoted(7) == "7"


def test_a_printable_line_is_one_line_without_control_characters() -> None:
    assert printable("größe 写真") == "größe 写真"
    assert printable("a\nb\x1b[31m\u202e") == "a\\nb\\x1b[31m\\u202e"
    assert printable("x" * 11, 10) == "xxxxxx ..."


@pytest.mark.parametrize(
    ("number", "words"),
    [(27, "File too large"), (28, "No space left on device"), (122, "Disk quota exceeded")],
)
def test_what_safetensors_says_of_a_disk_is_understood(number: int, words: str) -> None:
    error = resource_error(RuntimeError(f"Error while serializing: I/O error: {words} (os error {number})"))
    assert error is not None
    assert error.exit_code == 6
    assert words in error.message


def test_no_temporary_folder_is_named_with_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/nowhere"])
    monkeypatch.setattr(tempfile, "tempdir", None)
    with pytest.raises(FileNotFoundError) as raised:
        tempfile.gettempdir()
    found = resource_error(raised.value)
    assert found is not None
    assert found.message.endswith("No usable temporary directory found in ['/nowhere']")
    assert "TMPDIR=FOLDER" in found.hint


# --- memory, in the words of the libraries ------------------------------------------------------------------

TODAY = (
    "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 79.11 GiB of which 3.41 "
    "GiB is free. Including non-PyTorch memory, this process has 75.69 GiB memory in use. Of the allocated "
    "memory 74.90 GiB is allocated by PyTorch, and 140.25 MiB is reserved by PyTorch but unallocated. If "
    "reserved but unallocated memory is large try setting PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True"
)
SHARED_GPU = (
    "CUDA out of memory. Tried to allocate 64.00 MiB. GPU 1 has a total capacity of 79.11 GiB of which "
    "512.00 KiB is free. Process 4711 has 70.00 GiB memory in use. Including non-PyTorch memory, this "
    "process has 9.11 GiB memory in use. Of the allocated memory ..."
)
OLDER = (
    "CUDA out of memory. Tried to allocate 1.53 GiB (GPU 0; 15.78 GiB total capacity; 13.09 GiB already "
    "allocated; 1.20 GiB free; 13.20 GiB reserved in total by PyTorch) If reserved memory is >> ..."
)
OPENCV = (
    "OpenCV(4.12.0) /io/opencv/modules/core/src/alloc.cpp:73: error: (-4:Insufficient memory) Failed to "
    "allocate 1073741824 bytes in function 'OutOfMemoryError'\n"
)
WRAPPED = (
    "Caught MemoryError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n ...\n"
    "numpy._core._exceptions._ArrayMemoryError: Unable to allocate 858. MiB for an array with shape (10000, "
    "30000, 3) and data type uint8"
)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            RuntimeError(TODAY),
            "out of memory on GPU 0: 20.00 GiB more needed, 3.41 GiB of 79.11 GiB free, 75.69 GiB used by "
            "this process",
        ),
        (
            RuntimeError(SHARED_GPU),
            "out of memory on GPU 1: 64.00 MiB more needed, 512.00 KiB of 79.11 GiB free, 9.11 GiB used by "
            "this process",
        ),
        (
            RuntimeError(OLDER),
            "out of memory on GPU 0: 1.53 GiB more needed, 1.20 GiB of 15.78 GiB free, 13.09 GiB used by "
            "this process",
        ),
        (RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be ..."), "out of GPU memory"),
        (
            RuntimeError("HIP out of memory. Tried to allocate 2.00 GiB. GPU 0 has 15.98 GiB total capacity"),
            "out of GPU memory: 2.00 GiB more needed",
        ),
        (
            RuntimeError("MPS backend out of memory (MPS allocated: 5.41 GB). Tried to allocate 1.25 GB on"),
            "out of GPU memory: 1.25 GB more needed",
        ),
        (
            RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
            "out of GPU memory",
        ),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), "out of GPU memory"),
        (
            RuntimeError(
                "NCCL error in: ProcessGroupNCCL.cpp:77, unhandled cuda error\nLast error:\nCuda failure 2 "
                "'out of memory'"
            ),
            "out of GPU memory",
        ),
        (
            RuntimeError(
                "[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory: "
                "you tried to allocate 3221225472 bytes. Error code 12 (Cannot allocate memory)"
            ),
            "out of memory: 3.0 GiB more needed",
        ),
        (RuntimeError(OPENCV), "out of memory: 1.0 GiB more needed"),
        (RuntimeError("std::bad_alloc"), "out of memory"),
        (MemoryError(), "out of memory"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "out of memory"),
        (
            MemoryError(
                "Unable to allocate 15.3 GiB for an array with shape (40000, 51200) and data type float64"
            ),
            "out of memory: 15.3 GiB more needed, for an array of (40000, 51200)",
        ),
        (
            MemoryError(WRAPPED),
            "a loader worker is out of memory: 858. MiB more needed, for an array of (10000, 30000, 3)",
        ),
    ],
)
def test_a_lack_of_memory_is_one_sentence_with_its_numbers(error: Exception, words: str) -> None:
    found = resource_error(error)
    assert found is not None
    assert (found.message, found.exit_code) == (words, 6)
    hints = found.hint.splitlines()
    assert 1 <= len(hints) <= 2
    assert hints[0].startswith(("set trainer.accumulate=2", "set fewer trainer.workers first"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "DataLoader worker (pid 123) is killed by signal: Killed. ",
            "a loader worker (process 123) was killed: Killed, as when memory runs out",
        ),
        (
            "DataLoader worker (pid(s) 12, 13) exited unexpectedly",
            "a loader worker (process 12, 13) exited, as when memory runs out",
        ),
        (
            "unable to open shared memory object </torch_1_2_3> in read-write mode: Read-only file system "
            "(30)",
            "shared memory (/dev/shm) cannot be used: Read-only file system",
        ),
        (
            "NCCL error, ncclSystemError. Last error:\nError while creating shared memory segment "
            "/dev/shm/nccl-7 (size 9637888), error: No space left on device (28)",
            "shared memory (/dev/shm) cannot be used: No space left on device",
        ),
        ("received 0 items of ancdata", "too many open files"),
        ("Too many open files. Communication with the workers is no longer possible.", "too many open files"),
    ],
)
def test_what_torch_says_of_workers_and_shared_memory_is_understood(text: str, words: str) -> None:
    found = resource_error(RuntimeError(text))
    assert found is not None
    assert (found.message, found.exit_code) == (words, 6)
    assert found.hint


def test_a_hint_can_be_the_commands_own() -> None:
    found = memory_error(RuntimeError(TODAY), hint="set eval.window=513")
    assert found is not None
    assert found.hint == "set eval.window=513"
