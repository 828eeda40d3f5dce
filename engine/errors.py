"""The one exception that means "you asked for something that cannot be done": the command line exits with status 2."""


class UsageError(ValueError):
    """Bad input. The message names the flag or file, the value given, and what would be right."""
