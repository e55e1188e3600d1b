"""The contract of methods, for every one in `METHODS` with every choice of its settings.

A new method is held to it without a line here. `toy_method` shows that.
"""

import copy
import json
import math
import pickle
import re
import warnings
from collections.abc import Callable
from dataclasses import FrozenInstanceError, fields, replace
from typing import Any, Literal, get_origin, get_type_hints

import pytest
import torch
from torch import Tensor

from allmodes.errors import InputError
from allmodes.methods import METHODS, Batch, Method, State, make_method, state_from_json, state_to_json
from method_cases import Toy, cases, complete_batch, parts_of, settings_of, some_rewards, taken, variants

BETA = 0.1
CASES = cases()
CONTRACT: list[Callable[[Method], None]] = []
Rows = torch.Tensor


def contract(test: Callable[[Method], None]) -> Callable[[Method], None]:
    """A test that every method must pass, and a method of one's own by calling it."""
    CONTRACT.append(test)
    return pytest.mark.parametrize("method", [pytest.param(m, id=name) for name, m in CASES.items()])(test)


def new_rewards(method: Method, batch: Batch, *, state: State | None = None) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that a batch teaches nothing
        return method(batch, beta=BETA, state=state).rewards


def close(left: Tensor, right: Tensor, *, tolerance: float = 1e-9) -> None:
    torch.testing.assert_close(left, right, rtol=tolerance, atol=tolerance, equal_nan=True)


def bits(left: Tensor, right: Tensor) -> bool:
    return left.dtype == right.dtype and torch.equal(left.nan_to_num(7e7), right.nan_to_num(7e7))


# --- Results. ---


@contract
def test_rewards_keep_their_shape_and_precision(method: Method) -> None:
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        batch = complete_batch(some_rewards(24), dtype=dtype)
        result = method(batch, beta=BETA)
        assert result.rewards.shape == (24,)
        assert result.rewards.dtype == dtype
        assert result.rewards.isfinite().all()
        assert all(isinstance(value, float) for value in result.metrics.values())
        low = replace(batch, ref_logprobs=_to(batch.ref_logprobs, dtype), logprobs=_to(batch.logprobs, dtype))
        assert method(low, beta=BETA).rewards.dtype == dtype
        assert (result.ref_logprobs is not None) == method.changes_reference


@contract
def test_precisions_agree(method: Method) -> None:
    """Differences of the log-probabilities of long responses must not be lost on the way to float32."""
    batch = complete_batch(some_rewards(24), empty=False)
    long = {name: getattr(batch, name) - 20_000 for name in ("ref_logprobs", "logprobs")}
    wide = replace(batch, **long)
    narrow = replace(wide, rewards=batch.rewards.float())
    close(new_rewards(method, narrow).double(), new_rewards(method, wide), tolerance=1e-6)


@contract
def test_unscored_samples_stay_unscored_and_no_others_become_so(method: Method) -> None:
    rewards = some_rewards(16)
    for missing in ([3], [0, 5, 6], [4, 5, 6, 7], list(range(16))):
        rewards_here = rewards.index_fill(0, torch.tensor(missing), math.nan)
        new = new_rewards(method, complete_batch(rewards_here))
        assert torch.equal(new.isnan(), rewards_here.isnan())
        assert not new.isinf().any()


@contract
def test_figures_have_the_same_names_in_every_batch(method: Method) -> None:
    names = set(method(complete_batch(some_rewards(16)), beta=BETA).metrics)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        for rewards in ([math.nan] * 8, [0.0] * 8, [1.0] * 8):
            assert set(method(complete_batch(rewards), beta=BETA).metrics) == names


@contract
def test_rewards_do_not_depend_on_whether_figures_are_wanted(method: Method) -> None:
    batch = complete_batch(some_rewards(24))
    assert bits(new_rewards(method, batch), new_rewards(method, replace(batch, wants_metrics=False)))


@contract
def test_an_empty_batch_has_no_rewards(method: Method) -> None:
    new = new_rewards(method, complete_batch([]))
    assert new.shape == (0,)
    assert new.dtype == torch.float64


