"""Trajectory balance through TRL, against enumeration: two prompts, every response of up to two tokens."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

trl = pytest.importorskip("trl")
# ruff: noqa: E402

from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM

from allmodes.errors import ConfigError, InputError, RunError
from allmodes.integrations.trl_audit_settings import audit_settings
from allmodes.integrations.trl_flow import FlowRL, FlowRLTrainer
from allmodes.methods import IPS, MARA, BestOfN, MaxRL
from allmodes.objectives import mara_rewards
from allmodes.targets import reverse_kl_target, total_variation
from tiny_lm import save_tiny_lm
from trl_cases import last, parameters, sequence_logprobs, set_completions

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.* is deprecated:FutureWarning"),
]

WORDS = ["<pad>", "<eos>", "a", "b"]
ROWS = [[1]] + [[first, second] for first in (0, 2, 3) for second in range(4)]
"""All responses of at most two tokens; 1 is the end of text."""
LENGTHS = torch.tensor([len(row) for row in ROWS]).double()
QUESTIONS = ["a b", "b b a"]
BETA = 0.8
Make = Callable[..., Any]


def reward(prompts: list[str], completion_ids: list[list[int]], **_: Any) -> list[float]:
    """Of each question its own, with ties among responses of one and two tokens."""
    return [
        (0.35 if prompt == "a b" else -0.2) * sum(ids) + 0.35 * (ids[0] == 3)
        for prompt, ids in zip(prompts, completion_ids, strict=True)
    ]


REWARDS = torch.tensor([reward([question] * len(ROWS), ROWS) for question in QUESTIONS]).double()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two-tokens")
    save_tiny_lm(folder, WORDS, initializer_range=0.08, tie_word_embeddings=False)
    return folder


@pytest.fixture
def make(build: Make, tiny: Path) -> Make:
    """(flow, settings, **arguments) → trainer, each of whose batches has all responses to both questions."""

    def made(flow: FlowRL | None = None, settings: dict[str, Any] | None = None, **arguments: Any) -> Any:
        own = {
            "num_generations": len(ROWS),
            "per_device_train_batch_size": 2 * len(ROWS),
            "max_completion_length": 2,
            "beta": BETA,
            "shuffle_dataset": False,
            "max_grad_norm": 0.0,
            **(settings or {}),
        }
        defaults = {
            "model": str(tiny),
            "reward_funcs": reward,
            "train_dataset": Dataset.from_dict({"prompt": QUESTIONS}),
        }
        trainer = build(FlowRLTrainer, own, flow=flow, **{**defaults, **arguments})
        set_completions(trainer, ROWS * 2)
        return trainer

    return made


def batch_of(trainer: Any, *, drift: float = 0.0) -> dict[str, Tensor]:
    """One generation of a policy that has moved away from its reference."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            parameter += drift * torch.randn(parameter.shape, generator=generator)
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1
    inputs = [{"prompt": question} for question in QUESTIONS for _ in ROWS]
    return trainer._generate_and_score_completions(inputs)


def logprobs_of(model: Any, batch: dict[str, Tensor]) -> Tensor:
    """log p of every response to both questions, one at a time and without padding, (2, K), float64."""
    return sequence_logprobs(model, batch).view(2, -1)


def normalised(logprobs: Tensor) -> Tensor:
    """Without what float32 leaves of a sum of 1."""
    assert float((logprobs.exp().sum(1) - 1).abs().max()) < 1e-4
    return logprobs.log_softmax(1)


