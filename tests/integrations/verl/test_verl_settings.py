"""Options of verl's command, without verl: what is made of them, and what is refused."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import pytest
from torch import Tensor

from allmodes.errors import ConfigError
from allmodes.integrations.verl.settings import (
    MODES,
    Plan,
    check_plan,
    load_function,
    make_plan,
    option,
    refuse_unused,
    stock_mode,
)
from allmodes.methods import IPS, MARA, METHODS, Batch, EntropyBonus, Method, Plain, Result, State, Then
from allmodes.objectives import BatchQuantile
from method_cases import build, cases
from verl_cases import options

CASES = [pytest.param(method, id=name) for name, method in cases().items()]
FIELD = {"field": "answer"}
STD, GRPO = "algorithm.norm_adv_by_std_in_grpo", {"algorithm.adv_estimator": "grpo"}
IN_REWARD, IN_LOSS = "algorithm.use_kl_in_reward", "actor_rollout_ref.actor.use_kl_loss"


def plan_of(method: Method, *, reward: bool = True, loss: bool = False, has_outcomes: bool = True) -> Plan:
    return Plan(
        method=method,
        outcome_field="answer" if has_outcomes else None,
        outcome_function=None,
        kl_in_reward=reward,
        kl_in_loss=loss,
        loss_beta=0.001,
    )


def refusal(method: Method, changes: dict[str, Any] | None = None, **plan: Any) -> str | None:
    """What is said of a method with options changed, None if nothing; it is always one line."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        try:
            check_plan(options(changes), plan_of(method, **plan))
        except ConfigError as error:
            said = str(error)
        else:
            return None
    assert "\n" not in said
    return said


def message(changes: dict[str, Any] | None = None, **allmodes: Any) -> str:
    """The one line with which a configuration is refused."""
    with pytest.raises(ConfigError) as caught:
        make_plan(options(changes, **allmodes))
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- What is made of options ---


def test_the_options_of_the_guide() -> None:
    plan = make_plan(options(method="mara", mara={"threshold": 1.0}, outcome=FIELD))
    assert plan.method == MARA(threshold=1.0)
    assert (plan.outcome_field, plan.outcome_function, plan.has_outcomes) == ("answer", None, True)
    assert (plan.kl_in_reward, plan.kl_in_loss) == (True, False)


def test_settings_are_those_of_recipes() -> None:
    mara = {"threshold": {"batch_quantile": 0.9}, "level": "outcomes"}
    plan = make_plan(options(method="mara+entropy", mara=mara, entropy={"entropy": 0.25}, outcome=FIELD))
    assert plan.method == Then(MARA(threshold=BatchQuantile(0.9), level="outcomes"), EntropyBonus(0.25))
    whole = make_plan(options(method="mara", mara={"threshold": 1}))
    assert whole.method == MARA(threshold=1)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_can_be_asked_for_by_name(name: str) -> None:
    """A new method needs no line for verl."""
    given = {"threshold": 0.5} if "threshold" in METHODS[name].__dataclass_fields__ else {}  # pyright: ignore
    plan = make_plan(options({}, **{"method": name, "outcome": FIELD, **({name: given} if given else {})}))
    assert type(plan.method) is METHODS[name]


@pytest.mark.parametrize("mode", MODES)
def test_verls_own_name_of_a_mode(mode: str) -> None:
    assert stock_mode(options({"trainer.v1.trainer_mode": f"allmodes_{mode}"})) == mode


def test_beta_is_that_of_the_batch() -> None:
    """verl's adaptive controller is ahead by one batch when advantages are computed."""
    adaptive = {"actor/reward_kl_penalty_coeff": 0.07}
    config = options(method="vanilla")
    assert make_plan(config).beta(adaptive) == 0.07
    loss = {IN_REWARD: False, IN_LOSS: True, "actor_rollout_ref.actor.kl_loss_coef": 0.02}
    assert make_plan(options(loss, method="vanilla")).beta({}) == 0.02
    assert make_plan(options({IN_REWARD: False}, method="vanilla")).beta({}) == 0


def test_an_outcome_function_is_loaded_from_its_file(tmp_path: Path) -> None:
    file = tmp_path / "answers.py"
    file.write_text("def key(text):\n    return text.upper() or None\n", encoding="utf-8")
    plan = make_plan(options(method="ips", outcome={"function": f"{file}:key"}))
    assert plan.method == IPS()
    assert plan.outcome_function is not None
    assert (plan.outcome_function("a"), plan.outcome_function("")) == ("A", None)


def test_an_option_that_is_not_there_is_none() -> None:
    assert option({"a": {"b": 1}}, "a.b") == 1
    assert option({"a": {"b": 1}}, "a.b.c") is option({"a": None}, "a.b") is None


