"""Explore a run's latent in a browser: `python -m vaelab.explore run_dir=logs/runs/NAME` writes one page.

The page needs no network and no server. The folder may be untrusted: see `vaelab.runs.evaluating.reopen`.
"""

import os
from pathlib import Path

from omegaconf import DictConfig

from vaelab.errors import ConfigError
from vaelab.files import write_atomically
from vaelab.runs.cli import command
from vaelab.runs.validate import check_choice


@command("explore")
def main(cfg: DictConfig) -> None:
    """Write the page to `out`, or to `explore.html` in the run folder."""
    check_choice("checkpoint", cfg.checkpoint, ("last", "best"))
    out = Path(cfg.run_dir, "explore.html") if cfg.out is None else Path(str(cfg.out))
    if out.is_dir():
        raise ConfigError(f"out must be a file to write, found the folder {out}: type out={out / 'latent.html'}")
    from vaelab.exploring.page import make_page  # after the checks, because these are slow to import
    from vaelab.runs.evaluating.reopen import blaming, reopen, stored_config
    from vaelab.runs.folder.weights import read_weights
    from vaelab.runs.processes.cores import limit_threads
    from vaelab.security.allow_list import trusted_packages
    from vaelab.security.redaction import presentable

    limit_threads()
    folder, trusted = Path(cfg.run_dir), trusted_packages(cfg.trust)
    own = stored_config(folder, cfg, trusted)
    out.parent.mkdir(parents=True, exist_ok=True)
    with blaming(folder, trusted):
        weights = read_weights(folder, cfg.checkpoint)
        data, module = reopen(own, weights, folder, trusted)
        vae = module.vae
        parts = f"{data.name} · {type(vae.decoder.head).__name__} · {vae.latent_dim} dimensions"
        subtitle = f"{parts} · {cfg.checkpoint} weights, after {weights.steps:,} steps"
        page = make_page(presentable(folder.resolve().name), vae, data, subtitle)
    write_atomically(out, page)
    print(f"written: {os.path.relpath(out)} ({len(page) / 1e6:.1f} MB); open it in a browser")


if __name__ == "__main__":
    main()