def reference(tiny: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(tiny).eval()


def set_value(trainer: Any, value: float) -> None:
    """Let the head say the same of every prompt."""
    with torch.no_grad():
        trainer.head.layers[-1].bias.fill_(value)


def gradient_of(loss: Tensor, model: Any) -> Tensor:
    found = torch.autograd.grad(loss, [p for p in model.parameters() if p.requires_grad], retain_graph=True)
    return torch.cat([g.flatten() for g in found]).double()


def differentiable_logprobs(model: Any, batch: dict[str, Tensor]) -> Tensor:
    """As `logprobs_of`, with the graph."""
    total = []
    for prompt, mask, row in zip(batch["prompt_ids"], batch["prompt_mask"], ROWS * 2, strict=True):
        prompt = prompt[mask.bool()]
        logits = model(torch.cat([prompt, torch.tensor(row)]).unsqueeze(0)).logits[0].double()
        steps = logits.log_softmax(-1)[len(prompt) - 1 : -1]
        total.append(steps.gather(1, torch.tensor(row).unsqueeze(1)).sum())
    return torch.stack(total).view(2, -1)


def test_the_responses_are_all_there_are(make: Make) -> None:
    trainer = make()
    batch = batch_of(trainer, drift=0.1)
    torch.testing.assert_close(logprobs_of(trainer.model, batch).exp().sum(1), torch.ones(2).double())


# --- Value and gradient ---


@pytest.mark.parametrize("form", ["exact", "paper"])
def test_the_loss_is_the_squared_violation_of_balance(form: Any, make: Make, tiny: Path) -> None:
    trainer = make(FlowRL(form=form, reward_factor=3.0))
    batch = batch_of(trainer, drift=0.1)
    set_value(trainer, 0.7)
    loss = trainer._compute_loss(trainer.model, batch)
    logprobs, ref = differentiable_logprobs(trainer.model, batch), logprobs_of(reference(tiny), batch)
    assert float((logprobs - ref).detach().abs().max()) > 0.3
    if form == "exact":
        delta = 0.7 / BETA + logprobs - ref - REWARDS / BETA
        expected = BETA / 2 * delta.square().mean()
    else:
        mean, std = REWARDS.mean(1, keepdim=True), REWARDS.std(1, keepdim=True)
        delta = 3 * 0.7 + (logprobs - ref) / LENGTHS - 3 * (REWARDS - mean) / (std + 1e-4)
        expected = delta.square().mean()
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=0)
    torch.testing.assert_close(
        gradient_of(loss, trainer.model), gradient_of(expected, trainer.model), rtol=1e-3, atol=2e-5
    )
    # The head's gradient is that of the value it adds, by its last bias.
    bias = trainer.head.layers[-1].bias
    (found,) = torch.autograd.grad(loss, bias)
    factor = 1 / BETA if form == "exact" else 3.0
    scale = BETA / 2 if form == "exact" else 1
    assert float(found) == pytest.approx(float(2 * scale * factor * delta.detach().mean()), rel=1e-4)
    assert last(trainer, "flow/log_partition") == pytest.approx(0.7 * factor, rel=1e-5)
    assert last(trainer, "flow/residual") == pytest.approx(float(delta.detach().abs().mean()), rel=1e-4)
    tokens = (logprobs - ref).sum() / (2 * LENGTHS.sum())
    assert last(trainer, "kl") == pytest.approx(float(tokens.detach()), abs=1e-5)


def test_on_its_own_samples_the_gradient_is_that_of_the_expected_reward_less_the_kl(
    make: Make, tiny: Path
) -> None:
    """Whatever log Z is: it is a baseline."""
    trainer = make()
    batch = batch_of(trainer, drift=0.1)
    set_value(trainer, 0.3)
    p = logprobs_of(trainer.model, batch).exp().view(-1)
    ref = logprobs_of(reference(tiny), batch)
    total = torch.zeros(())
    for row in range(2 * len(ROWS)):  # each response as often as the policy draws it
        one = {n: v[row : row + 1] if v.ndim and len(v) == len(p) else v for n, v in batch.items()}
        total = total + p[row].float() * trainer._compute_loss(trainer.model, one)
    logprobs = differentiable_logprobs(trainer.model, batch)
    objective = (logprobs.exp() * (REWARDS - BETA * (logprobs - ref))).sum()
    torch.testing.assert_close(
        -gradient_of(total, trainer.model), gradient_of(objective, trainer.model), rtol=1e-3, atol=2e-5
    )


