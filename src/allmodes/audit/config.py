"""What an audit can be told of the training whose samples it is given."""

from typing import Annotated

from pydantic import Field, model_validator

from allmodes.audit.choices import KLForm, Scaling, Trainer, Transform
from allmodes.runs.config import Config, GroupSize, Number, Probability, Size


class AuditConfig(Config):
    """All may be left out: a check that needs what is not known is skipped, and says so.

    beta: strength of the KL, 1/σ of REINVENT; 0 without one. kl: how the KL is estimated, and where it goes.
    "reinvent-loss" is REINVENT's square; "sequence-k2-in-loss" is k2 of whole responses, "k2-in-loss" of each
    token. scale_rewards: what advantages are divided by the standard deviation of. transform: what is done to
    rewards before. entropy: η of an entropy bonus. threshold, threshold_quantile: τ of MARA, or the quantile
    of a batch's rewards that it is. group_size: samples of a prompt in one update; read off the log where it
    can be. max_tokens: the limit of a response. good: the reward from which on a sample is good; MARA's τ by
    default, else suggested.
    """

    trainer: Trainer | None = None
    beta: Annotated[float, Field(strict=True, ge=0, le=1e9)] | None = None
    kl: KLForm | None = None
    scale_rewards: Scaling | None = None
    transform: Transform | None = None
    entropy: Annotated[float, Field(strict=True, ge=0, le=1e9)] | None = None
    threshold: Number | None = None
    threshold_quantile: Probability | None = None
    group_size: GroupSize | None = None
    max_tokens: Size | None = None
    good: Number | None = None

    @model_validator(mode="after")
    def _entropy_is_of_its_transform(self) -> "AuditConfig":
        if self.entropy is not None and self.transform != "entropy":
            raise ValueError(
                f"`entropy`: expected it with `transform` 'entropy' alone; got {self.transform!r}"
            )
        return self

    @model_validator(mode="after")
    def _one_threshold(self) -> "AuditConfig":
        if self.threshold is not None and self.threshold_quantile is not None:
            raise ValueError("`threshold`: expected it or `threshold_quantile`; got both")
        return self
