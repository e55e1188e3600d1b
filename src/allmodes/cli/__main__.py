"""`python -m allmodes.cli`."""

from allmodes.cli import main

main()
