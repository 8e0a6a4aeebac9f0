"""Where the jobs of a sweep are done: on this machine, by submitit (SLURM), or by Ray."""
