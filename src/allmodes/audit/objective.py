"""The objective of a training: its KL, its transform, and its optimum if that is known."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, final

import torch
from torch import Tensor

from allmodes.audit.checks.findings import MissingError, NotApplicableError
from allmodes.audit.choices import KLForm
from allmodes.audit.config import AuditConfig
from allmodes.audit.logs.log import Log
from allmodes.audit.support import (
    Support,
    forward_logprobs,
    mara_logprobs,
    method_logprobs,
    optimum_logprobs,
)
from allmodes.methods import KL, MARA, EntropyBonus, Method, Plain, Then

OF_RESPONSES: tuple[KLForm, ...] = ("k1-in-reward", "sequence-k2-in-loss", "reinvent-loss")
"""Forms with the gradient of the reverse KL of whole responses."""
OF_TOKENS: tuple[KLForm, ...] = ("k2-in-loss", "k3-in-loss-corrected", "k3-in-loss")
"""Forms with the gradient of the KL of each token, with the tokens before it treated as fixed."""

_SOME_SIZE = 4  # a size at which methods that depend on the group size have another optimum


@final
@dataclass(frozen=True)
class Objective:
    """An objective from the settings of a training.

    longest: tokens of the longest response. group_size: samples of a prompt in an update. None: not known.
    """

    config: AuditConfig
    longest: int | None
    group_size: int | None

    @property
    def lacks_kl(self) -> bool:
        """Whether no KL acts: β is 0, or the estimator has no gradient in expectation."""
        return self.config.beta == 0 or (self.config.kl == "k1-in-loss" and self.config.beta is not None)

    @property
    def beta(self) -> float:
        """Strength of the KL, above 0."""
        if self.config.beta is None:
            raise MissingError("the strength of the KL is not known: give `--beta`")
        if self.config.beta == 0:
            raise NotApplicableError("β is 0: nothing ties the policy to a reference, and MARA's bonus is 0")
        return self.config.beta

    @property
    def is_per_token(self) -> bool:
        """Whether the KL is one per token and responses may have several."""
        return self.config.kl in OF_TOKENS and (self.longest is None or self.longest > 1)

    @property
    def regularizer(self) -> KL:
        """The KL of whole responses that the training's form is a gradient of; reverse where none is given.

        A KL per token that treats the tokens before it as fixed ignores the effect of a token on the KL of
        later tokens. This makes no difference if responses have one token. Otherwise its optimum is not
        π_ref exp(R/β): it follows from probabilities of single tokens, which a log does not have. Raises
        MissingError in this case, and for forms that are the gradient of no KL.
        """
        kl = self.config.kl
        if kl is None or kl in OF_RESPONSES:
            return "reverse"
        if kl == "k1-in-loss":
            raise MissingError("k1 in the loss has no gradient in expectation, so no KL acts (AM041)")
        if kl == "k3-in-reward":
            raise MissingError(
                "k3 in the reward is the gradient of neither KL; its optimum is not known (AM041)"
            )
        if self.is_per_token:
            raise MissingError(
                f"the KL acts on each token, with the tokens before it treated as fixed (`{kl}`), and "
                f"{self.describe_tokens()}. The optimum of such a KL is not π_ref exp(R/β); it follows from "
                "probabilities of single tokens, which a log does not have (AM041)"
            )
        return "forward" if kl == "k3-in-loss" else "reverse"

    def describe_tokens(self) -> str:
        """The number of tokens of responses, known or assumed, as a clause."""
        if self.longest is None:
            return (
                "responses are assumed to have several tokens, since the log does not say how many (give "
                "`--max-tokens 1` if they have one)"
            )
        return f"responses have up to {self.longest:,} token{'s' * (self.longest != 1)}"

    def describe_regularizer(self) -> str:
        """The KL that statements about the optimum hold for."""
        if self.config.kl in OF_TOKENS:
            return f"the {self.regularizer} KL (responses have one token)"
        return "the reverse KL of whole responses"

    @property
    def assumption(self) -> str:
        """A sentence on the assumed KL, with a leading space; empty if the KL is given."""
        if self.config.kl is not None or self.config.trainer in ("reinvent", "saturn"):  # their own loss
            return ""
        return (
            " This assumes a KL of whole responses, since `--kl` is not given; a KL per token, as in GRPO's "
            "loss, has another optimum."
        )

    def temperature(self, beta: float | None) -> float | None:
        """The β for which items' rewards are computed at a strength of the KL.

        None for plain means, which methods that use outcomes and the forward KL depend on.
        """
        method = self.method()
        needs_means = method is not None and method.needs_outcomes
        return None if needs_means or self.config.kl == "k3-in-loss" or not beta else beta + self._entropy

    def method(self, threshold: float | None = None) -> Method | None:
        """The transform, with τ as given or another τ; None for a transform that allmodes does not know."""
        return self.config.method(threshold=threshold)

    @property
    def uses_mara(self) -> bool:
        """Whether the transform is MARA, which some checks describe further."""
        return isinstance(self.method(), MARA)

    @property
    def is_plain(self) -> bool:
        """Whether rewards are not transformed."""
        return isinstance(self.method(), Plain)

    @property
    def counts_strings(self) -> bool:
        """Whether the optimum of an outcome depends on its number of strings, as with an entropy bonus."""
        return any(part.needs_policy and not part.needs_reference for part in self._parts)

    @property
    def _entropy(self) -> float:
        """η of an entropy bonus, 0 without one."""
        return sum(part.entropy for part in self._parts if isinstance(part, EntropyBonus))

    @property
    def _parts(self) -> tuple[Method, ...]:
        """The methods that the transform consists of; none if allmodes does not know it."""
        method = self.method()
        return method.methods if isinstance(method, Then) else () if method is None else (method,)

    def optimum(self, support: Support, tau: Callable[[], float]) -> Tensor:
        """Log G of the training's optimum in groups of its size, (K,), normalised per prompt.

        If that is not known, the optimum of large groups, unless groups of this size cancel the method. tau:
        smallest reward of a good item for a method with a threshold. Raises MissingError for a method or a KL
        with unknown optimum, NotApplicableError if there is no optimum.
        """
        method, beta, kl, where = self._terms(support, tau)
        size = self.group_size
        found = method_logprobs(support, method, beta=beta, kl=kl, group_size=size)
        if found is None and size is not None:
            if method.group_warning(size) is None:
                found = method_logprobs(support, method, beta=beta, kl=kl, group_size=None)
            else:
                where = f"{where}, in groups of {size} (AM030)"
        if found is None:
            raise MissingError(
                f"the optimum with {self.config.describe_transform()} is not known here where {where}"
            )
        return found

    def describe_groups(self, support: Support, tau: Callable[[], float]) -> str:
        """The group size that `optimum` holds for, as a sentence with a leading space; empty if any."""
        method, beta, kl, _ = self._terms(support, tau)
        size = _SOME_SIZE if self.group_size is None else self.group_size
        found = method_logprobs(support, method, beta=beta, kl=kl, group_size=size)
        large = method_logprobs(support, method, beta=beta, kl=kl, group_size=None)
        if large is None or (found is not None and torch.allclose(found.exp(), large.exp(), atol=1e-9)):
            return ""
        if self.group_size is None:
            return " This is the optimum of large groups, since `--group-size` is not given."
        if found is None:
            return f" This is the optimum of large groups; that of groups of {size} is not known here."
        return f" This is the optimum of groups of {size}."

    def _terms(self, support: Support, tau: Callable[[], float]) -> tuple[Method, float, KL, str]:
        """Method, strength and KL of an optimum, and a clause that describes it. Raises as `optimum`."""
        config, method = self.config, self.method()
        if method is None:
            raise MissingError(f"the optimum with the transform {config.transform!r} is not known here")
        if config.lacks("entropy"):
            raise MissingError("the strength η of the entropy bonus is not known: give `--entropy`")
        if config.has_setting("threshold"):
            method = config.method(threshold=tau()) or method
        if config.beta is None and not method.needs_reference and not self.is_plain:
            raise MissingError("the strength of the KL is not known: give `--beta`")
        if not method.takes_negative_rewards and float(support.rewards.min()) < 0:
            raise NotApplicableError(
                f"rewards are negative, and {self.config.describe_transform()} drives such outcomes to 0"
            )
        if not self.lacks_kl or method.needs_reference or self.is_plain:
            return method, self.beta, self.regularizer, f"the KL is the {self.regularizer} KL"
        if method.needs_sequence_kl:
            raise MissingError(
                f"the optimum with {config.describe_transform()} is not known here: without a KL it is "
                "over all strings, and a log has few of them"
            )
        return method, 0.0, "reverse", "no KL acts"

    def plain(self, support: Support, *, beta: float) -> Tensor:
        """Log G without a transform, (K,), under the KL in use. Raises MissingError as `regularizer` does."""
        if self.regularizer == "forward":
            return forward_logprobs(support, beta=beta)
        return optimum_logprobs(support, beta=beta)

    def mara(self, support: Support, good: Tensor, *, beta: float) -> Tensor:
        """Log G with MARA, (K,), under the KL in use. Raises MissingError as `regularizer` does."""
        if self.regularizer == "forward":
            return forward_logprobs(support, beta=beta, good=good)
        return mara_logprobs(support, good, beta=beta)


class Setup(Protocol):
    """What is known about a training without its samples."""

    @property
    def config(self) -> AuditConfig:
        """The settings as given."""
        ...

    @property
    def objective(self) -> Objective:
        """The objective of these settings."""
        ...


def objective_of(log: Log, config: AuditConfig, *, longest: int | None, group_size: int | None) -> Objective:
    """The objective of a log's training. longest: tokens of its longest response, from another log."""
    known = [1] if config.max_tokens == 1 else []
    tokens = log.num_tokens
    # Incomplete lengths can show that a response has several tokens, but not that none has.
    if tokens is not None and (int(tokens.max()) > 1 or bool((tokens >= 0).all())):
        known.append(int(tokens.max()))
    if longest is not None:
        known.append(longest)
    return Objective(config, max(known, default=None), group_size)
