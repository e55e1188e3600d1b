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
    """A run cannot continue: its folder, its disk or its checkpoint is at fault."""


class AllmodesWarning(UserWarning):
    """A setting that works but is probably not intended; the message is one line and says what to do."""


def printable(text: str) -> str:
    """External text on one line, without control characters for the terminal."""
    return "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))


def one_line(error: Exception | str, *, width: int = 1000) -> str:
    """An error's message on one line of at most `width` characters; its type if the message is empty."""
    text = printable(str(error)) or type(error).__name__
    return text if len(text) <= width else f"{text[: width * 3 // 4]} ... {text[-(width // 4 - 5) :]}"


def shown(value: object, *, width: int = 80) -> str:
    """A value for a message: its Python repr, cut off if it is long."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a number with thousands of digits, or deep nesting
        return f"a very large {type(value).__name__}"
    return text if len(text) <= width else f"{text[: width - 20]}... ({len(text):,} characters)"
