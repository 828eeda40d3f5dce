"""Run folders: configuration, checkpoints, held-out images."""
