"""Judges our networks against stored outputs of the published code.

Run it as ``python -m tests.parity FILE.json ...``.

A fixture is NAME.json with NAME.npz, or a bare NAME.npz. It pins the function of a published
network without its weights: every tensor is filled from its published name, inputs are drawn from a
seed, and only the outputs are stored.

The exit status is 0 if every fixture passes, 1 if any fails and 2 if a file is missing or no
fixture. To add a family, write a runner ``(Fixture) -> Result`` and name it in the table of
``__main__``.
"""
