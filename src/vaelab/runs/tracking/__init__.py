"""Loggers, and the tags and summaries of W&B runs."""

from vaelab.runs.tracking.loggers import csv, none, tensorboard, wandb

__all__ = ["csv", "none", "tensorboard", "wandb"]
