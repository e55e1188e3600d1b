"""The terminal that all messages go to."""

from rich.console import Console

console = Console(stderr=True)