# --- What is refused ---


@pytest.mark.parametrize(
    ("allmodes", "wanted"),
    [
        ({}, "`trainer.v1.trainer_mode=allmodes_sync` needs `+allmodes.method=`, one of vanilla, mara"),
        ({"mara": {"threshold": 1}}, "needs `+allmodes.method=`, one of vanilla, mara"),
        ({"method": "mora"}, "`allmodes.method`: expected one of vanilla, mara"),
        ({"method": "mara"}, "`+allmodes.mara.threshold=` is needed for `allmodes.method=mara`"),
        ({"method": "mara", "mara": {"treshold": 1}}, "did you mean allmodes.mara.threshold?"),
        ({"method": "mara", "mara": {"threshold": "1"}}, "`allmodes.mara.threshold`: expected "),
        ({"method": "mara", "threshold": 1}, "`allmodes.threshold`: unknown key; did you mean allmodes."),
        ({"method": "mara", "mara": {"threshold": 1, "max_gap_bonus": 0}}, "greater than 0"),
        (
            {"method": "outcome_matching", "outcome_matching": {"threshold": -1, "target": "reward"}},
            "`allmodes.outcome_matching`: `threshold` must be above 0",
        ),
        ({"method": "ips"}, "IPS needs the answer of each response: set `+allmodes.outcome.field=`"),
        ({"method": "ips", "outcome": {"feld": "x"}}, "did you mean allmodes.outcome.field?"),
        ({"method": "ips", "outcome": {"field": "a", "function": "b.py:c"}}, "both are given"),
        ({"method": "ips", "outcome": {"function": "b"}}, "must be path.py:name, a file and a function"),
        ({"method": "ips", "outcome": {"function": "none.py:f"}}, "expected a file on every node at /"),
    ],
)
def test_wrong_options_of_allmodes_are_one_line(allmodes: dict[str, Any], wanted: str) -> None:
    assert wanted in message({}, **allmodes)


@pytest.mark.parametrize(
    ("code", "name", "wanted"),
    [
        ("import nothing_of_this_name", "f", "cannot import key.py; ModuleNotFoundError: No module named"),
        ("f = 1", "f", "expected a function 'f' in key.py; got 1"),
        ("def g(text): ...", "f", "expected a function 'f' in key.py; got None"),
        ("def f(:", "f", "cannot import key.py; SyntaxError"),
    ],
)
def test_a_file_without_the_function_is_one_line(tmp_path: Path, code: str, name: str, wanted: str) -> None:
    (tmp_path / "key.py").write_text(code, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"^`allmodes.outcome.function=[^\n]*$") as caught:
        load_function(f"{tmp_path / 'key.py'}:{name}")
    assert wanted in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"trainer.use_v1": False}, r"^`trainer.use_v1` must be True for `allmodes`: [^\n]*; got False$"),
        (
            {"trainer.v1.trainer_mode": "sync"},
            r"^`trainer.v1.trainer_mode` must be one of allmodes_sync, .*'sync'$",
        ),
    ],
)
def test_options_that_nothing_would_use_are_refused(changes: dict[str, Any], wanted: str) -> None:
    refuse_unused(options(changes))  # no word of allmodes: verl's own affair
    with pytest.raises(ConfigError, match=wanted):
        refuse_unused(options(changes, method="vanilla"))
    refuse_unused(options(method="vanilla"))


@pytest.mark.parametrize("case", CASES)
def test_rloo_with_a_kl_in_the_reward_takes_every_method(case: Method) -> None:
    for mode in MODES:
        assert refusal(case, {"trainer.v1.trainer_mode": f"allmodes_{mode}"}) is None


@pytest.mark.parametrize("case", CASES)
def test_outcomes_and_groups_are_asked_for_by_what_a_method_needs(case: Method) -> None:
    without = refusal(case, has_outcomes=False)
    assert (without is not None) == case.needs_outcomes
    small = refusal(case, {"actor_rollout_ref.rollout.n": 2})
    assert (small is not None) == (case.min_group_size > 2)
    one = refusal(case, {"actor_rollout_ref.rollout.n": 1})
    assert one is not None
    assert one.startswith("`actor_rollout_ref.rollout.n` must be at least ")


