"""The training loop: trainers, callbacks, checkpoints, several machines."""
