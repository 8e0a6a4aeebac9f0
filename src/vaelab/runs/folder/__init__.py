"""The run folder: its files, identity and names."""