@contract
def test_degenerate_groups_have_finite_rewards(method: Method) -> None:
    batches = {
        "lone samples": complete_batch(some_rewards(8), group_size=1),
        "one lone sample": complete_batch([1.0]),
        "unequal sizes": complete_batch(some_rewards(8), group_ids=torch.tensor([0, 0, 0, 0, 0, 1, 2, 2])),
        "all good": complete_batch([1.0] * 8),
        "all wrong": complete_batch([0.0] * 8),
        "no outcome": complete_batch(some_rewards(8), outcome_ids=torch.full((8,), -1)),
        "one outcome": complete_batch(some_rewards(8), outcome_ids=torch.full((8,), 5)),
        "all empty": complete_batch(
            some_rewards(8), lengths=torch.zeros(8).long(), ref_logprobs=_zeros(8), logprobs=_zeros(8)
        ),
        "long responses": complete_batch(
            some_rewards(8), ref_logprobs=-400.0 * torch.arange(8), logprobs=-500.0 * torch.arange(8).flip(0)
        ),
        "nothing empty": complete_batch(some_rewards(8), empty=False, lengths=None),
    }
    for name, batch in batches.items():
        assert new_rewards(method, batch).isfinite().all(), name


@contract
def test_rewards_of_any_size_stay_finite(method: Method) -> None:
    for size in (1e6, 1e-6):
        for dtype in (torch.float32, torch.float64, torch.bfloat16):
            new = new_rewards(method, complete_batch(size * some_rewards(16), dtype=dtype))
            assert new.isfinite().all(), (size, dtype)


@contract
def test_a_call_changes_nothing_it_was_given_and_says_the_same_again(method: Method) -> None:
    batch = complete_batch(some_rewards(24).index_fill(0, torch.tensor([2]), math.nan))
    before = copy.deepcopy(batch)
    first = new_rewards(method, batch).clone()
    for field in fields(batch):
        left, right = getattr(batch, field.name), getattr(before, field.name)
        assert bits(left, right) if isinstance(left, Tensor) else left == right, field.name
    assert bits(new_rewards(method, batch), first)


@contract
def test_beta_may_be_a_number_or_one_for_each_sample(method: Method) -> None:
    batch = complete_batch(some_rewards(24))
    each = method(batch, beta=torch.full((24,), BETA, dtype=torch.float64)).rewards
    close(each, new_rewards(method, batch))


# --- What rewards may depend on. ---


@contract
def test_the_order_of_samples_has_no_meaning(method: Method) -> None:
    """Within groups, of whole groups, and of the numbers by which a batch calls its groups."""
    batch = complete_batch(some_rewards(24).index_fill(0, torch.tensor([9]), math.nan))
    result = method(batch, beta=BETA)
    second = complete_batch(some_rewards(24, seed=1), seed=1)
    later = new_rewards(method, second, state=result.state)
    order = torch.randperm(24, generator=torch.Generator().manual_seed(3))
    for ids in (batch.group_ids, torch.tensor([40, 3, 100_000, 7, -9, 2])[batch.group_ids]):
        for rows in (order, torch.arange(24), order[torch.argsort(batch.group_ids[order], stable=True)]):
            moved = method(taken(batch, rows, group_ids=ids[rows]), beta=BETA)
            close(moved.rewards, result.rewards[rows])
            close(new_rewards(method, second, state=moved.state), later)


@contract
def test_a_group_is_judged_by_itself(method: Method) -> None:
    """Unless the method says that it couples prompts, as a quantile of the whole batch does."""
    batch = complete_batch(some_rewards(24))
    other = complete_batch(1000 * some_rewards(24, seed=5), seed=5)
    assert batch.prompt_ids is not None
    other = replace(other, prompt_ids=batch.prompt_ids + 1)
    if not method.couples_prompts:
        together = new_rewards(method, batch)
        for group in range(6):
            rows = (batch.group_ids == group).nonzero().squeeze(1)
            close(new_rewards(method, taken(batch, rows)), together[rows])
        two = {
            field.name: torch.cat([getattr(batch, field.name), getattr(other, field.name)])
            for field in fields(batch)
            if isinstance(getattr(batch, field.name), Tensor)
        }
        two["group_ids"] = torch.cat([batch.group_ids, other.group_ids + 6])
        close(new_rewards(method, Batch(**two))[:24], together)


