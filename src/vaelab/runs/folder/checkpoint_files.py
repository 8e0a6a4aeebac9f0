"""The checkpoint files of a run: plain data, which pass the reader's scan before they replace other files."""

from collections.abc import Callable, Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pytorch_lightning.plugins.io import CheckpointIO
from torch import Tensor
from torch.utils._pytree import tree_map_only

from vaelab.errors import ConfigError
from vaelab.runs.folder.contents import load_checkpoint
from vaelab.security.checkpoint_scan import check_container
from vaelab.security.untrusted import reason_of

PARTS = {"optimizer_states": "the optimizer", "lr_schedulers": "the scheduler of lr_schedule"}


class CheckpointFiles(CheckpointIO):
    """Writes and reads checkpoints for Lightning. It calls `before_write` before it writes one."""

    def __init__(self) -> None:
        self.before_write: Callable[[], None] = lambda: None

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        content = readable(checkpoint)
        self.before_write()
        Path(path).parent.mkdir(parents=True, exist_ok=True)  # a callback may write elsewhere
        Path(path).write_bytes(content)

    def load_checkpoint(self, path: str | Path, map_location: Any = None, weights_only: bool | None = None) -> Any:
        return load_checkpoint(Path(path))

    def remove_checkpoint(self, path: str | Path) -> None:
        Path(path).unlink(missing_ok=True)


def readable(checkpoint: Mapping[str, Any]) -> memoryview:
    """Return the content of a checkpoint's file.

    Raises:
        ConfigError: the file could not be read again; the message names the part of the checkpoint.
    """
    content, reason = _content(checkpoint)
    if reason is not None:
        reasons = ((name, _content(part)[1]) for name, part in _parts(checkpoint))
        name, reason = next(((name, why) for name, why in reasons if why is not None), ("it", reason))
        raise ConfigError(
            f"a checkpoint could not be read again, because {name} stores more than plain data ({reason}): leave it "
            "out, or have it store numbers, strings, lists, dicts and tensors"
        )
    return content


def _content(value: Any) -> tuple[memoryview, str | None]:
    """Return what `torch.save` writes, and why that cannot be read again."""
    file = BytesIO()
    try:
        torch.save(_plain(value), file)
        check_container(file, len(file.getbuffer()))
    except Exception as error:  # pickle and PyTorch raise different classes of errors
        return memoryview(b""), reason_of(error)
    return file.getbuffer(), None


def _plain(value: Any) -> Any:
    """Return nested data with NumPy's scalars as Python's, without attributes of dicts, and tensors that share nothing.

    A view is copied because it would be saved with the whole tensor, which may hold the weights of many stacked runs.
    Tensors that share memory are copied because the reader refuses tensors that claim more than the file has.
    """
    seen: set[int] = set()

    def plain(one: Any) -> Any:
        if isinstance(one, np.generic):
            return one.item()
        if one.layout != torch.strided:
            return one
        memory = one.untyped_storage()
        own = memory.data_ptr() not in seen and memory.nbytes() == one.numel() * one.element_size()
        seen.add(memory.data_ptr())
        return one if own else one.detach().clone()

    return tree_map_only((np.generic, Tensor), plain, value, is_leaf=lambda part: isinstance(part, torch.Size))


def _parts(checkpoint: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, state in checkpoint.get("callbacks", {}).items():
        yield f"the callback {str(key).partition('{')[0]}", state
    for key, part in checkpoint.items():
        yield PARTS.get(key, f"a callback that adds {key}"), part