@pytest.mark.parametrize("form", ["exact", "paper"])
def test_at_the_optimum_every_response_has_a_loss_of_0_and_log_z_is_the_true_one(
    form: Any, make: Make, tiny: Path
) -> None:
    """Rewards are made for the policy: what it is to its reference, and a constant, which log Z must be."""
    batch: dict[str, Tensor] = {}
    trainer = make(FlowRL(form=form))
    batch = batch_of(trainer, drift=0.1)
    ref = logprobs_of(reference(tiny), batch)
    log_ratio = logprobs_of(trainer.model, batch) - ref
    if form == "paper":
        wanted = log_ratio / LENGTHS / 15 + 0.4  # R̂ itself, as if groups were infinite
        truth = 0.4 * 15
    else:
        wanted = BETA * log_ratio + 0.4
        truth = float((ref + wanted / BETA).logsumexp(1)[0])
        assert truth == pytest.approx(0.4 / BETA)
    batch["flow_rewards"] = wanted.view(-1).float()
    set_value(trainer, 0.4)
    assert float(trainer._compute_loss(trainer.model, batch).detach()) < 1e-9
    assert last(trainer, "flow/log_partition") == pytest.approx(truth)
    set_value(trainer, 0.5)
    assert float(trainer._compute_loss(trainer.model, batch).detach()) > 1e-3


def test_the_importance_weight_is_clipped_and_has_no_gradient(make: Make, tiny: Path) -> None:
    trainer = make(FlowRL(form="paper", reward_factor=2.0), {"num_iterations": 2, "epsilon_high": 0.5})
    batch = batch_of(trainer)
    old = logprobs_of(trainer.model, batch)
    generator = torch.Generator().manual_seed(8)
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    logprobs, ref = differentiable_logprobs(trainer.model, batch), logprobs_of(reference(tiny), batch)
    ratio = (logprobs.detach() - old).exp()
    weight = ratio.clamp(0.8, 1.5)
    assert 0 < int((weight != ratio).sum()) < weight.numel()
    advantages = (REWARDS - REWARDS.mean(1, keepdim=True)) / (REWARDS.std(1, keepdim=True) + 1e-4)
    expected = (weight * ((logprobs - ref) / LENGTHS - 2 * advantages).square()).mean()
    loss = trainer._compute_loss(trainer.model, batch)
    torch.testing.assert_close(loss.double(), expected, rtol=1e-4, atol=0)
    torch.testing.assert_close(
        gradient_of(loss, trainer.model), gradient_of(expected, trainer.model), rtol=1e-3, atol=5e-5
    )


def test_the_group_s_mean_is_the_log_z_for_which_its_violations_cancel(make: Make, tiny: Path) -> None:
    trainer = make(FlowRL(log_partition="group"))
    assert trainer.head is None
    batch = batch_of(trainer, drift=0.1)
    log_ratio = logprobs_of(trainer.model, batch) - logprobs_of(reference(tiny), batch)
    values = REWARDS / BETA - log_ratio
    expected = BETA / 2 * (values - values.mean(1, keepdim=True)).square().mean()
    torch.testing.assert_close(
        trainer._compute_loss(trainer.model, batch).double(), expected, rtol=1e-4, atol=0
    )
    torch.testing.assert_close(
        batch["flow_log_partition"].view(2, -1)[:, 0], values.mean(1), rtol=1e-4, atol=1e-5
    )


