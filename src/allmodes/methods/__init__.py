"""Methods: how rewards are changed, the optimum of the changed rewards, and their needs. Needs only torch.

    from allmodes.methods import MARA, Batch
    result = MARA(threshold=1.0)(Batch(rewards=..., group_ids=..., ref_logprobs=...), beta=0.1)

`METHODS` is the only list of them.
"""

from collections.abc import Mapping
from typing import Any

from allmodes.errors import InputError
from allmodes.methods.alpha_dpg import AlphaDPG
from allmodes.methods.batch_exploration import BatchExploration
from allmodes.methods.best_of_n import BestOfN
from allmodes.methods.darling import Darling
from allmodes.methods.differential_smoothing import DifferentialSmoothing
from allmodes.methods.entropy import EntropyBonus
from allmodes.methods.ips import IPS
from allmodes.methods.keys import stable_id, stable_ids
from allmodes.methods.mara import MARA
from allmodes.methods.max_rl import MaxRL
from allmodes.methods.method import KL, Batch, Method, OutcomeKey, Result, State, recipe_fields, setting
from allmodes.methods.outcome_matching import OutcomeMatching
from allmodes.methods.plain import Plain
from allmodes.methods.state import state_from_json, state_to_json
from allmodes.methods.tempered import Tempered
from allmodes.methods.then import Then
from allmodes.methods.ucpo import UCPO
from allmodes.methods.unlikeliness import Unlikeliness

__all__ = [
    "IPS",
    "KL",
    "MARA",
    "METHODS",
    "UCPO",
    "AlphaDPG",
    "Batch",
    "BatchExploration",
    "BestOfN",
    "Darling",
    "DifferentialSmoothing",
    "EntropyBonus",
    "MaxRL",
    "Method",
    "OutcomeKey",
    "OutcomeMatching",
    "Plain",
    "Result",
    "State",
    "Tempered",
    "Then",
    "Unlikeliness",
    "color_of",
    "label_of",
    "make_method",
    "method_names",
    "recipe_fields",
    "setting",
    "stable_id",
    "stable_ids",
    "state_from_json",
    "state_to_json",
]

METHODS: dict[str, type[Method]] = {
    method.name: method
    for method in (
        Plain,
        MARA,
        Tempered,
        IPS,
        EntropyBonus,
        Unlikeliness,
        BestOfN,
        UCPO,
        DifferentialSmoothing,
        Darling,
        BatchExploration,
        AlphaDPG,
        MaxRL,
        OutcomeMatching,
    )
}
"""Every method by its name. To add one, add its class here."""


def method_names(name: str) -> list[str]:
    """The parts of a name such as "mara+entropy". Raises InputError for one that is not in `METHODS`.

    >>> method_names("mara+entropy")
    ['mara', 'entropy']
    """
    parts = name.split("+")
    for part in parts:
        if part not in METHODS:
            raise InputError(f"method must be one of {', '.join(METHODS)}, or several with + ; got {part!r}")
    return parts


def label_of(name: str) -> str:
    """The label in reports of a name such as "mara" or "mara+entropy".

    >>> label_of("mara+entropy")
    'MARA + entropy bonus'
    """
    return " + ".join(METHODS[part].label for part in method_names(name))


def color_of(name: str) -> str:
    """The colour of a name in figures: that of its first part. Each method in `METHODS` has one colour.

    >>> color_of("mara+entropy") == color_of("mara")
    True
    """
    return METHODS[method_names(name)[0]].color


def make_method(name: str, settings: Mapping[str, Mapping[str, Any]] | None = None) -> Method:
    """The method of a name such as "mara" or "mara+entropy", with the settings of each of its parts.

    Raises InputError for an unknown name, an unknown or missing setting, or a wrong value.

    >>> make_method("entropy", {"entropy": {"entropy": 0.01}})
    EntropyBonus(entropy=0.01)
    """
    made: list[Method] = []
    for part in method_names(name):
        given, known = dict((settings or {}).get(part, {})), recipe_fields(METHODS[part])
        wrong = next((key for key in given if key not in known), None)
        if wrong is not None:
            raise InputError(f"{part} must have settings among {', '.join(known) or 'none'}; got {wrong!r}")
        try:
            made.append(METHODS[part](**given))
        except TypeError as error:  # a setting without a default that is not given
            raise InputError(f"{part}: {error}") from error
    return made[0] if len(made) == 1 else Then(*made)