@contract
def test_empty_responses_have_no_say_where_outcomes_are_likelihoods(method: Method) -> None:
    """An empty response has log π_ref = 0: it must not be what all others are measured by."""
    if not method.needs_reference:
        return
    changes = {"lengths": torch.tensor([0, 2, 3, 2]), "outcome_ids": torch.tensor([1, 2, 3, 2])}
    logprobs = torch.tensor([0.0, -1, -2, -3], dtype=torch.float64)
    batch = complete_batch([1.0, 1, 1, 0], ref_logprobs=logprobs, logprobs=2 * logprobs, **changes)
    worse = replace(batch, rewards=torch.tensor([0.0, 1, 1, 0], dtype=torch.float64))
    if not method.has_state:
        close(new_rewards(method, batch)[1:], new_rewards(method, worse)[1:])


# --- What is refused. ---


@contract
def test_what_is_needed_must_be_there_and_what_is_not_has_no_effect(method: Method) -> None:
    batch = complete_batch(some_rewards(24))
    whole = new_rewards(method, batch)
    needs = {
        "ref_logprobs": method.needs_reference,
        "logprobs": method.needs_policy,
        "outcome_ids": method.needs_outcomes,
        "prompt_ids": method.needs_prompts,
    }
    for name, is_needed in needs.items():
        without = replace(batch, **{name: None})  # pyright: ignore[reportArgumentType]
        if is_needed:
            with pytest.raises(InputError, match=rf"^`{name}` .*needed"):
                new_rewards(method, without)
        else:
            assert bits(new_rewards(method, without), whole), name
    if not method.needs_reference:
        assert method(batch, beta=0.0).rewards.isfinite().all()


@contract
def test_negative_rewards_are_refused_where_the_method_says_so(method: Method) -> None:
    batch = complete_batch([0.5, -0.25, 1, 0] * 4)
    if method.takes_negative_rewards:
        assert new_rewards(method, batch).isfinite().all()
    else:
        with pytest.raises(InputError, match=r"must not be negative .*-0\.25"):
            new_rewards(method, batch)


@contract
def test_groups_of_the_smallest_size_are_taken(method: Method) -> None:
    size = method.min_group_size
    assert size >= 1
    assert new_rewards(method, complete_batch(some_rewards(4 * size), group_size=size)).isfinite().all()


@contract
def test_settings_say_what_they_mean_and_keep_their_bounds(method: Method) -> None:
    for part in parts_of(method):
        types = get_type_hints(type(part))
        for name, field in settings_of(part).items():
            assert len(field.metadata["doc"]) > 4, name
            assert {"bounds", "in_recipes"} <= set(field.metadata), name
            bounds = {key: value for key, value in field.metadata["bounds"].items() if value is not None}
            wrong: list[Any] = ["no such choice"] if get_origin(types[name]) is Literal else []
            wrong += [bounds["at_least"] - 1] if "at_least" in bounds else []
            wrong += [bounds["at_most"] + 1] if "at_most" in bounds else []
            wrong += [bounds["above"]] if "above" in bounds else []
            wrong += [math.nan, math.inf, -math.inf] if bounds else []
            for value in wrong:
                with pytest.raises(InputError, match=rf"^`{name}` must be .*; got "):
                    replace(part, **{name: value})  # pyright: ignore[reportArgumentType]
            for key in ("at_least", "at_most"):
                if key in bounds:
                    kept = type(bounds[key])(bounds[key])
                    assert getattr(replace(part, **{name: kept}), name) == kept  # pyright: ignore


# --- What it says of itself. ---


@contract
def test_a_method_has_its_names(method: Method) -> None:
    for part in parts_of(method):
        for text in (part.name, part.label, part.law, part.source):
            assert text.strip() == text
            assert 0 < len(text) < 100
            assert "\n" not in text
        assert re.fullmatch(r"[a-z][a-z0-9_]*", part.name)
        assert re.fullmatch(r"#[0-9a-fA-F]{6}", part.color)
        assert (type(part).__doc__ or "").strip()


@contract
def test_a_description_is_one_short_line(method: Method) -> None:
    about = method.describe()
    assert about.strip() == about
    assert len(about) < 160
    assert "\n" not in about
    assert not re.search(r" at 0x|<function|<class", about)


