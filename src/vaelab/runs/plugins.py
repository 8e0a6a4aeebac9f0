"""Which of Hydra's launchers and sweepers are ours, in this program."""

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins

OURS = {
    "launcher": ("basic", "local", "submitit_local", "submitit_slurm", "ray"),
    "sweeper": ("basic", "optuna"),
}


def register_plugins() -> None:
    """Replace Hydra's own launchers and sweepers by those of the same names in `conf/hydra`."""
    Plugins.instance()  # which register theirs
    store = ConfigStore.instance().repo["hydra"]
    for group, names in OURS.items():
        for name in names:
            store[group].pop(f"{name}.yaml", None)  # else a schema for ours
