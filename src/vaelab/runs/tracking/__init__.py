"""Loggers, and the tags and summaries of W&B runs."""

from vaelab.runs.tracking.choices import none, tensorboard, wandb

__all__ = ["none", "tensorboard", "wandb"]
