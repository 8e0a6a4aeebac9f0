"""The functions that `conf/` calls: choices, levels, names of folders, hashes, and W&B's environment variables."""

from omegaconf import OmegaConf

from vaelab.runs.configuration import choices, chosen, num_levels
from vaelab.runs.folder.names import fixed_settings, job_name, run_dir, sweep_dir
from vaelab.runs.tracking.wandb_options import wandb_mode, wandb_tags
from vaelab.runs.warm_start import weights_sha256


def register_resolvers() -> None:
    """Register the functions, by their names."""
    of_names = (run_dir, job_name, fixed_settings)
    for resolver in (choices, chosen, num_levels, *of_names, wandb_mode, wandb_tags, weights_sha256):
        OmegaConf.register_new_resolver(resolver.__name__, resolver, replace=True)
    # cached, because a job sees only its own overrides and would compute another name
    OmegaConf.register_new_resolver("sweep_dir", sweep_dir, use_cache=True, replace=True)
