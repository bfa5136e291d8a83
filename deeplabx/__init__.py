"""deeplabx: train, evaluate and ship the DeepLab series. `import deeplabx` is instant: torch loads with the
first name used.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deeplabx.api import Result as Result
    from deeplabx.api import build_model as build_model
    from deeplabx.api import compose as compose
    from deeplabx.api import evaluate as evaluate
    from deeplabx.api import export_model as export_model
    from deeplabx.api import load as load
    from deeplabx.api import predict as predict
    from deeplabx.api import register as register
    from deeplabx.api import train as train

__version__ = "0.1.0"
__all__ = [
    "Result",
    "build_model",
    "compose",
    "evaluate",
    "export_model",
    "load",
    "predict",
    "register",
    "train",
]
TORCH_FREE = {"register": "deeplabx.registry"}  # a plug-in without torch is loaded without it


def __getattr__(name: str) -> Any:
    if name in __all__:
        from importlib import import_module

        return getattr(import_module(TORCH_FREE.get(name, "deeplabx.api")), name)
    raise AttributeError(f"module 'deeplabx' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
