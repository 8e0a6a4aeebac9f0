"""Report on a sweep: read its jobs, group the comparable results, rank them, and show them."""
