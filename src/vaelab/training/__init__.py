"""Training: the LightningModule, the optimiser step, optimisers, callbacks and schedules."""

from vaelab.training.callbacks import Checkpoints, CollapseWarning, Figures
from vaelab.training.lightning_module import VAEModule
from vaelab.training.optimizers import adam_from, unit_gradients
from vaelab.training.pace import PaceWarning
from vaelab.training.progress import ProgressBar
from vaelab.training.schedules import Schedule

__all__ = [
    "Checkpoints",
    "CollapseWarning",
    "Figures",
    "PaceWarning",
    "ProgressBar",
    "Schedule",
    "VAEModule",
    "adam_from",
    "unit_gradients",
]
