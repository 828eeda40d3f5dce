"""Published checkpoints as runs of ours."""
