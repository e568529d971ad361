"""A launch as text for elsewhere: a batch script for Slurm, manifests for Kubernetes. Nothing is submitted."""
