"""The exception that the command line shows without a traceback."""


class UserError(Exception):
    """Bad input. The message names the file, key or value, and what to do about it."""
