"""Exceptions that the command line turns into an exit status and a message without a traceback."""


class UsageError(ValueError):
    """Bad input, status 2. The message names the flag or file, the value given, and what would be right."""


class WorkerError(Exception):
    """The workers of a training fell apart, status 75. Nobody asked for anything wrong: the same command resumes it."""


class Terminated(KeyboardInterrupt):
    """SIGTERM, as job schedulers send it before they take a machine away, status 143. Handled like Ctrl-C."""