def test_names_labels_and_colours_are_their_own() -> None:
    for key in ("name", "label", "color"):
        values = [getattr(method, key).lower() for method in METHODS.values()]
        assert len(set(values)) == len(values), key
    assert all(name == method.name for name, method in METHODS.items())


@contract
def test_a_method_is_a_value(method: Method) -> None:
    for twin in (copy.deepcopy(method), pickle.loads(pickle.dumps(method)), copy.copy(method)):
        assert twin == method
        assert hash(twin) == hash(method)
        assert repr(twin) == repr(method)
    for part in parts_of(method):
        assert replace(part) == part  # pyright: ignore[reportArgumentType]
    name = next(iter(settings_of(method)), "name")
    with pytest.raises(FrozenInstanceError):
        setattr(method, name, None)


# --- What it remembers. ---


@contract
def test_a_state_is_plain_data_that_a_checkpoint_holds(method: Method) -> None:
    first = method(complete_batch(some_rewards(24)), beta=BETA)
    assert (first.state is not None) == method.has_state
    if first.state is None:
        return
    state, count = first.state, 1
    for seed in (1, 2, 3):
        kept = json.dumps(state_to_json(state), allow_nan=False)
        loaded = state_from_json(json.loads(kept))
        batch = complete_batch(some_rewards(24, seed=seed), seed=seed)
        one, two = method(batch, beta=BETA, state=state), method(batch, beta=BETA, state=loaded)
        assert bits(one.rewards, two.rewards)
        assert json.dumps(state_to_json(state)) == kept, "a call must not change the state it was given"
        assert json.dumps(state_to_json(one.state)) == json.dumps(state_to_json(two.state))
        assert one.state is not None
        state, count = one.state, count + 1
    assert json.dumps(state_to_json(state)) != json.dumps(state_to_json(first.state)), "it must remember"


@contract
def test_what_is_remembered_has_a_say(method: Method) -> None:
    """A batch of good samples alone means another thing after one with others, a composition's parts too."""
    if method.has_state:
        first = method(complete_batch(some_rewards(24)), beta=BETA)
        second = complete_batch([1.0] * 24, seed=1)
        alone, after = new_rewards(method, second), new_rewards(method, second, state=first.state)
        assert not torch.allclose(alone, after, equal_nan=True)


# --- One module and one line. ---


def test_a_method_of_ones_own_passes_every_test(toy_method: type[Method]) -> None:
    assert make_method("toy+entropy", {"toy": {"factor": 3}}).describe().startswith("toy (factor 3; shape")
    with pytest.raises(InputError, match="`factor` must be above 0; got -1"):
        make_method("toy", {"toy": {"factor": -1}})
    for method in variants(toy_method).values():
        for test in CONTRACT:
            test(method)


def test_a_faulty_method_does_not(toy_method: type[Method]) -> None:
    """The contract can fail: each of these breaks one line of it."""
    assert toy_method is Toy
    method = Toy()
    faults: dict[str, Callable[[Tensor, Batch], Tensor]] = {
        "keep_their_shape": lambda new, batch: new.double(),
        "unscored": lambda new, batch: new.nan_to_num(0),
        "order_of_samples": lambda new, batch: new + torch.arange(len(new), dtype=new.dtype),
        "judged_by_itself": lambda new, batch: new - new.nanmean(),
        "changes_nothing": lambda new, batch: batch.rewards.mul_(2),
        "any_size": lambda new, batch: new.exp(),
        "has_no_effect": lambda new, batch: (
            new + batch.outcome_ids.sum().to(new.dtype) % 7 + 1 if batch.outcome_ids is not None else new
        ),
    }
    for name, fault in faults.items():
        broken = _broken(method, fault)
        test = next(test for test in CONTRACT if name in test.__name__)
        with pytest.raises(AssertionError):
            test(broken)


def _broken(method: Toy, fault: Callable[[Tensor, Batch], Tensor]) -> Method:
    class Broken(Method):
        def __call__(self, batch: Batch, *, beta: float | Tensor, state: State | None = None) -> Any:
            result = method(batch, beta=beta, state=state)
            return replace(result, rewards=fault(result.rewards, batch))

    return Broken.__new__(Broken)


def _to(values: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    return None if values is None else values.to(dtype)


def _zeros(count: int) -> Tensor:
    return torch.zeros(count, dtype=torch.float64)
