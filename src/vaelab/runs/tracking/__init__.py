"""Loggers, and what W&B is told."""

from vaelab.runs.tracking.loggers import csv, none, tensorboard, wandb

__all__ = ["csv", "none", "tensorboard", "wandb"]
