"""The options `allmodes.*` of verl's command, and checks of verl's options that would undo a method.

Wrong options are refused before a model is loaded, in one line with verl's names. A method is only known
through its properties. verl's configuration comes as plain dicts, so this module does not need verl.
"""

import dataclasses
import importlib.util
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from pydantic import Field, model_validator

from allmodes.errors import ConfigError, InputError, one_line
from allmodes.methods import METHODS, Method, OutcomeKey, method_names
from allmodes.runs.config import Config, build_config
from allmodes.runs.method_settings import MethodName, MethodTables, method_tables

MODES = ("sync", "colocate_async", "separate_async")
"""Trainer modes of verl's."""
PREFIX = "allmodes_"
"""Of the names of ours: allmodes_sync, ..."""

_MODE = "trainer.v1.trainer_mode"
_IN_REWARD = "algorithm.use_kl_in_reward"
_IN_LOSS = "actor_rollout_ref.actor.use_kl_loss"
_REWARD_BETA = "algorithm.kl_ctrl.kl_coef"
_LOSS_BETA = "actor_rollout_ref.actor.kl_loss_coef"
_ESTIMATOR = "algorithm.adv_estimator"
_BY_STD = "algorithm.norm_adv_by_std_in_grpo"

# What each estimator of verl's does with the rewards of a group: it subtracts a baseline, and ...
_DIVIDES_BY_STD = {
    "rloo": "never",
    "rloo_vectorized": "never",
    "opo": "never",
    "grpo": "by option",
    "grpo_vectorized": "always",  # verl 0.9 does not hand it the option
}
_LOG_RATIO = ("kl", "k1", "kl+", "k1+")  # values of `algorithm.kl_penalty` that are the log-ratio itself


class OutcomeOptions(Config):
    """Definition of an answer."""

    field: str | None = None
    """A key that the reward function returns besides `score`; None or an empty text means no answer."""

    function: str | None = None
    """`path.py:name`, a function from the text of a response to its answer, None for an invalid one."""

    @model_validator(mode="after")
    def _one_of_them(self) -> "OutcomeOptions":
        if self.field is not None and self.function is not None:
            raise ValueError(
                "one of `allmodes.outcome.field` and `allmodes.outcome.function`; both are given"
            )
        return self


class _Own(method_tables()):  # pyright: ignore[reportGeneralTypeIssues]
    method: MethodName
    outcome: OutcomeOptions = Field(default=OutcomeOptions())


class _Options(Config):
    allmodes: _Own


@final
@dataclass(frozen=True, kw_only=True)
class Plan:
    """The settings of a trainer: the method, the definition of an answer, and the place of verl's KL.

    outcome_field, outcome_function: at most one is there. kl_in_reward, kl_in_loss: of verl's own KL.
    """

    method: Method
    outcome_field: str | None
    outcome_function: OutcomeKey | None
    kl_in_reward: bool
    kl_in_loss: bool
    loss_beta: float

    def beta(self, metrics: Mapping[str, Any]) -> float:
        """β of this batch, 0 without a KL. metrics: of verl's step, which hold the one in the reward.

        verl's adaptive controller has gone to the next batch's by the time of the advantages.
        """
        if self.kl_in_reward:
            return float(metrics["actor/reward_kl_penalty_coeff"])
        return self.loss_beta if self.kl_in_loss else 0.0

    @property
    def has_outcomes(self) -> bool:
        """Whether answers of responses are defined."""
        return self.outcome_field is not None or self.outcome_function is not None


def make_plan(config: Mapping[str, Any]) -> Plan:
    """The plan of a configuration. Raises ConfigError for options that are wrong or undo the method."""
    mode = str(option(config, _MODE))
    given = config.get("allmodes")
    if not isinstance(given, Mapping) or "method" not in given:
        raise ConfigError(f"`{_MODE}={mode}` needs `+allmodes.method=`, one of {', '.join(METHODS)}")
    own = build_config(_Options, {"allmodes": _plain(given)}, source="verl's configuration").allmodes
    plan = Plan(
        method=_make(own),
        outcome_field=own.outcome.field,
        outcome_function=None if own.outcome.function is None else load_function(own.outcome.function),
        kl_in_reward=bool(option(config, _IN_REWARD)),
        kl_in_loss=bool(option(config, _IN_LOSS)),
        loss_beta=float(option(config, _LOSS_BETA) or 0.0),
    )
    check_plan(config, plan)
    return plan


