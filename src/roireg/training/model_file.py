"""Files of trained networks: weights as safetensors, a description in JSON, and a checksum of both; no code."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from roireg.data.readers.gate import check_regular, require_memory
from roireg.errors import InputError
from roireg.files import atomic_path

CHECKSUM = "roireg_sha256"
REMEDY = "Train it again, with `roireg` or the workflow"
# Layers, channels and pixels of a description; a network of such sizes that has the file's weights fits in memory.
GREATEST_NUMBER = 4096
# Raised by torch, safetensors or constructors for files that are none or have an invalid description.
READ_ERRORS = (
    OSError,
    SafetensorError,
    KeyError,
    TypeError,
    ValueError,
    RuntimeError,
    AttributeError,
    AssertionError,
    IndexError,
    ArithmeticError,
)


@dataclass(frozen=True, eq=False)
class ModelFile:
    """What a file holds: the description, and weights by name."""

    description: dict[str, Any]
    state: dict[str, Tensor]


def write_model(path: str | Path, key: str, description: Mapping[str, Any], network: nn.Module) -> None:
    """Write a network, atomically.

    Args:
        path: a `.safetensors` file.
        key: of the description in the file's metadata; tells kinds of networks apart.
        description: what it takes to build the network; JSON.
        network: its weights are written.
    """
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    told = json.dumps(description)
    with atomic_path(path) as temporary:
        save_file(state, temporary, {key: told, CHECKSUM: _checksum(told, state)})


def read_model(path: str | Path, key: str) -> ModelFile:
    """Read a file written by `write_model`.

    Raises:
        InputError: it is no regular file.
        READ_ERRORS: it is damaged, of another kind, or holds weights that are not finite.
    """
    check_regular(path)
    with safe_open(path, framework="pt", device="cpu") as file:
        metadata = file.metadata() or {}
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    told = metadata[key]
    if CHECKSUM in metadata and metadata[CHECKSUM] != _checksum(told, state):
        raise ValueError("its checksum does not fit")
    if not all(bool(tensor.isfinite().all()) for tensor in state.values()):
        raise ValueError("its weights are not finite")
    description = json.loads(told)
    if not isinstance(description, dict):
        raise TypeError("its description has no keys")
    return ModelFile(description, state)


def network_of(path: str | Path, model: ModelFile, build: Callable[[], nn.Module]) -> nn.Module:
    """The network that a description builds, with the file's weights.

    It is built without memory first: sizes of a damaged description can be anything.

    Raises:
        READ_ERRORS: the weights are those of another network.
    """
    with torch.device("meta"):
        expected = {name: tensor.shape for name, tensor in build().state_dict().items()}
    if expected != {name: tensor.shape for name, tensor in model.state.items()}:
        raise ValueError("its weights are those of another network")
    require_memory(path, sum(tensor.nbytes for tensor in model.state.values()))
    network = build()
    network.load_state_dict(model.state)
    return network


def checked_sizes(entry: Mapping[str, Any], model: ModelFile) -> dict[str, Any]:
    """Entries of a description whose numbers are sizes: whole, positive, and no more layers than there are weights.

    Raises:
        READ_ERRORS: one is none.
    """
    for name, value in entry.items():
        numbers = [one for one in (value if isinstance(value, list) else [value]) if not isinstance(one, str)]
        if any(type(one) is not int or not 1 <= one <= GREATEST_NUMBER for one in numbers):
            raise ValueError(f"{name} is {value!r}")
        if len(numbers) > len(model.state) or (name == "layers" and sum(numbers) > len(model.state)):
            raise ValueError(f"{name} is {value!r}")
    return dict(entry)


def unreadable(path: str | Path, kind: str, error: Exception) -> InputError:
    """The error of one line for a file that is none of a kind."""
    told = str(error) if isinstance(error, ValueError | TypeError) else type(error).__name__
    what = error.what if isinstance(error, InputError) else told
    return InputError(str(path), f"cannot be read as {kind} ({what})", REMEDY)


def _checksum(told: str, state: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(told.encode("utf-8"))
    for name, tensor in sorted(state.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
