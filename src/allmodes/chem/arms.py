"""The arms of molecular design: a loss, and a method that changes the rewards before it."""

from dataclasses import dataclass
from typing import Literal, final, get_args

from allmodes.errors import InputError
from allmodes.methods import Method, Plain, label_of, method_names

Loss = Literal["reinvent", "grpo"]
LOSSES: tuple[Loss, ...] = get_args(Loss)

# Names in recipes, flags and run folders of the previous version.
_FORMER: dict[str, tuple[Loss, str]] = {
    "reinvent": ("reinvent", "vanilla"),
    "mara": ("reinvent", "mara"),
    "grpo": ("grpo", "vanilla"),
    "ips-grpo": ("grpo", "ips"),
}


@final
@dataclass(frozen=True)
class Arm:
    """A loss with a method; method: its name in recipes, such as "mara" or "mara+entropy"."""

    loss: Loss
    method: str

    @property
    def name(self) -> str:
        """In run folders and files: METHOD-LOSS, or the name that the last version had for it."""
        former = {arm: name for name, arm in _FORMER.items()}
        return former.get((self.loss, self.method), f"{self.method}-{self.loss}")

    @property
    def label(self) -> str:
        """In reports: the method's label with that of the loss; the loss alone where nothing is changed."""
        loss = self.loss.upper()
        if self.method == Plain.name:
            return loss
        label = label_of(self.method)
        if "-" not in self.name:  # MARA, which its authors publish for REINVENT's loss
            return label
        return f"{label} with {loss}" if " " in label else f"{label}-{loss}"


def parse_arm(name: str) -> Arm:
    """The arm of a name such as "mara", "ips-grpo" or "tempered-reinvent".

    Raises InputError for a name that is neither one of the last version nor METHOD-LOSS.
    """
    if name in _FORMER:
        return Arm(*_FORMER[name])
    method, _, loss = name.rpartition("-")
    for known in LOSSES:
        if loss == known and method:
            method_names(method)  # raises
            return Arm(known, method)
    raise InputError(
        f"expected one of {', '.join(_FORMER)}, or METHOD-LOSS with a loss of {', '.join(LOSSES)}; "
        f"got {name!r}"
    )


def label_of_arm(name: str) -> str:
    """The label of an arm by its name."""
    return parse_arm(name).label


def refusal(loss: Loss, method: Method, *, batch_size: int) -> str | None:
    """The reason why a method cannot be trained with a loss, in one line; None if it can.

    REINVENT's loss is the squared distance of log π to log π_ref + σ R. On samples of the agent its gradient
    is that of E[R] − KL/σ without a baseline, so it takes rewards and advantages alike, and a reference that
    the method changes stands beside its reward as it must; only a second KL would be wrong. GRPO's loss
    leaves out its KL for rewards that contain one; it cannot hold a changed reference, whose KL would have to
    be inside the rewards.
    """
    if method.contains_kl and loss == "reinvent":
        return 'its rewards contain the KL, which REINVENT\'s loss would add again; expected `loss` "grpo"'
    if method.changes_reference and loss == "grpo":
        return 'it changes the reference, so the KL must be inside the rewards; expected `loss` "reinvent"'
    if method.min_group_size > batch_size:
        return f"expected `batch_size` of at least {method.min_group_size}; got {batch_size}"
    return None