def check_plan(config: Mapping[str, Any], plan: Plan) -> None:
    """Raise ConfigError for verl options that lack what the method needs, or undo it."""
    _check_outcomes(plan)
    _check_kl(config, plan)
    _check_filter(config, plan.method)
    _check_estimator(config, plan.method)
    _check_policy(config, plan.method)
    _check_group_size(config, plan.method)


def refuse_unused(config: Mapping[str, Any]) -> None:
    """Raise ConfigError for options of allmodes that verl would silently ignore."""
    if config.get("allmodes") is None:
        return
    ours = ", ".join(PREFIX + mode for mode in MODES)
    mode = str(option(config, _MODE))
    if not option(config, "trainer.use_v1"):
        raise ConfigError(
            "`trainer.use_v1` must be True for `allmodes`: verl's older trainer would train without the "
            "method; got False"
        )
    if not mode.startswith(PREFIX):
        raise ConfigError(
            f"`{_MODE}` must be one of {ours} for `allmodes`: verl's own trainer would train without the "
            f"method; got {mode!r}"
        )


def stock_mode(config: Mapping[str, Any]) -> str:
    """Verl's own name of the trainer mode, which it compares with its names in many places."""
    return str(option(config, _MODE)).removeprefix(PREFIX)


def option(config: Mapping[str, Any], name: str) -> Any:
    """An option by the name that verl's command has for it; None if it is not there."""
    value: Any = config
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def load_function(reference: str) -> OutcomeKey:
    """The function of `path.py:name`. Raises ConfigError if there is none."""
    where = f"`allmodes.outcome.function={reference}`"
    path, colon, name = reference.rpartition(":")
    if not colon or not path or not name.isidentifier():
        raise ConfigError(f"{where} must be path.py:name, a file and a function in it")
    file = Path(path).expanduser().absolute()
    if not file.is_file():
        raise ConfigError(f"{where}: expected a file on every node at {file}; got none")
    spec = importlib.util.spec_from_file_location(f"_allmodes_outcome_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{where}: expected a file with Python code; got {file.name}")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever a user's file raises
        raise ConfigError(
            f"{where}: cannot import {file.name}; {type(error).__name__}: {one_line(error)}"
        ) from error
    function = getattr(module, name, None)
    if not callable(function):
        raise ConfigError(f"{where}: expected a function {name!r} in {file.name}; got {function!r}")
    return function


def _plain(given: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _plain(value) if isinstance(value, Mapping) else value for key, value in given.items()}


def _make(own: MethodTables) -> Method:
    name: str = own.method  # pyright: ignore[reportAttributeAccessIssue]
    for part in method_names(name):
        for key, value in getattr(own, part):
            if value is dataclasses.MISSING:
                raise ConfigError(f"`+allmodes.{part}.{key}=` is needed for `allmodes.method={name}`")
    try:
        return own.make(name)
    except InputError as error:
        raise ConfigError(f"`allmodes.{name}`: {error}") from error


def _label(method: Method) -> str:
    return type(method).__name__


def _check_outcomes(plan: Plan) -> None:
    if plan.method.needs_outcomes and not plan.has_outcomes:
        raise ConfigError(
            f"{_label(plan.method)} needs the answer of each response: set `+allmodes.outcome.field=` to a "
            "key of what your reward function returns beside `score`, or "
            "`+allmodes.outcome.function=path.py:name`"
        )


