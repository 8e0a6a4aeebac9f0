"""One run: its folder, how it is built from a configuration, executed and evaluated again."""
