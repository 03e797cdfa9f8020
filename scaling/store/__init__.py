"""Storage that survives kills and full disks: atomic files, locks, checkpoints; and the progress bar."""
