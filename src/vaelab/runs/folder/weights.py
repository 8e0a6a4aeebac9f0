"""Read the weights of a run from a checkpoint or safetensors, and write safetensors. Reading never runs code."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vaelab.errors import RunFolderError
from vaelab.files import replacing
from vaelab.runs.folder.contents import load_checkpoint
from vaelab.runs.folder.names import weights_file
from vaelab.security.checkpoint_scan import check_counts, not_ours
from vaelab.security.untrusted import opened, reason_of, shown

FORMAT = {"format": "vaelab", "format_version": "1"}


@dataclass
class Weights:
    """A model's weights, how many steps and samples they were trained on, and the file that holds them."""

    state: dict[str, Tensor]
    steps: int
    samples_seen: int
    path: Path

    @property
    def num_bytes(self) -> int:
        return sum(tensor.numel() * tensor.element_size() for tensor in self.state.values())


def read_weights(folder: Path, name: str) -> Weights:
    """Read the weights `last` or `best` of a run folder from their `weights_file`."""
    path = weights_file(folder, name)
    if path.suffix == ".safetensors":
        return read_safetensors(path)
    checkpoint = load_checkpoint(path)
    counts = checkpoint["counts"]
    return Weights(checkpoint["state_dict"], counts["steps"], counts["samples_seen"], path)


def read_safetensors(path: Path) -> Weights:
    """Read the weights in a file that `write_safetensors` wrote; refuse any other file."""
    from safetensors import safe_open  # imported here, because training does not need it

    opened(path).close()
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, not a dict
    except Exception as error:  # safetensors and PyTorch raise different classes of errors
        raise RunFolderError(
            f"{path} cannot be loaded ({reason_of(error)}); write it again with python -m vaelab.export"
        ) from error
    if FORMAT.items() - metadata.items():
        raise not_ours(path, "format=vaelab, format_version=1", shown(str(metadata)))
    counts: dict[str, Any] = {
        name: int(value) if value.isdecimal() and len(value) < 20 else value for name, value in metadata.items()
    }
    check_counts(counts, path)
    return Weights(state, counts["steps"], counts["samples_seen"], path)


def write_safetensors(path: Path, weights: Weights) -> None:
    """Write weights atomically; copy tensors that share memory."""
    from safetensors.torch import save

    metadata = FORMAT | {"steps": str(weights.steps), "samples_seen": str(weights.samples_seen)}
    own = {name: t.detach().clone(memory_format=torch.contiguous_format) for name, t in weights.state.items()}
    with replacing(path) as partial, partial.open("xb") as file:
        file.write(save(own, metadata))
