"""The errors that allmodes raises. Each is also a ValueError or a RuntimeError."""


class AllmodesError(Exception):
    """Parent of every error that allmodes raises on purpose."""


class InputError(AllmodesError, ValueError):
    """A value that a function or a command was given is wrong; the message says expected and got."""


class ConfigError(InputError):
    """A configuration is wrong; the message is one line that names the key, the expected and the got."""


class UnknownTokenError(InputError):
    """A SMILES holds a token that the policy's vocabulary lacks; the message names it."""


class RunError(AllmodesError, RuntimeError):
    """A run cannot go on: its folder, its disk or its checkpoint is at fault."""


def one_line(error: Exception) -> str:
    """What an error says, on one line; its kind where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__