def test_what_cannot_be_scored_has_no_loss(make: Make) -> None:
    def some(prompts: Any, completion_ids: list[list[int]], **_: Any) -> list[float | None]:
        return [None if ids == [2, 1] else 1.0 for ids in completion_ids]

    def without(row: int) -> Tensor:
        rows = [row, row + len(ROWS)]
        kept = [i for i in range(2 * len(ROWS)) if i not in rows]
        return trainer._compute_loss(
            trainer.model, {n: v[kept] if v.ndim and len(v) == 2 * len(ROWS) else v for n, v in batch.items()}
        )

    trainer = make(reward_funcs=some)
    batch = batch_of(trainer, drift=0.1)
    loss = trainer._compute_loss(trainer.model, batch)
    rest = without(ROWS.index([2, 1]))
    share = (len(ROWS) - 1) / len(ROWS)  # of the mean, as TRL has an advantage of 0
    assert float(loss.detach()) == pytest.approx(share * float(rest.detach()), rel=1e-5)
    assert gradient_of(loss, trainer.model).isfinite().all()


def test_a_method_changes_the_target(make: Make) -> None:
    trainer = make(transform=MARA(threshold=0.4))
    batch = batch_of(trainer)
    ref = logprobs_of(trainer.model, batch)  # which is the reference as yet
    groups = torch.arange(2).repeat_interleave(len(ROWS))
    wanted = mara_rewards(REWARDS.view(-1), ref.view(-1), beta=BETA, threshold=0.4, group_ids=groups)
    assert 0 < int(wanted.augmented.sum()) < 2 * len(ROWS)
    torch.testing.assert_close(batch["flow_rewards"].double(), wanted.rewards, rtol=1e-4, atol=1e-4)


def test_a_method_that_counts_answers_changes_it_too(make: Make) -> None:
    def ones(completion_ids: list[list[int]], **_: Any) -> list[float]:
        return [1.0] * len(completion_ids)

    trainer = make(transform=IPS(), reward_funcs=ones, outcome_key=len)
    texts = [" ".join(WORDS[token] for token in row if token > 1) for row in ROWS]
    shares = [sum(len(other) == len(text) for other in texts) / len(texts) for text in texts]
    assert len(set(shares)) == 3
    found = batch_of(trainer)["flow_rewards"].view(2, -1)
    torch.testing.assert_close(found.double(), 1 / torch.tensor([shares] * 2).double(), rtol=1e-5, atol=0)


# --- Training ---


def solved(ref: Tensor, gain: Tensor) -> Tensor:
    """log p of p = q exp(|y| (gain − ζ)), with the ζ for which it sums to 1, by bisection; (2, K)."""
    low, high = torch.full((2, 1), -1e3).double(), torch.full((2, 1), 1e3).double()
    for _ in range(200):
        middle = (low + high) / 2
        too_much = (ref + LENGTHS * (gain - middle)).logsumexp(1, keepdim=True) > 0
        low, high = torch.where(too_much, middle, low), torch.where(too_much, high, middle)
    return ref + LENGTHS * (gain - low)


def test_training_reaches_the_target_and_the_paper_s_form_another(make: Make, tiny: Path) -> None:
    """From the same samples, total variation to each form's own optimum below 0.03, and 0.1 between them."""
    settings = {"max_steps": 120, "learning_rate": 1e-2, "lr_scheduler_type": "cosine", "adam_beta2": 0.95}
    found = {}
    for form in ("exact", "paper"):
        trainer = make(FlowRL(form=form, reward_factor=1.0, head_learning_rate=1e-2), settings)
        trainer.train()
        batch = batch_of(trainer)
        found[form] = normalised(logprobs_of(trainer.model, batch))
        ref = normalised(logprobs_of(reference(tiny), batch))
        if form == "exact":
            logged = trainer.state.log_history[119]["flow/log_partition"]
            truth = (ref + REWARDS / BETA).logsumexp(1)
            assert logged == pytest.approx(float(truth.mean()), abs=0.02)
            assert float((truth[0] - truth[1]).abs()) > 1  # the head knows the prompts from each other
    exact = reverse_kl_target(ref, REWARDS, beta=BETA)
    advantages = (REWARDS - REWARDS.mean(1, keepdim=True)) / (REWARDS.std(1, keepdim=True) + 1e-4)
    paper = solved(ref, advantages)
    assert float(total_variation(found["exact"], exact).max()) < 0.03
    assert float(total_variation(found["paper"], paper).max()) < 0.03
    assert float(total_variation(exact, paper).min()) > 0.1
    # Length is what differs, not only strength: no β turns one into the other.
    for row in range(2):
        beta = torch.logspace(-2, 2, 2001).double()
        others = torch.log_softmax(ref[row] + REWARDS[row] / beta[:, None], 1)
        assert float(total_variation(others, paper[row].expand(2001, -1)).min()) > 0.02


