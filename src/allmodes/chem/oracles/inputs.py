"""Whether the files that decide what an oracle says are there."""

from allmodes.chem.oracles.config import OracleConfig
from allmodes.chem.oracles.store import refuse_password


def check_oracle_files(oracle: OracleConfig) -> None:
    """Check an oracle as far as that runs no program and imports no module that it names.

    Files must be there, programs must be found, patterns, references and reference ligands must be readable.
    Warns of a box that cannot hold its own reference ligand. Raises `ConfigError`.
    """
    if oracle.store is not None:
        refuse_password(oracle.store)
    for component in oracle.components:
        component.check_files()
