"""Raw label ids to train ids."""

from collections.abc import Mapping

import numpy as np

from deeplabx.errors import DataError


def to_train_ids(raw: np.ndarray, label_map: Mapping[int, int], *, path: object) -> np.ndarray:
    """uint8 H x W of train ids. Raises DataError naming file, value and pixel for a raw id that `label_map` lacks."""
    table = np.full(256, -1, dtype=np.int16)
    for raw_id, train_id in label_map.items():
        table[raw_id] = train_id
    ids = table[raw]
    if ids.size and ids.min() < 0:
        row, column = np.argwhere(ids < 0)[0]
        count = int((ids < 0).sum())
        raise DataError(
            f"{path}: id {raw[row, column]} at row {row}, column {column} is no class and not void ({count} such pixels)",
            hint=f"known ids: {', '.join(map(str, sorted(label_map)))}",
        )
    return ids.astype(np.uint8)
