"""Launchers that print or run the commands of gcloud, xpk, SLURM and SkyPilot.

    python -m tools.launch.tpu_vm --dry_run ... -- python -m experiments.run --config=... --workdir=gs://...
    python -m tools.launch.gke --dry_run ... -- <command>
    python -m tools.launch.slurm --dry_run ... -- <command>
    python -m tools.launch.skypilot --dry_run ... -- <command>

gcloud, xpk, SLURM and SkyPilot do all scheduling. docs/pods.md explains each launcher.
"""
