"""The base learning rate in every step."""


def constant(step: int, *, max_iters: int) -> float:
    return 1.0
