"""Write a run's weights as safetensors, to be shared: `python -m vaelab.export run_dir=logs/runs/NAME`."""

import os
from pathlib import Path

from omegaconf import DictConfig

from vaelab.errors import RunFolderError
from vaelab.runs.cli import command
from vaelab.runs.validate import check_choice


@command("export")
def main(cfg: DictConfig) -> None:
    """Write `checkpoints/NAME.safetensors` beside the checkpoint that `cfg` names."""
    check_choice("checkpoint", cfg.checkpoint, ("last", "best"))
    from vaelab.runs.folder.contents import read_config  # after the checks, because it is slow to import
    from vaelab.runs.folder.weights import read_weights, write_safetensors

    folder = Path(cfg.run_dir)
    read_config(folder)
    weights = read_weights(folder, cfg.checkpoint)
    path = weights.path.with_suffix(".safetensors")
    if not path.parent.resolve().is_relative_to(folder.resolve()):
        raise RunFolderError(f"{path.parent} leads out of {folder}: nothing was written; replace the link by a folder")
    write_safetensors(path, weights)
    print(f"written: {os.path.relpath(path)} ({weights.num_bytes:,} bytes, {weights.steps:,} steps)")


if __name__ == "__main__":
    main()
