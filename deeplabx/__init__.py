"""deeplabx: train, evaluate and ship the DeepLab series. `import deeplabx` is instant: torch loads with the
first name used.
"""

from typing import Any

__version__ = "0.1.0"
__all__ = ["build_model", "compose", "load", "register"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from deeplabx import api

        return getattr(api, name)
    raise AttributeError(f"module 'deeplabx' has no attribute {name!r}")
