"""The exceptions that end the command line: bad input with status 2, other machines that are gone with status 75."""


class UsageError(ValueError):
    """Bad input. The message names the flag or file, the value given, and what would be right."""


class WorkerError(Exception):
    """The workers of a training fell apart. Nobody asked for anything wrong: the same command resumes it."""
