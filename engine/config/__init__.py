"""The configuration of a run: options, presets, command-line flags, the machine."""
