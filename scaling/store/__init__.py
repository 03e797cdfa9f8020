"""What is on disk, and that it is never lost: files, locks, progress, checkpoints."""