def test_a_resumed_run_ends_where_the_uninterrupted_one_does(build: Make, tmp_path: Path) -> None:
    settings = {"max_steps": 4, "save_steps": 2, "save_strategy": "steps"}
    method = {"transform": IPS(), "outcome_key": len}
    whole = build(FlowRLTrainer, {**settings, "output_dir": str(tmp_path / "whole")}, **method)
    whole.train()
    rest = build(FlowRLTrainer, {**settings, "output_dir": str(tmp_path / "rest"), "seed": 1}, **method)
    start = whole.head.state_dict()
    assert any(not torch.equal(value, start[name]) for name, value in rest.head.state_dict().items())
    rest.args.seed = 42
    rest.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))
    assert all(torch.equal(value, parameters(rest)[name]) for name, value in parameters(whole).items())
    assert all(
        torch.equal(value, whole.head.state_dict()[name]) for name, value in rest.head.state_dict().items()
    )
    assert float(whole.head.layers[-1].bias.detach().abs()) > 0
    names = {path.name for path in (tmp_path / "whole" / "checkpoint-2").iterdir()}
    assert "log_partition.safetensors" in names
    group = build(FlowRLTrainer, settings, flow=FlowRL(log_partition="group"))
    with pytest.raises(RunError, match="expected a checkpoint of log_partition='group', without"):
        group.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))


def test_several_parts_of_an_update_make_the_same_one(make: Make) -> None:
    """The head's gradients are summed over them and forgotten after."""
    settings = {"max_steps": 3, "optim": "sgd", "learning_rate": 1e-2}
    flow = FlowRL(head_learning_rate=0.1)
    one = make(flow, settings)
    parts = make(flow, {**settings, "per_device_train_batch_size": 13, "gradient_accumulation_steps": 2})
    one.train()
    parts.train()
    for name, value in parameters(one).items():
        torch.testing.assert_close(parameters(parts)[name], value, rtol=1e-4, atol=1e-5)
    for name, value in one.head.state_dict().items():
        torch.testing.assert_close(parts.head.state_dict()[name], value, rtol=1e-4, atol=1e-5)


def test_the_head_has_a_learning_rate_of_its_own_and_no_share_in_the_model(make: Make) -> None:
    trainer = make(FlowRL(head_learning_rate=0.02), {"learning_rate": 1e-3, "lr_scheduler_type": "constant"})
    trainer.train()
    groups = trainer.optimizer.param_groups
    assert [group["lr"] for group in groups] == [1e-3] * (len(groups) - 1) + [0.02]
    assert {id(p) for p in groups[-1]["params"]} == {id(p) for p in trainer.head.parameters()}
    assert not {id(p) for p in groups[-1]["params"]} & {id(p) for p in trainer.model.parameters()}


def test_adapters_are_trained_and_the_base_is_the_reference(make: Make, tiny: Path) -> None:
    trainer = make(peft_config=LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))
    batch = batch_of(trainer)
    log_ratio = logprobs_of(trainer.model, batch) - logprobs_of(reference(tiny), batch)
    assert float(log_ratio.abs().max()) > 0.01
    expected = BETA / 2 * (log_ratio - REWARDS / BETA).square().mean()
    torch.testing.assert_close(
        trainer._compute_loss(trainer.model, batch).double(), expected, rtol=1e-4, atol=0
    )


