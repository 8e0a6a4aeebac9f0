"""Check a checkpoint before it is used: it must be a whole archive, written by vaelab, for the model at hand."""

from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO
from zipfile import ZIP_STORED, ZipFile

from torch import Tensor, nn

from vaelab.errors import RunFolderError
from vaelab.security.pickle_scan import LARGEST_PICKLE, check_pickle
from vaelab.security.untrusted import shown


def check_container(file: BinaryIO | BytesIO, size: int) -> None:
    """Scan the archive of a checkpoint of `size` bytes without unpacking it, then rewind the file.

    Raises:
        ValueError: the archive unpacks to more than `size` bytes, is damaged, is not from `torch.save`, or has a pickle
            that is too large or asks for more than tensors and plain data.
        Exception: the file is not an archive; `zipfile` and `pickletools` raise different classes of errors.
    """
    with ZipFile(file) as archive:
        entries = archive.infolist()
        if any(entry.compress_type != ZIP_STORED for entry in entries) or sum(e.file_size for e in entries) > size:
            raise ValueError(f"it unpacks to more than its {size:,} bytes")
        # PyTorch looks for the archive from the beginning of the file, and ignores the case of names
        begins = min((entry.header_offset for entry in entries), default=-1)
        names = [entry.filename.lower() for entry in entries]
        pickles = [entry for entry, name in zip(entries, names, strict=True) if name.split("/")[1:] == ["data.pkl"]]
        other = len(set(names)) < len(names) or any(name.endswith("constants.pkl") for name in names)
        if begins != 0 or len(pickles) != 1 or other:
            raise ValueError("it is not an archive of torch.save")
        if pickles[0].file_size > LARGEST_PICKLE:
            raise ValueError(f"its pickle has more than {LARGEST_PICKLE:,} bytes")
        if (damaged := archive.testzip()) is not None:  # PyTorch does not verify checksums
            raise ValueError(f"{shown(damaged)} in it is damaged")
        check_pickle(archive.read(pickles[0]))
    file.seek(0)


def check_format(checkpoint: Any, size: int, path: Path) -> None:
    """Refuse a loaded checkpoint without valid counts and weights, or with tensors that exceed the file's `size`.

    Raises:
        RunFolderError: `counts` or `state_dict` is missing or malformed, or all tensors together exceed `size` bytes.
    """
    if not isinstance(checkpoint, dict) or not {"counts", "state_dict"} <= checkpoint.keys():
        found = ", ".join(map(shown, checkpoint)) if isinstance(checkpoint, dict) else type(checkpoint).__name__
        raise not_ours(path, "counts and a state_dict", shown(found or "nothing"))
    counts, state = checkpoint["counts"], checkpoint["state_dict"]
    check_counts(counts, path)
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise not_ours(path, "a state_dict of names and tensors", shown(type(state).__name__))
    claimed = sum(tensor.numel() * tensor.element_size() for tensor in _tensors(checkpoint))
    if claimed > size:
        raise not_ours(path, f"tensors that its {size:,} bytes hold", f"tensors of {claimed:,} bytes")


def check_counts(counts: Any, path: Path) -> None:
    """Refuse `counts` that do not say how many optimiser steps and samples the weights have seen.

    Raises:
        RunFolderError: `counts` is not a dict, or one of the two counts is missing or is not a whole number.
    """
    if not (isinstance(counts, dict) and _is_count(counts.get("steps")) and _is_count(counts.get("samples_seen"))):
        raise not_ours(path, "counts of steps and samples_seen", f"counts={shown(counts)}")


def not_ours(path: Path, expected: str, found: str) -> RunFolderError:
    """Return the error for a file of weights that vaelab did not write."""
    return RunFolderError(f"{path} is not a checkpoint of vaelab (expected {expected}, found {found})")


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def _tensors(value: Any) -> Iterator[Tensor]:
    # a list, not recursion, because the data may nest deeply or contain themselves
    left, seen = [value], set()
    while left:
        value = left.pop()
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, dict | list | tuple | set) and id(value) not in seen:
            seen.add(id(value))
            left += value.values() if isinstance(value, dict) else value


def check_weights(model: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Compare the names, shapes and types of weights with those of the model.

    Raises:
        RunFolderError: a weight is missing, is unknown to the model, or has a different shape or type.
    """
    if found := difference(model, state):
        raise RunFolderError(
            f"{path} cannot be loaded into the model of config.yaml: {found}; the two files are from different runs or "
            "different versions of the code"
        )


def difference(model: nn.Module, state: Mapping[str, Tensor]) -> str | None:
    """Return in words the first weight that is missing, unknown, or of another shape or type; None if all agree."""
    expected = model.state_dict()
    for name in {**expected, **state}:
        here, there = _described(expected.get(name)), _described(state.get(name))
        if here != there:
            return f"expected {shown(name)} to be {here}, found {there}"
    return None


def _described(tensor: Tensor | None) -> str:
    return "absent" if tensor is None else f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"


def check_resumable(model: nn.Module, checkpoint: dict[str, Any], path: Path) -> None:
    """Refuse a loaded checkpoint from which this model cannot resume its training.

    Raises:
        RunFolderError: the checkpoint has the weights of another model, or lacks the state of loops or optimiser.
    """
    check_weights(model, checkpoint["state_dict"], path)
    if not isinstance(ended_by := checkpoint.get("ended_by"), str | None):
        raise not_ours(path, "ended_by to be words", shown(ended_by))
    try:
        (optimizer,) = checkpoint["optimizer_states"]
        held = [index for group in optimizer["param_groups"] for index in group["params"]]
        checkpoint["loops"]["fit_loop"]["state_dict"]
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise not_ours(path, "states of the loops and of one optimizer", shown(list(checkpoint))) from error
    if len(held) != (number := len(list(model.parameters()))):
        raise not_ours(path, f"an optimizer's state for {number} parameters", f"{len(held)}")
