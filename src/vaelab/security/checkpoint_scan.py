"""What a checkpoint must be before anything of it is used: a whole archive, ours, and of the model that it is for."""

import pickletools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO
from zipfile import ZIP_STORED, ZipFile

import torch
from pytorch_lightning import LightningModule
from torch import Tensor

from vaelab.errors import RunFolderError
from vaelab.security.untrusted import shown

# all that plain data and tensors need: what else PyTorch lets through can ask for any amount of memory (bytearray)
GLOBALS = ("torch._utils _rebuild_tensor_v2", "collections OrderedDict")
CALLS = {"BUILD", "NEWOBJ", "NEWOBJ_EX", "OBJ", "INST", "STACK_GLOBAL", "EXT1", "EXT2", "EXT4"}
OURS = "counts and a state_dict"
LARGEST_PICKLE = 2**22  # bytes, tensors aside; ours has thousands, and each may take a hundred times that to read


def check_container(file: BinaryIO, size: int) -> None:
    """Looks at the archive of a checkpoint without unpacking it, and goes back to its beginning.

    Raises:
        ValueError: it would unpack to more than its `size` in bytes, or asks for more than tensors and plain data.
        Exception: as `zipfile` and `pickletools` raise them, if it is no archive.
    """
    with ZipFile(file) as archive:
        entries = archive.infolist()
        if any(entry.compress_type != ZIP_STORED for entry in entries) or sum(e.file_size for e in entries) > size:
            raise ValueError(f"it unpacks to more than its {size:,} bytes")
        begins = min((entry.header_offset for entry in entries), default=-1)  # else PyTorch may read another archive
        names = [entry.filename.lower() for entry in entries]  # PyTorch does not tell cases apart
        pickles = [entry for entry in entries if entry.filename.lower().split("/")[1:] == ["data.pkl"]]
        other = len(set(names)) < len(names) or any(name.endswith("constants.pkl") for name in names)
        if begins != 0 or len(pickles) != 1 or other:
            raise ValueError("it is not an archive of torch.save")
        if pickles[0].file_size > LARGEST_PICKLE:
            raise ValueError(f"its pickle has more than {LARGEST_PICKLE:,} bytes")
        if (damaged := archive.testzip()) is not None:  # PyTorch would not look
            raise ValueError(f"{shown(damaged)} in it is damaged")
        for name, argument in _opcodes(archive.read(pickles[0])):
            if name in CALLS or (name == "GLOBAL" and not _is_plain(argument)):
                raise ValueError(f"it asks for {shown(argument or name)}, expected tensors and plain data")
    file.seek(0)


def _opcodes(content: bytes) -> Iterator[tuple[str, Any]]:
    return ((opcode.name, argument) for opcode, argument, _ in pickletools.genops(content))


def _is_plain(name: str) -> bool:
    module, _, attribute = name.partition(" ")
    return name in GLOBALS or (module == "torch" and attribute.isalnum() and attribute.endswith("Storage"))


def check_format(checkpoint: Any, size: int, path: Path) -> None:
    """Whether a loaded checkpoint has what ours have, in tensors that the file's `size` in bytes has room for.

    Raises:
        RunFolderError: it is not one of ours.
    """
    if not isinstance(checkpoint, dict) or not {"counts", "state_dict"} <= checkpoint.keys():
        found = ", ".join(map(shown, checkpoint)) if isinstance(checkpoint, dict) else type(checkpoint).__name__
        raise not_ours(path, OURS, shown(found or "nothing"))
    counts, state = checkpoint["counts"], checkpoint["state_dict"]
    check_counts(counts, path)
    if not isinstance(state, dict) or not all(map(is_weight, state.items())):
        raise not_ours(path, "a state_dict of names and tensors", shown(type(state).__name__))
    claimed = sum(tensor.numel() * tensor.element_size() for tensor in tensors(checkpoint))
    if claimed > size:
        raise not_ours(path, f"tensors that its {size:,} bytes hold", f"tensors of {claimed:,} bytes")


def check_counts(counts: Any, path: Path) -> None:
    """Whether `counts` says how many optimiser steps and samples the weights have seen.

    Raises:
        RunFolderError: it does not.
    """
    names = ("steps", "samples_seen")
    if not isinstance(counts, dict) or not all(_is_count(counts.get(name)) for name in names):
        raise not_ours(path, "counts of steps and samples_seen", f"counts={shown(counts)}")


def not_ours(path: Path, expected: str, found: str) -> RunFolderError:
    """The error of a file of weights that we did not write."""
    return RunFolderError(f"{path} is not a checkpoint of vaelab (expected {expected}, found {found})")


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def is_weight(item: tuple[Any, Any]) -> bool:
    """Whether a name and a value are those of a dense tensor on the CPU."""
    name, value = item
    dense = isinstance(value, Tensor) and value.layout is torch.strided and value.device.type == "cpu"
    return isinstance(name, str) and name.isprintable() and dense


def tensors(value: Any) -> Iterator[Tensor]:
    """All tensors in nested plain data, however deep, and also where it contains itself."""
    left, seen = [value], set()
    while left:
        value = left.pop()
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, dict | list | tuple | set) and id(value) not in seen:
            seen.add(id(value))
            left += value.values() if isinstance(value, dict) else value


def check_weights(model: LightningModule, state: Mapping[str, Tensor], path: Path) -> None:
    """Compares weights with those that the model has, by name, shape and type.

    Raises:
        RunFolderError: names the first that differs.
    """
    expected = model.state_dict()
    for name in [*expected, *(name for name in state if name not in expected)]:
        here, there = described(expected.get(name)), described(state.get(name))
        if here != there:
            raise RunFolderError(
                f"{path} cannot be loaded into the model of config.yaml: {shown(name)} is {there} there, the model has "
                f"{here}; the two are not of one run, or of another version of the code"
            )


def described(tensor: Tensor | None) -> str:
    """A tensor's type and shape in words."""
    return "absent" if tensor is None else f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"


def check_resumable(model: LightningModule, checkpoint: dict[str, Any], path: Path) -> None:
    """Whether training can go on from a loaded checkpoint with this model.

    Raises:
        RunFolderError: weights of another model, or no state of the optimiser and the loops.
    """
    check_weights(model, checkpoint["state_dict"], path)
    optimizers, loops = checkpoint.get("optimizer_states"), checkpoint.get("loops")
    if not (isinstance(loops, dict) and isinstance(loops.get("fit_loop"), dict)):
        raise not_ours(path, "the state of the loops to go on from", f"loops={shown(loops)}")
    if not (isinstance(optimizers, list) and len(optimizers) == 1 and isinstance(optimizers[0], dict)):
        raise not_ours(path, "the state of one optimizer to go on from", shown(type(optimizers).__name__))
    try:
        held = [index for group in optimizers[0]["param_groups"] for index in group["params"]]
    except (KeyError, TypeError) as error:
        raise not_ours(path, "an optimizer's state with param_groups", shown(list(optimizers[0]))) from error
    if len(held) != len(list(model.parameters())):
        raise not_ours(path, f"an optimizer's state of {len(list(model.parameters()))} parameters", f"{len(held)}")
