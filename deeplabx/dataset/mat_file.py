"""A matrix of ids in one of Matlab's files."""

import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from deeplabx.dataset.label_file import within_range
from deeplabx.errors import DataError


def matrix_of(path: Path, keys: Sequence[str], *, what: str) -> np.ndarray:
    """H x W of ids, uint8 or int32, that `keys` lead to: a variable, then fields of it. what: the kind of
    file, for the message of the DataError that is raised where it is another.
    """
    from scipy.io import loadmat  # imported here because it is slow
    from scipy.io.matlab import MatReadError

    name, *fields = keys
    try:
        found = loadmat(path, squeeze_me=bool(fields), variable_names=[name])[name]
        for field in fields:
            found = found[field].item()
    except (
        MatReadError,
        OSError,
        ValueError,
        TypeError,
        LookupError,
        NameError,
        NotImplementedError,
        zlib.error,
    ) as error:
        raise DataError(f"{path} is not {what}: {type(error).__name__}: {str(error)[:120]}") from None
    if not (isinstance(found, np.ndarray) and found.ndim == 2 and found.size and found.dtype.kind in "iuf"):
        raise DataError(f"{path} is not {what}: {'.'.join(keys)} is not a matrix of ids")
    if found.dtype.kind == "f":  # Matlab's own type of numbers
        whole = np.nan_to_num(found, nan=-1, posinf=-1, neginf=-1)
        if (whole != np.floor(whole)).any():
            raise DataError(f"{path} is not {what}: {'.'.join(keys)} has numbers that are not whole")
        found = whole.clip(-1, 1 << 30).astype(np.int64)
    return within_range(np.ascontiguousarray(found), path)
