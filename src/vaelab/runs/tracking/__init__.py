"""Loggers, and what W&B is told."""