def test_prompts_are_shared_with_log_z_learned(make: Make) -> None:
    """Loss and gradients, of policy and head, are those of whole sequences."""
    losses, gradients, widths = {}, {}, {}
    for share in (False, True):
        trainer = make(share_prompts=share)
        batch = batch_of(trainer, drift=0.1)
        set_value(trainer, 0.7)
        with torch.no_grad():
            trainer.head.layers[-1].weight.fill_(0.1)  # so that the states count
        found: list[tuple[int, int]] = []
        for _ in range(2):
            found.clear()
            hook = trainer.model.base_model.register_forward_hook(
                lambda _model, _inputs, output, found=found: found.append(output.last_hidden_state.shape[:2])
            )
            loss = trainer._compute_loss(trainer.model, batch)
            hook.remove()
        widths[share] = list(found)
        loss.backward()
        losses[share] = loss.detach()
        parts = [*trainer.model.parameters(), *trainer.head.parameters()]
        gradients[share] = torch.cat([p.grad.flatten() for p in parts if p.grad is not None])
        if share:
            assert trainer._cache_is_exact
    count, width, kept = (
        len(batch["prompt_ids"]),
        batch["prompt_ids"].shape[1],
        batch["completion_ids"].shape[1],
    )
    assert widths[False] == [(count, width + kept)]
    assert widths[True] == [(len(QUESTIONS), width - 1), (count, kept + 1)]
    torch.testing.assert_close(losses[True], losses[False], rtol=1e-4, atol=0)
    assert float(gradients[False].norm()) > 0
    torch.testing.assert_close(gradients[True], gradients[False], rtol=1e-3, atol=1e-5)


def test_an_evaluation_has_a_loss(make: Make) -> None:
    trainer = make(
        settings={"per_device_eval_batch_size": 2 * len(ROWS)},
        eval_dataset=Dataset.from_dict({"prompt": QUESTIONS}),
    )
    assert math.isfinite(trainer.evaluate()["eval_flow/residual"])


# --- Settings ---


@pytest.mark.parametrize(
    ("settings", "arguments", "message"),
    [
        ({"beta": 0.0}, {}, r"`beta` must be above 0; got GRPOConfig\(beta=0.0\)"),
        ({}, {"kl": "forward"}, "`kl` must be 'reverse' for FlowRLTrainer.*got 'forward'"),
        ({"loss_type": "dr_grpo"}, {}, "`loss_type` has no effect on FlowRLTrainer's loss.*got 'dr_grpo'"),
        ({"top_entropy_quantile": 0.5}, {}, "`top_entropy_quantile` has no effect"),
        ({}, {"transform": BestOfN()}, "BestOfN returns advantages"),
        ({}, {"transform": MaxRL()}, "MaxRL returns advantages"),
        (
            {},
            {"transform": MARA(threshold=0.5), "flow": FlowRL(form="paper")},
            "`form` must be 'exact' for MARA",
        ),
    ],
)
def test_settings_that_would_mean_something_else_are_refused(
    settings: dict[str, Any], arguments: dict[str, Any], message: str, make: Make
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        make(settings=settings, model="no-such-model", **arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [("form", "other"), ("log_partition", "none"), ("reward_factor", 0.0), ("head_learning_rate", -1.0)],
)
def test_flow_refuses_other_values(name: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"`{name}`"):
        FlowRL(**{name: value})


def test_an_audit_is_told_which_objective_it_was(make: Make) -> None:
    exact, paper = audit_settings(make()), audit_settings(make(FlowRL(form="paper")))
    assert (exact["kl"], exact["scale_rewards"], exact["transform"]) == ("k1-in-reward", "none", "none")
    assert (paper["scale_rewards"], paper["transform"]) == ("group", "other")
