"""Sweeps: jobs, the processes that run them, and the folder that stores them."""
