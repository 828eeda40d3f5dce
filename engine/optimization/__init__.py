"""Optimizers, schedules of the learning rate and moving averages: know variables, no network."""
