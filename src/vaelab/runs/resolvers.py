"""The functions that `conf/` calls: choices, levels of the data, names of folders, and W&B's environment variables."""

from omegaconf import OmegaConf

from vaelab.runs.configuration import choices, chosen, num_levels
from vaelab.runs.folder.names import fixed_settings, job_name, run_dir, sweep_dir
from vaelab.runs.tracking.wandb_options import wandb_mode, wandb_tags


def register_resolvers() -> None:
    """Register the functions, by their names."""
    for resolver in (choices, chosen, num_levels, run_dir, job_name, fixed_settings, wandb_mode, wandb_tags):
        OmegaConf.register_new_resolver(resolver.__name__, resolver, replace=True)
    # cached, because a job sees only its own overrides and would compute another name
    OmegaConf.register_new_resolver("sweep_dir", sweep_dir, use_cache=True, replace=True)
