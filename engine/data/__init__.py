"""Data sets, augmentation, batches, and the views that a network gets of an image."""