@pytest.mark.parametrize("case", CASES)
def test_a_kl_is_asked_for_by_what_a_method_needs(case: Method) -> None:
    needs_kl = case.needs_reference or case.contains_kl or case.changes_reference
    of_responses = case.needs_sequence_kl or case.contains_kl or case.changes_reference
    nothing = refusal(case, reward=False)
    assert (nothing is not None) == needs_kl
    assert nothing is None or "set `algorithm.use_kl_in_reward=True`" in nothing
    in_loss = refusal(case, reward=False, loss=True)
    assert (in_loss is not None) == of_responses
    assert in_loss is None or in_loss.startswith("`actor_rollout_ref.actor.use_kl_loss` must be False for ")
    zero = refusal(case, {"algorithm.kl_ctrl.kl_coef": 0.0})
    assert (zero is not None) == needs_kl
    assert zero is None or zero.startswith("`algorithm.kl_ctrl.kl_coef` must be above 0 for ")
    kept = of_responses and not case.contains_kl
    for kind in ("low_var_kl", "k3", "mse", "abs"):
        other = refusal(case, {"algorithm.kl_penalty": kind})
        assert (other is not None) == kept
        assert other is None or other.startswith("`algorithm.kl_penalty` must be 'kl' for ")
    assert refusal(case, {"algorithm.kl_penalty": "k1"}) is None


@pytest.mark.parametrize("case", CASES)
def test_groups_of_equal_rewards_must_not_be_dropped_where_a_method_tells_them_apart(case: Method) -> None:
    said = refusal(case, {"algorithm.filter_groups": {"enable": True, "metric": "acc"}})
    wanted = case.needs_reference or case.needs_policy or case.needs_outcomes
    assert (said is not None) == wanted
    assert said is None or said.startswith("`algorithm.filter_groups.enable` must be False for ")
    assert refusal(case, {"algorithm.filter_groups": {"enable": False}}) is None


@pytest.mark.parametrize("case", CASES)
def test_scaling_is_refused_where_it_moves_the_optimum(case: Method) -> None:
    survives = case.optimum_survives_std_normalization
    by_std = refusal(case, GRPO)
    assert (by_std is None) == survives
    assert by_std is None or by_std.startswith("`algorithm.norm_adv_by_std_in_grpo` must be False for ")
    assert refusal(case, {**GRPO, STD: False}) is None
    # verl divides there whatever the option says.
    vectorized = refusal(case, {"algorithm.adv_estimator": "grpo_vectorized", STD: False})
    assert (vectorized is None) == survives
    for name in ("rloo_vectorized", "opo"):
        assert refusal(case, {"algorithm.adv_estimator": name}) is None


@pytest.mark.parametrize(
    "estimator",
    ["gae", "reinforce_plus_plus", "reinforce_plus_plus_baseline", "remax", "grpo_passk", "gpg", "gdpo"],
)
def test_estimators_that_do_more_than_a_baseline_are_refused(estimator: str) -> None:
    said = refusal(Plain(), {"algorithm.adv_estimator": estimator})
    assert said is not None
    assert said.startswith("`algorithm.adv_estimator` must be one of rloo, ")
    assert said.endswith(f"got {estimator!r}")


@pytest.mark.parametrize("case", CASES)
def test_newer_weights_do_not_stand_in_for_those_that_drew_the_samples(case: Method) -> None:
    lacking = {"actor_rollout_ref.rollout.calculate_log_probs": False}
    assert refusal(case, lacking) is None  # in step: both are the same
    for mode in ("colocate_async", "separate_async"):
        said = refusal(case, {**lacking, "trainer.v1.trainer_mode": f"allmodes_{mode}"})
        assert (said is not None) == case.needs_policy
        assert said is None or said.startswith("`actor_rollout_ref.rollout.calculate_log_probs` must be True")


@final
@dataclass(frozen=True)
class _LooksAtTheReference(Method):
    """Needs log π_ref and a KL of any kind, as no method that comes with allmodes does."""

    @property
    def needs_reference(self) -> bool:
        return True

    def __call__(self, batch: Batch, *, beta: float | Tensor, state: State | None = None) -> Result:
        raise NotImplementedError


def test_two_kls_are_one_too_many_for_a_method_with_one_beta() -> None:
    both = {"reward": True, "loss": True}
    assert refusal(Plain(), **both) is None
    said = refusal(build("mara"), **both)
    assert said is not None
    assert said.startswith("`actor_rollout_ref.actor.use_kl_loss` must be False for MARA")
    method = _LooksAtTheReference()
    assert refusal(method, reward=True) is refusal(method, reward=False, loss=True) is None
    said = refusal(method, **both)
    assert said == (
        f"`{IN_REWARD}` and `{IN_LOSS}` must not both be True for _LooksAtTheReference: it has one β"
    )
    said = refusal(method, reward=False)
    assert said is not None
    assert said.endswith(f"set `{IN_REWARD}=True` or `{IN_LOSS}=True`")


def test_a_small_group_is_warned_of() -> None:
    with pytest.warns(UserWarning, match=r"; got actor_rollout_ref.rollout.n=2$"):
        make_plan(options({"actor_rollout_ref.rollout.n": 2}, method="ips", outcome=FIELD))
