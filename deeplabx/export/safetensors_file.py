"""safetensors: the weights alone, without a graph; deeplabx builds the network around them."""

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from deeplabx.errors import CheckpointError
from deeplabx.export.metadata import Metadata


def write_safetensors(model: nn.Module, path: Path, metadata: Metadata) -> None:
    tensors = {name: value.detach().contiguous().cpu() for name, value in model.state_dict().items()}
    path.write_bytes(save(tensors, metadata=metadata.to_texts()))  # save_file leaves it to its owner alone


def safetensors_texts(path: Path) -> dict[str, str]:
    """The metadata of a safetensors file, as texts."""
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{path} cannot be read as safetensors: {error}") from None
