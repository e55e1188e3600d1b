"""Settings of the training that produced the samples of an audit."""

from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from allmodes.audit.choices import KLForm, Scaling, Trainer
from allmodes.errors import InputError
from allmodes.methods import METHODS, Method, Plain, label_of, make_method, method_names, recipe_fields
from allmodes.runs.config import Config, GroupSize, Number, Probability, Size, Whole


class AuditConfig(Config):
    """Settings of an audited training. All are optional: a check that needs a missing one is skipped.

    beta: strength of the KL, 1/σ of REINVENT; 0 without a KL. kl: the estimator of the KL, and its place.
    "reinvent-loss" is REINVENT's square; "sequence-k2-in-loss" is k2 of whole responses, "k2-in-loss" of each
    token. scale_rewards: whose standard deviation advantages are divided by. transform: applied to the
    rewards first: "none", a method of allmodes such as "mara" or "mara+entropy", or "other". settings: of
    that method, by their names; `threshold` is "none" there for one without. entropy: η of an entropy bonus.
    threshold, threshold_quantile: τ of MARA, as a number or as a quantile of a batch's rewards. group_size:
    samples of a prompt in one update; read from the log if possible. max_tokens: length limit of a response.
    good: smallest reward of a good sample; by default MARA's τ, otherwise suggested from the rewards.

    >>> AuditConfig(beta=0.01, kl="k1-in-reward").beta
    0.01
    """

    trainer: Trainer | None = None
    beta: Annotated[float, Field(strict=True, ge=0, le=1e9)] | None = None
    kl: KLForm | None = None
    scale_rewards: Scaling | None = None
    transform: str | None = None
    settings: dict[str, Whole | Number | str] | None = None
    entropy: Annotated[float, Field(strict=True, ge=0, le=1e9)] | None = None
    threshold: Number | None = None
    threshold_quantile: Probability | None = None
    group_size: GroupSize | None = None
    max_tokens: Size | None = None
    good: Number | None = None

    @field_validator("transform")
    @classmethod
    def _known_transform(cls, value: str | None) -> str | None:
        if value is None or value in ("none", "other"):
            return value
        value = value.replace("-", "_")  # older logs have "best-of-n"
        try:
            method_names(value)
        except InputError as error:
            raise ValueError(f"none, other, {', '.join(METHODS)}, or several of these with +") from error
        return value

    @model_validator(mode="after")
    def _entropy_is_of_its_transform(self) -> "AuditConfig":
        if self.entropy is not None and "entropy" not in self._known_settings():
            raise ValueError(f"`entropy`: expected only with `transform` 'entropy'; got {self.transform!r}")
        return self

    @model_validator(mode="after")
    def _settings_fit(self) -> "AuditConfig":
        wrong = next((key for key in self.settings or {} if key not in self._known_settings()), None)
        if wrong is not None:
            raise ValueError(
                f"`settings`: expected settings of `transform` {self.transform!r}, among "
                f"{', '.join(self._known_settings()) or 'none'}; got {wrong!r}"
            )
        try:
            _ = self.method()
        except InputError as error:
            raise ValueError(f"`settings`: {error}") from error
        return self

    @model_validator(mode="after")
    def _one_threshold(self) -> "AuditConfig":
        if self.threshold is not None and self.threshold_quantile is not None:
            raise ValueError("expected either `threshold` or `threshold_quantile`; got both")
        return self

    def method(self, *, threshold: float | None = None) -> Method | None:
        """The method of `transform`; None for one that allmodes does not know.

        threshold: τ if the method has one; by default that of the settings, else 1, which every method
        accepts and which is enough to find the method's name and needs.
        """
        if self.transform == "other":
            return None
        if self.transform in (None, "none"):
            return Plain()
        known = next((value for value in (threshold, self.threshold) if value is not None), 1.0)
        given: dict[str, Any] = {**(self.settings or {}), "threshold": known}
        if self.settings and self.settings.get("threshold") == "none":
            given["threshold"] = None
        if self.entropy is not None:
            given["entropy"] = self.entropy
        return make_method(
            self.transform,
            {
                name: {key: value for key, value in given.items() if key in recipe_fields(METHODS[name])}
                for name in method_names(self.transform)
            },
        )

    def describe_transform(self) -> str:
        """The transform of the rewards as a text, with η if it is known."""
        if self.transform in (None, "none"):
            return "no transform"
        if self.transform == "other":
            return "another transform"
        name = label_of(self.transform)
        return name if self.entropy is None else f"{name} (η = {self.entropy:g})"

    def has_setting(self, name: str) -> bool:
        """Whether the method has a setting of this name."""
        return name in self._known_settings()

    def lacks(self, setting: str) -> bool:
        """Whether the method has a setting of this name without a value."""
        given = getattr(self, setting, None) is not None or setting in (self.settings or {})
        return self.has_setting(setting) and not given

    def _known_settings(self) -> list[str]:
        if self.transform in (None, "none", "other"):
            return []
        return [key for name in method_names(self.transform) for key in recipe_fields(METHODS[name])]
