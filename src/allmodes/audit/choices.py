"""The choices of an audit's settings and flags, without imports, so that the command line starts fast."""

from typing import Literal

Trainer = Literal["trl", "verl", "openrlhf", "reinvent", "saturn", "allmodes"]
KLForm = Literal[
    "k1-in-reward",
    "k3-in-reward",
    "k1-in-loss",
    "k2-in-loss",
    "sequence-k2-in-loss",
    "k3-in-loss",
    "k3-in-loss-corrected",
    "reinvent-loss",
]
Scaling = Literal["group", "batch", "none"]
Format = Literal[
    "allmodes",
    "trl",
    "verl",
    "openrlhf",
    "open-instruct",
    "prime-rl",
    "noveltybench",
    "reinvent",
    "saturn",
    "ledger",
    "means",
]
Summary = Literal["terminal", "markdown"]
