"""Which KL each trainer has: gradients through TRL against the enumerated objective, one token to four."""

from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

trl = pytest.importorskip("trl")
# ruff: noqa: E402

from datasets import Dataset
from transformers import AutoTokenizer

from allmodes.errors import ConfigError, RunError
from allmodes.integrations import IPS, MARA, BestOfN, EntropyBonus, RewardTransform, Unlikeliness
from allmodes.integrations.trl import GRPOTrainer, RLOOTrainer
from allmodes.integrations.trl_audit_settings import audit_settings
from allmodes.objectives import mara_rewards
from tiny_lm import save_tiny_lm
from trl_cases import OURS, THEIRS

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.* is deprecated:FutureWarning"),
]

TOKENS = 4  # <pad>, <eos>, a, b; each is a token like any other where completions are given
BETA = 0.3
ENTROPY = 0.2
MARA_AT_HALF = MARA(threshold=0.5)


@pytest.fixture(scope="session")
def four_tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model over four tokens whose output layer is its own; all sequences of up to four are 256."""
    folder = tmp_path_factory.mktemp("four")
    sizes = {"hidden_size": 16, "layers": 1, "initializer_range": 0.5}
    save_tiny_lm(folder, ["<pad>", "<eos>", "a", "b"], tie_word_embeddings=False, **sizes)
    return folder


def reward(completion_ids: list[list[int]], **_: Any) -> list[float]:
    """Two rewards above τ and two below, by the first token and the last."""
    return [(0.6 + 0.3 * (ids[0] == 2)) * (ids[-1] > 1) + 0.1 * (ids[0] == 3) for ids in completion_ids]


def logprobs_of(model: Any, prompt: Tensor, sequences: Tensor) -> Tensor:
    """log p of whole sequences, (N,), with the gradient."""
    rows = torch.cat([prompt.expand(len(sequences), -1), sequences], 1)
    logprobs = model(rows).logits[:, prompt.shape[1] - 1 : -1].log_softmax(-1)
    return logprobs.gather(2, sequences.unsqueeze(2)).squeeze(2).sum(1)


class Enumerated:
    """A trainer whose batch is every sequence once, under a policy that finds them all equally likely.

    So a mean over the batch is an expectation, and gradients are exact. The reference is another policy.
    """

    def __init__(
        self, trainer: type, folder: Path, make_config: Callable[..., Any], length: int, **arguments: Any
    ) -> None:
        rows = TOKENS**length
        settings = {
            "per_device_train_batch_size": rows,
            "num_generations": rows,
            "max_completion_length": length,
            "beta": BETA,
            **arguments.pop("settings", {}),
        }
        self.sequences = torch.tensor(list(product(range(TOKENS), repeat=length)))
        self.trainer: Any = trainer(
            model=str(folder),
            reward_funcs=reward,
            args=make_config(trainer, **settings),
            train_dataset=Dataset.from_dict({"prompt": ["a b"]}),
            **arguments,
        )
        self.prompt = torch.tensor([AutoTokenizer.from_pretrained(folder)("a b")["input_ids"]])
        torch.nn.init.zeros_(self.trainer.model.lm_head.weight)
        generated = self.sequences.tolist()
        is_grpo = isinstance(self.trainer, trl.GRPOTrainer)
        self.trainer._generate_single_turn = lambda *_, **__: (generated, None) if is_grpo else generated

    def gradient(self) -> Tensor:
        """∇ of the objective by TRL: of minus its loss, per sequence, at the output layer."""
        trainer, rows = self.trainer, len(self.sequences)
        trainer.model.train()
        batch = trainer._generate_and_score_completions([{"prompt": "a b"}] * rows)
        trainer.current_gradient_accumulation_steps = 1
        trainer.model.zero_grad()
        trainer._compute_loss(trainer.model, batch).backward()
        # GRPO's loss is a mean over tokens; RLOO's advantages are N/(N − 1) from the mean of all.
        is_grpo = isinstance(trainer, trl.GRPOTrainer)
        scale = self.sequences.shape[1] if is_grpo else (rows - 1) / rows
        return -scale * trainer.model.lm_head.weight.grad.double()

    def exact(self, transform: RewardTransform | None = None) -> Tensor:
        """∇ Σ_y π(y) [R̄(y) − β log π(y)/π_ref(y)], R̄ held fixed, by enumeration."""
        model = self.trainer.model
        rewards = torch.tensor(reward(self.sequences.tolist()))
        logprobs = logprobs_of(model, self.prompt, self.sequences)
        with torch.no_grad():
            reference = logprobs_of(self.trainer.ref_model, self.prompt, self.sequences)
            if isinstance(transform, MARA):
                rewards = mara_rewards(rewards, reference, beta=BETA, threshold=0.5).rewards
            if isinstance(transform, EntropyBonus):
                rewards = rewards - ENTROPY * logprobs
        objective = (logprobs.exp() * (rewards - BETA * (logprobs - reference))).sum()
        return torch.autograd.grad(objective, model.lm_head.weight)[0].double()


@pytest.mark.parametrize("length", [1, 2, 3, 4])
@pytest.mark.parametrize("transform", [MARA_AT_HALF, EntropyBonus(ENTROPY)], ids=["mara", "entropy"])
@pytest.mark.parametrize("kl", ["reverse", None])
def test_a_transform_of_whole_responses_gets_the_kl_of_whole_responses(
    kl: Any,
    transform: RewardTransform,
    length: int,
    four_tokens: Path,
    make_config: Callable[..., Any],
) -> None:
    world = Enumerated(GRPOTrainer, four_tokens, make_config, length, transform=transform, kl=kl)
    torch.testing.assert_close(world.gradient(), world.exact(transform), atol=2e-6, rtol=1e-4)


@pytest.mark.parametrize("length", [1, 2, 3])
def test_a_kl_per_token_is_another_from_two_tokens_on(
    length: int, four_tokens: Path, make_config: Callable[..., Any]
) -> None:
    """The paper's form has its name; what is not the sequence's KL is not called so."""
    build: Any = lambda: Enumerated(  # noqa: E731
        GRPOTrainer, four_tokens, make_config, length, transform=MARA_AT_HALF, kl="token-reverse"
    )
    if length == 1:
        world = build()
    else:
        with pytest.warns(UserWarning, match=r"^kl='token-reverse' .* MARA"):
            world = build()
    error = float((world.gradient() - world.exact(MARA_AT_HALF)).norm() / world.exact(MARA_AT_HALF).norm())
    assert error < 1e-4 if length == 1 else error > 0.02


@pytest.mark.parametrize("length", [1, 2, 3])
def test_rloo_s_kl_is_the_log_ratio_of_the_whole_response(
    length: int, four_tokens: Path, make_config: Callable[..., Any]
) -> None:
    """TRL's own trainer: were its KL per token, or k3, MARA's optimum would be another there too."""
    world = Enumerated(trl.RLOOTrainer, four_tokens, make_config, length)
    torch.testing.assert_close(world.gradient(), world.exact(), atol=2e-6, rtol=1e-4)
    ours = Enumerated(RLOOTrainer, four_tokens, make_config, length, transform=MARA_AT_HALF)
    torch.testing.assert_close(ours.gradient(), ours.exact(MARA_AT_HALF), atol=2e-6, rtol=1e-4)


@pytest.mark.parametrize("kl", ["reverse", "forward"])
@pytest.mark.parametrize("transform", [None, Unlikeliness(0.25), BestOfN()], ids=str)
def test_other_transforms_keep_trl_s_kl_in_the_loss(
    kl: Any, transform: RewardTransform | None, four_tokens: Path, make_config: Callable[..., Any]
) -> None:
    ours = Enumerated(GRPOTrainer, four_tokens, make_config, 2, transform=transform, kl=kl)
    settings = {"use_bias_correction_kl": kl == "reverse"}
    theirs = Enumerated(trl.GRPOTrainer, four_tokens, make_config, 2, settings=settings)
    batch = theirs.trainer._generate_and_score_completions([{"prompt": "a b"}] * 16)
    batch["advantages"] = ours.trainer._generate_and_score_completions([{"prompt": "a b"}] * 16)["advantages"]
    theirs.trainer.current_gradient_accumulation_steps = 1
    theirs.trainer._compute_loss(theirs.trainer.model, batch).backward()
    assert torch.equal(ours.gradient(), -2 * theirs.trainer.model.lm_head.weight.grad.double())
    assert not ours.trainer.has_kl_in_reward


def test_the_kl_of_whole_responses_is_logged_and_told_to_the_audit(
    four_tokens: Path, make_config: Callable[..., Any]
) -> None:
    world = Enumerated(GRPOTrainer, four_tokens, make_config, 2, transform=MARA_AT_HALF)
    world.gradient()
    with torch.no_grad():
        reference = logprobs_of(world.trainer.ref_model, world.prompt, world.sequences)
    expected = float((-(TOKENS**-2 * torch.ones(16)).log().neg() - reference).mean()) / 2
    assert world.trainer._metrics["train"]["kl"] == [pytest.approx(expected, abs=1e-5)]
    assert world.trainer.beta == BETA
    assert audit_settings(world.trainer)["kl"] == "k1-in-reward"


def good(text: str) -> str | None:
    return text or None


@pytest.mark.parametrize(
    ("settings", "arguments", "message"),
    [
        ({}, {"kl": "forward"}, r"^`kl` must be 'reverse' for MARA: .*got kl='forward'.*token-forward"),
        (
            {"use_bias_correction_kl": False},
            {},
            r"^`kl` must be 'reverse' for MARA: .*got use_bias_correction_kl=False",
        ),
        (
            {},
            {"kl": "forward", "transform": EntropyBonus(0.1)},
            r"^`kl` must be 'reverse' for EntropyBonus",
        ),
        (
            {"importance_sampling_level": "sequence"},
            {},
            r"^`importance_sampling_level` must be 'token' for MARA, .*; got 'sequence'$",
        ),
        (
            {"importance_sampling_level": "sequence"},
            {"kl": "reverse", "transform": None},
            r"^`importance_sampling_level` must be 'token' with kl='reverse': .*neither KL",
        ),
        ({"top_entropy_quantile": 0.2}, {}, r"^`top_entropy_quantile` must be 1.0 for MARA, .*; got 0.2$"),
        (
            {"off_policy_mask_threshold": 0.5},
            {"transform": EntropyBonus(0.1)},
            r"^`off_policy_mask_threshold` must be None for EntropyBonus, .*; got 0.5$",
        ),
        (
            {"beta": 0.0},
            {"transform": EntropyBonus(0.1)},
            r"^EntropyBonus needs the policy's log-probabilities, .* above 0.*; got beta=0.0$",
        ),
        (
            {"beta": 0.0},
            {"transform": Unlikeliness(0.25)},
            r"^Unlikeliness needs the policy's log-probabilities, .* above 0.*; got beta=0.0$",
        ),
    ],
)
def test_settings_that_break_a_transform_of_whole_responses_are_refused(
    settings: dict[str, Any],
    arguments: dict[str, Any],
    message: str,
    tmp_path: Path,
    make_config: Callable[..., Any],
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        GRPOTrainer(
            model=str(tmp_path / "no-such-model"),
            reward_funcs=reward,
            args=make_config(GRPOTrainer, **settings),
            train_dataset=Dataset.from_dict({"prompt": ["a b"]}),
            **{"transform": MARA_AT_HALF, **arguments},
        )
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kl", ["forward", "token-reverse", "token-forward"])
def test_rloo_has_the_reverse_kl_alone(kl: Any, tmp_path: Path, make_config: Callable[..., Any]) -> None:
    with pytest.raises(ConfigError, match=rf"^`kl` must be 'reverse' for RLOOTrainer, .*; got '{kl}'"):
        RLOOTrainer(
            model=str(tmp_path / "no-such-model"),
            reward_funcs=reward,
            args=make_config(RLOOTrainer),
            train_dataset=Dataset.from_dict({"prompt": ["a b"]}),
            kl=kl,
        )


@pytest.mark.parametrize(
    ("settings", "transform"),
    [
        ({"importance_sampling_level": "sequence"}, IPS(outcome_key=good)),
        ({"top_entropy_quantile": 0.2}, BestOfN()),
        ({"beta": 0.0, "num_iterations": 2}, Unlikeliness(0.25)),  # TRL computes log π_θ here
    ],
)
def test_settings_that_break_nothing_are_accepted(
    settings: dict[str, Any],
    transform: RewardTransform,
    four_tokens: Path,
    make_config: Callable[..., Any],
) -> None:
    world = Enumerated(GRPOTrainer, four_tokens, make_config, 2, transform=transform, settings=settings)
    assert bool(world.gradient().isfinite().all())


@pytest.mark.parametrize("output", [None, (None, None), (None, None, None)])
@pytest.mark.parametrize("kind", ["grpo", "rloo"])
def test_a_patch_that_gives_no_log_probabilities_is_named(
    kind: str,
    output: Any,
    four_tokens: Path,
    make_config: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Older patches of TRL compute log-probabilities inside their loss and return None for them."""
    world = Enumerated(OURS[kind], four_tokens, make_config, 2, transform=MARA_AT_HALF)
    monkeypatch.setattr(THEIRS[kind], "_get_per_token_logps_and_entropies", lambda *_, **__: output)
    with pytest.raises(RunError, match=r"log-probabilities of tokens were expected .*; got NoneType"):
        world.gradient()
