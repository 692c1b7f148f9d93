"""Pretrained weights of MedSAM, as its authors and programs for training write them."""

import hashlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from roireg.data.readers.checksums import check_archive
from roireg.errors import InputError

# Names of weights in a message.
NAMED = 3
# Entries of a checkpoint that hold the weights: MedSAM's own training, Lightning, others.
WRAPPERS = ("model", "state_dict", "model_state_dict")
SOURCES = (
    "sam_vit_b_01ec64.pth (https://github.com/facebookresearch/segment-anything, README, Model checkpoints) or "
    "medsam_vit_b.pth (https://github.com/bowang-lab/MedSAM, README)"
)


def load_checkpoint(network: nn.Module, path: str | Path, sha256: str | None, key: str) -> None:
    """Load pretrained weights with `torch.load(weights_only=True)`, which executes no code from the file.

    Args:
        network: network that gets the weights; it is not changed if an error is raised.
        path: a `state_dict` of the same network, stored by `torch.save`; also one in an entry of a checkpoint (`model`,
            `state_dict`), or with a prefix before all names, as DDP and Lightning write it.
        sha256: expected SHA-256 of the file in hexadecimal; None accepts any file.
        key: config key of the checkpoint, such as `segment.medsam.checkpoint`; used in error messages.

    Raises:
        InputError: the file is missing, has another digest, is not a `state_dict`, or belongs to another network.
    """
    where = f"config: {key}.path"
    if not Path(path).is_file():
        raise InputError(where, f"there is no file {path}", f"Download {SOURCES}, and set `{key}.path` to the file")
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
        if sha256 is not None and found != sha256.lower():
            fault = f"the sha256 of {path} is {found[:12]}..., not {sha256[:12]}..."
            raise InputError(where, fault, f"Download it again, or correct `{key}.sha256` if you trust the file")
        file.seek(0)
        try:
            check_archive(Path(path))
            state = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # torch does not document what it raises for a damaged file
            told = error.what if isinstance(error, InputError) else type(error).__name__
            fault = f"{path} cannot be read as weights ({told})"
            raise InputError(where, fault, f"Objects other than tensors are never loaded. Use {SOURCES}") from None
    state = _unwrapped(state, network.state_dict())
    if fault := _misfit(state, network.state_dict()):
        raise InputError(where, f"{path} does not fit the network: {fault}", f"Use {SOURCES}, and its variant")
    network.load_state_dict(state)


def _unwrapped(found: Any, expected: dict[str, Tensor]) -> Any:
    """A network's table of weights without what programs for training put around it: an entry, a prefix of names."""
    if isinstance(found, dict):
        found = next((found[key] for key in WRAPPERS if isinstance(found.get(key), dict)), found)
    if not isinstance(found, dict):
        return found
    first = next(iter(expected))
    prefixes = {name[: -len(first)] for name in found if isinstance(name, str) and name.endswith(f".{first}")}
    if len(prefixes) != 1:
        return found
    (prefix,) = prefixes
    return {name.removeprefix(prefix): value for name, value in found.items() if name.startswith(prefix)}


def _misfit(found: object, expected: dict[str, Tensor]) -> str:
    """Difference between a file's content and a network's `state_dict`, with a few names each; empty if they match."""
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        return "it is not a table of tensors by name"
    differences = {
        "missing": [name for name in expected if name not in found],
        "unexpected": [str(name) for name in found if name not in expected],
        "of another shape": [
            f"{name} {tuple(found[name].shape)}, not {tuple(value.shape)}"
            for name, value in expected.items()
            if name in found and found[name].shape != value.shape
        ],
    }
    named = {what: (len(names), ", ".join(names[:NAMED])) for what, names in differences.items() if names}
    return "; ".join(f"{count} {what} ({names})" for what, (count, names) in named.items())
