"""Checkpoints on disk: written whole, verified, and held to the run that they belong to."""
