"""What a sweep came to: its jobs read into rows, grouped by what may be compared, and shown."""
