"""Evaluation of a VAE: per-example values, metrics, advice and figures."""
