"""Sweeps: jobs, the processes that do them, and the folder that keeps them."""
