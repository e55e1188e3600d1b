"""Settings of methods: what a value of the wrong kind or size is told. All else is in test_contract.py."""

from typing import Any

import pytest

from allmodes.errors import InputError
from allmodes.methods import MARA, BestOfN, EntropyBonus, Unlikeliness


@pytest.mark.parametrize(
    ("method", "settings", "message"),
    [
        (BestOfN, {"k": 2.5}, "`k` must be a whole number at least 1; got 2.5"),
        (BestOfN, {"k": 0}, "`k` must be a whole number at least 1; got 0"),
        (BestOfN, {"k": True}, "`k` must be a whole number at least 1; got 1"),
        (Unlikeliness, {"strength": None}, "`strength` must be at least 0 and at most 1; got None"),
        (EntropyBonus, {"entropy": "0.1"}, "`entropy` must be at least 0; got '0.1'"),
        (EntropyBonus, {"entropy": float("inf")}, "`entropy` must be a finite number; got inf"),
        (MARA, {"threshold": "high"}, "`threshold` must be a number; got 'high'"),
        (MARA, {"threshold": 0.5, "max_gap_bonus": 0}, "`max_gap_bonus` must be above 0; got 0"),
        (
            MARA,
            {"threshold": 0.5, "level": "words"},
            "`level` must be one of ('strings', 'outcomes'); got 'words'",
        ),
    ],
)
def test_a_wrong_setting_is_refused_in_one_line(method: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as refused:
        method(**settings)
    assert str(refused.value) == message


def test_what_has_no_bounds_may_be_infinite() -> None:
    """τ = ∞ is a way to say that nothing is good."""
    assert MARA(threshold=float("inf")).threshold == float("inf")
    assert BestOfN(None).k is None
