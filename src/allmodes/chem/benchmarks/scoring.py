"""The score of molecules in a benchmark task, in this process."""

import math
from collections.abc import Callable, Iterable

from allmodes.chem.benchmarks.tasks import Task, find_task
from allmodes.chem.oracles.oracle import assemble
from allmodes.chem.oracles.results import Scored


def score(task: str, smiles: Iterable[str]) -> list[float]:
    """The score of each molecule in a task of GuacaMol, PMO or MolExp, from 0 to 1.

    task: such as "celecoxib_rediscovery", "median1", "molexp_egfr"; `TASKS` holds all of them. Also
    "molscore:FILE", a MolScore configuration. NaN for a text that is no molecule, or one that is too large
    for RDKit. Raises InputError for a task that does not exist, ConfigError for a configuration with
    functions that do not exist here.

    >>> score("celecoxib_rediscovery", ["Cc1ccc(cc1)-c1cc(nn1-c1ccc(cc1)S(N)(=O)=O)C(F)(F)F", "no molecule"])
    [1.0, nan]
    """
    scorer = make_scorer(find_task(task))
    return [scorer(text) for text in smiles]


def make_scorer(task: Task) -> Callable[[str], float]:
    """What gives the score of one SMILES, or NaN. Raises ConfigError for a component that cannot work."""
    from allmodes.chem.molecules import canonical_smiles

    oracle = task.oracle
    scorers = {component.name: component.make_scorer() for component in oracle.components}

    def one(text: str) -> float:
        smiles = canonical_smiles(text)
        if smiles is None:
            return math.nan
        answers = {}
        for name, scorer in scorers.items():
            value = scorer(smiles)
            answers[name] = value if isinstance(value, Scored) else Scored(float(value))
        reward = assemble(oracle, smiles, answers).reward
        return math.nan if reward is None else reward

    return one
