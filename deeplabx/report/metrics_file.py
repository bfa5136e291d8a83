"""What metrics.jsonl of a run says."""

import json
from pathlib import Path

MOST_STEPS = 2**31


def evaluations(folder: Path) -> dict[int, float]:
    """The mIoU of each evaluation, by its step. A line that is not whole, as of a run that writes it just
    now, and one without a step and an mIoU that a run can have are passed over.
    """
    path = folder / "metrics.jsonl"
    if not path.is_file():
        return {}
    found: dict[int, float] = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        if '"miou"' not in line:
            continue
        try:
            values = json.loads(line)
        except (ValueError, RecursionError):
            continue
        step, miou = (values.get(name) for name in ("step", "miou")) if isinstance(values, dict) else (0, 0)
        if type(step) is int and 0 <= step <= MOST_STEPS and type(miou) is float and 0 <= miou <= 1:
            found[step] = miou
    return found
