"""allmodes trains generative models to keep every good answer."""

__version__ = "0.1.0"
