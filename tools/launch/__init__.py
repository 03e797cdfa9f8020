"""Launchers that print or run the commands of gcloud, xpk and SLURM.

    python -m tools.launch.tpu_vm --dry_run ... -- python -m experiments.run --config=... --workdir=gs://...
    python -m tools.launch.gke --dry_run ... -- <command>
    python -m tools.launch.slurm --dry_run ... -- <command>

gcloud, xpk and SLURM do all scheduling. docs/pods.md explains each launcher.
"""