def _check_kl(config: Mapping[str, Any], plan: Plan) -> None:
    """Check that there is a KL if the method needs its reference, of whole responses if it needs that."""
    method, label = plan.method, _label(plan.method)
    if method.contains_kl and method.changes_reference:
        raise ConfigError(
            f"{label} must not both hold a KL in its rewards and change the reference of verl's; got "
            f"{method.describe()}"
        )
    needs_kl = method.needs_reference or method.contains_kl or method.changes_reference
    of_responses = method.needs_sequence_kl or method.contains_kl or method.changes_reference
    if needs_kl and not plan.kl_in_reward and not plan.kl_in_loss:
        or_loss = "" if of_responses else f" or `{_IN_LOSS}=True`"
        raise ConfigError(
            f"{label} needs the reference model, which verl loads only for a KL: set `{_IN_REWARD}=True`"
            f"{or_loss}"
        )
    if of_responses and plan.kl_in_loss:
        raise ConfigError(
            f"`{_IN_LOSS}` must be False for {label}, whose optimum needs the KL of whole responses: the one "
            f"in verl's loss is per token. Set `{_IN_REWARD}=True` instead"
        )
    if needs_kl and plan.kl_in_reward and plan.kl_in_loss:
        raise ConfigError(f"`{_IN_REWARD}` and `{_IN_LOSS}` must not both be True for {label}: it has one β")
    beta = _REWARD_BETA if plan.kl_in_reward else _LOSS_BETA
    if needs_kl and not (option(config, beta) or 0) > 0:
        raise ConfigError(f"`{beta}` must be above 0 for {label}; got {option(config, beta)}")
    kind = option(config, "algorithm.kl_penalty")
    if of_responses and not method.contains_kl and plan.kl_in_reward and kind not in _LOG_RATIO:
        raise ConfigError(
            f"`algorithm.kl_penalty` must be 'kl' for {label}: inside the reward the log-ratio alone has the "
            f"gradient of a KL; got {kind!r}"
        )


def _check_filter(config: Mapping[str, Any], method: Method) -> None:
    looks_beyond_rewards = method.needs_reference or method.needs_policy or method.needs_outcomes
    if looks_beyond_rewards and option(config, "algorithm.filter_groups.enable"):
        raise ConfigError(
            f"`algorithm.filter_groups.enable` must be False for {_label(method)}: it drops the groups whose "
            "rewards are all equal, though the method would make them differ; got True"
        )


def _check_estimator(config: Mapping[str, Any], method: Method) -> None:
    """Check that verl only subtracts a baseline, and does not change the optimum of the new rewards."""
    given = option(config, _ESTIMATOR)
    estimator = str(getattr(given, "value", given))
    label = _label(method)
    if estimator not in _DIVIDES_BY_STD:
        raise ConfigError(
            f"`{_ESTIMATOR}` must be one of {', '.join(_DIVIDES_BY_STD)} for allmodes: others do more to the "
            f"rewards of a response than subtract a baseline; got {estimator!r}"
        )
    divides = _DIVIDES_BY_STD[estimator]
    scales = divides == "always" or (divides == "by option" and option(config, _BY_STD) is not False)
    if not scales or method.optimum_survives_std_normalization:
        return
    why = "which has its own baseline" if method.has_own_baseline else "whose bonus and KL it would divide"
    if divides == "always":
        raise ConfigError(
            f"`{_ESTIMATOR}=grpo_vectorized` divides by the standard deviation whatever `{_BY_STD}` says, "
            f"which breaks {label}, {why}: use grpo with `{_BY_STD}=False`, or rloo"
        )
    raise ConfigError(f"`{_BY_STD}` must be False for {label}, {why}; got True. Or use `{_ESTIMATOR}=rloo`")


def _check_policy(config: Mapping[str, Any], method: Method) -> None:
    """Log-probabilities of the policy that drew the samples: without the engine's, those of the trainer."""
    mode = str(option(config, _MODE))
    given = option(config, "actor_rollout_ref.rollout.calculate_log_probs")
    if method.needs_policy and not given and stock_mode(config) != "sync":
        raise ConfigError(
            f"`actor_rollout_ref.rollout.calculate_log_probs` must be True for {_label(method)} with "
            f"`{_MODE}={mode}`, whose trainer has newer weights than those that drew the samples; got False"
        )


def _check_group_size(config: Mapping[str, Any], method: Method) -> None:
    name = "actor_rollout_ref.rollout.n"
    size, least = int(option(config, name)), max(method.min_group_size, 2)
    if size < least:
        raise ConfigError(f"`{name}` must be at least {least} for {_label(method)}; got {size}")
    warning = method.group_warning(size)
    if warning is not None:
        warnings.warn(f"{warning}; got {name}={size}", stacklevel=4)
