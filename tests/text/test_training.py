"""One run through TRL: its settings, its metrics, and what is refused."""

import json
import math
import re
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("trl")

from allmodes.audit.config import AuditConfig
from allmodes.errors import ConfigError, RunError
from allmodes.integrations.trl import GRPOTrainer, RLOOTrainer
from allmodes.integrations.trl_flow import FlowRL, FlowRLTrainer
from allmodes.methods import (
    IPS,
    MARA,
    METHODS,
    BestOfN,
    EntropyBonus,
    Plain,
    Then,
    Unlikeliness,
)
from allmodes.objectives import BatchQuantile
from allmodes.runs.folder import RunFolder
from allmodes.tasks import OneTwo
from allmodes.text.checkpoints import last_checkpoint, restore_logs
from allmodes.text.config import FlowRLSettings
from allmodes.text.likelihood import ids_logprobs
from allmodes.text.models import load_model, load_tokenizer
from allmodes.text.reporting.results import Arm
from allmodes.text.sampling import chat_prompt, sample_responses
from allmodes.text.training import arms, make_settings, make_trainer, train

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

Make = Callable[..., Any]


def arm(**changes: Any) -> Arm:
    return Arm(**{"trainer": "rloo", "kl": "reverse", "method": "mara", "beta": 0.1, **changes})


def build(config: Any, which: Arm, out: Path) -> Any:
    return make_trainer(
        config, OneTwo(), which, seed=4, model=config.model, tokenizer=load_tokenizer(config.model),
        reward=lambda prompts, completions, **_: [1.0] * len(completions), out=out,
        keep_checkpoints=False, callbacks=[],
    )  # fmt: skip


def test_arms_are_all_combinations_but_rloo_with_a_kl_that_is_not_reverse(make_text_config: Make) -> None:
    config = make_text_config(
        trainer=["rloo", "grpo"], kl=["reverse", "token-forward"], method=["vanilla", "mara"], beta=[0.1, 1.0]
    )
    found = {(a.trainer, a.kl, a.method, a.beta) for a in arms(config)}
    assert len(found) == len(arms(config)) == 3 * 2 * 2
    assert not any(trainer == "rloo" and kl == "token-forward" for trainer, kl, _, _ in found)


def test_flowrl_has_the_reverse_kl_and_the_methods_that_it_is_given(
    make_text_config: Make, tmp_path: Path
) -> None:
    own = {"form": "paper", "log_partition": "group", "reward_factor": 3.0, "method": ["vanilla", "ips"]}
    config = make_text_config(
        trainer=["grpo", "flowrl"], kl=["reverse", "token-forward"], method=["vanilla", "mara", "ips"],
        flowrl=own, scale_rewards=False,
    )  # fmt: skip
    found = [(a.kl, a.method) for a in arms(config) if a.trainer == "flowrl"]
    assert found == [("reverse", "vanilla"), ("reverse", "ips")]
    trainer = build(config, arm(trainer="flowrl", method="ips"), tmp_path)
    assert isinstance(trainer, FlowRLTrainer)
    assert trainer.flow == FlowRL(form="paper", log_partition="group", reward_factor=3.0)
    assert FlowRL() == FlowRL(**FlowRLSettings().model_dump(exclude={"method"}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": ["best_of_n"]}, "no method 'best_of_n' with trainer 'flowrl'"),
        ({"flowrl": {"form": "paper"}}, "flowrl.form = 'exact' with method 'mara'"),
        ({"flowrl": {"form": "paper"}, "method": ["ips"], "beta": [0.1, 1.0]}, "one `beta`.*got 2"),
        ({"flowrl": {"method": "ips"}}, "`flowrl.method`; got 'ips'"),
        ({"kl": ["token-forward"]}, "kl 'reverse' with trainer 'flowrl'"),
        ({"beta": [0.0]}, "beta"),
    ],
)
def test_settings_that_flowrl_has_no_meaning_for_are_refused(
    changes: dict[str, Any], message: str, make_text_config: Make
) -> None:
    with pytest.raises(ValueError, match=message):
        make_text_config(trainer=["flowrl"], **changes)


def test_trl_gets_the_settings_of_the_configuration(make_text_config: Make, tmp_path: Path) -> None:
    config = make_text_config(
        trainer=["grpo"],
        kl=["token-forward"],
        prompts_per_step=2,
        updates_per_step=3,
        micro_batch=2,
        temperature=0.7,
    )
    trainer = build(config, arm(trainer="grpo", kl="token-forward"), tmp_path)
    assert isinstance(trainer, GRPOTrainer)
    args = trainer.args
    # 2 prompts of 6 responses: three updates of 4, each of two micro-batches.
    assert (args.per_device_train_batch_size, args.gradient_accumulation_steps) == (2, 2)
    assert (args.steps_per_generation, args.generation_batch_size, args.num_generations) == (6, 12, 6)
    assert (args.max_steps, args.logging_steps, args.save_steps) == (9, 3, 6)
    assert (args.beta, args.temperature, args.max_completion_length, args.seed) == (0.1, 0.7, 20, 4)
    assert (args.use_bias_correction_kl, args.scale_rewards) == (False, "none")
    assert args.learning_rate == 1e-3
    assert trainer.model.dtype == torch.float32


def test_scaled_rewards_are_the_group_s_in_grpo_and_the_batch_s_in_rloo(
    make_text_config: Make, tmp_path: Path
) -> None:
    config = make_text_config(trainer=["rloo", "grpo"], method=["vanilla"], scale_rewards=True)
    grpo = build(config, arm(trainer="grpo", method="vanilla"), tmp_path)
    assert grpo.args.scale_rewards == "group"
    assert grpo.args.use_bias_correction_kl is True
    rloo = build(config, arm(method="vanilla"), tmp_path)
    assert isinstance(rloo, RLOOTrainer)
    assert rloo.args.normalize_advantages is True


def test_the_settings_of_methods_reach_them(make_text_config: Make) -> None:
    of_tables = make_text_config(methods={"entropy": {"entropy": 0.3}, "unlikeliness": {"strength": 0.5}})
    of_the_last_version = make_text_config(entropy=0.3, unlikeliness=0.5)
    for make in (of_tables.methods.make, of_the_last_version.methods.make):
        assert make("vanilla") == Plain()
        assert make("ips") == IPS()
        assert make("entropy") == EntropyBonus(0.3)
        assert make("unlikeliness") == Unlikeliness(0.5)
        assert make("best_of_n") == BestOfN()
        assert make("mara") == MARA(threshold=0.5, level="outcomes")
        assert make("mara+entropy") == Then(MARA(threshold=0.5, level="outcomes"), EntropyBonus(0.3))
    other = make_text_config(
        mara={
            "threshold": {"batch_quantile": 0.9},
            "level": "strings",
            "anchor": "leave_one_out",
            "max_gap_bonus": 2.0,
        }
    )
    assert other.methods.make("mara") == MARA(
        threshold=BatchQuantile(0.9), anchor="leave_one_out", max_gap_bonus=2.0
    )


def test_a_step_s_row_counts_its_own_samples(make_text_config: Make, tmp_path: Path) -> None:
    config = make_text_config(prompts_per_step=2, updates_per_step=2)
    seen = []
    with RunFolder(tmp_path) as folder:
        train(config, OneTwo(), arm(), seed=0, model=config.model, folder=folder, on_step=seen.append)
        rows = folder.read_metrics()
    assert [row["step"] for row in rows] == [1, 2, 3] == [progress.step for progress in seen]
    for row, progress in zip(rows, seen, strict=True):
        valid = sum(row["counts"].values())
        assert set(row["counts"]) <= {"1", "2"}
        assert row["reward"] == pytest.approx(valid / 12, abs=1e-6)
        assert row["answers/valid"] == pytest.approx(valid / 12, abs=1e-6)
        assert row["reward"] == progress.reward
        assert not {"step_time", "epoch"} & set(row)
    assert {"transform/augmented", "transform/bonus_max", "kl", "learning_rate"} <= set(rows[0])
    times = [json.loads(line) for line in (tmp_path / "timing.jsonl").read_text().splitlines()]
    assert [row["step"] for row in times] == [1, 2, 3]


def test_a_run_goes_on_from_its_last_whole_checkpoint(make_text_config: Make, tmp_path: Path) -> None:
    task, config = OneTwo(), make_text_config(steps=4)

    def run(name: str, config: Any) -> Any:
        with RunFolder(tmp_path / name) as folder:
            trainer = train(
                config, task, arm(), seed=0, model=config.model, folder=folder, on_step=lambda _: None
            )
            return trainer.model.state_dict(), (folder.read_metrics(), samples(folder.path))

    weights, rows = run("whole", config)
    run("cut", config)
    cut = tmp_path / "cut" / "trainer"
    # As a kill leaves it: the last checkpoint half written, the rows beyond the one before.
    (cut / "checkpoint-4" / "trainer_state.json").unlink()
    (cut / "checkpoint-4" / "allmodes.json").unlink()
    (cut / "checkpoint-4").rename(cut / "checkpoint-3")
    run_two, _ = run("two", make_text_config(steps=2))
    del run_two
    (tmp_path / "two" / "trainer" / "checkpoint-2").rename(cut / "checkpoint-2")
    shutil.copy(tmp_path / "two" / "timing.jsonl", tmp_path / "cut" / "timing.jsonl")
    again, rows_again = run("cut", config)
    assert rows_again == rows
    assert all(torch.equal(value, again[name]) for name, value in weights.items())
    # And once more, with nothing left to do.
    finished, rows_finished = run("cut", config)
    assert rows_finished == rows
    assert all(torch.equal(value, finished[name]) for name, value in weights.items())
    # Killed before its first checkpoint, it begins anew.
    shutil.rmtree(cut)
    anew, rows_anew = run("cut", config)
    assert rows_anew == rows
    assert all(torch.equal(value, anew[name]) for name, value in weights.items())


def test_damage_to_a_checkpoint_or_a_log_is_one_line(make_text_config: Make, tmp_path: Path) -> None:
    """A flipped bit of the weights, or a lost row, made another run, and nobody was told."""
    task, config = OneTwo(), make_text_config(steps=2)

    run = tmp_path / "run"
    with RunFolder(run) as folder:
        train(config, task, arm(), seed=0, model=config.model, folder=folder, on_step=lambda _: None)
    checkpoint = last_checkpoint(run / "trainer")
    assert checkpoint == run / "trainer" / "checkpoint-2"

    def resume() -> None:
        with RunFolder(run) as folder:
            restore_logs(folder, last_checkpoint(run / "trainer"), step=2)

    inside = [file for file in checkpoint.iterdir() if file.is_file()]
    assert {"allmodes.json", "model.safetensors", "optimizer.pt", "trainer_state.json"} <= {
        file.name for file in inside
    }
    for file in [*inside, run / "metrics.jsonl", run / "samples.jsonl", run / "timing.jsonl"]:
        whole = file.read_bytes()
        middle = len(whole) // 2
        flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
        for other in (flipped, whole[:middle], b"", None):
            file.unlink()
            if other is not None:
                file.write_bytes(other)
            if file.name != "allmodes.json" or other is not None:  # without it, as an older version left it
                with pytest.raises(RunError, match=re.escape(file.name)) as caught:
                    resume()
                assert "\n" not in str(caught.value)
            file.write_bytes(whole)
    resume()  # as it was, it is gone on with


def test_a_checkpoint_without_checksums_is_said_to_be_unverified(
    make_text_config: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, checkpoint = RunFolder(tmp_path), tmp_path / "trainer" / "checkpoint-2"
    checkpoint.mkdir(parents=True)
    (checkpoint / "trainer_state.json").write_text("{}")
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n')
    assert last_checkpoint(tmp_path / "trainer") == checkpoint
    restore_logs(folder, checkpoint, step=2)
    assert "checkpoint-2: written by an older version without checksums" in capsys.readouterr().err
    assert [row["step"] for row in folder.read_metrics()] == [1, 2]


def samples(folder: Path) -> list[dict[str, Any]]:
    """The rows of a run's log for an audit."""
    return [json.loads(line) for line in (folder / "samples.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("level", ["outcomes", "strings"])
@pytest.mark.parametrize("trainer", ["rloo", "grpo"])
def test_every_sample_is_kept_for_an_audit(
    trainer: str, level: str, make_text_config: Make, tmp_path: Path
) -> None:
    config = make_text_config(
        trainer=[trainer], prompts_per_step=2, updates_per_step=2, mara={"level": level}
    )
    which, task = arm(trainer=trainer), OneTwo()

    def run(name: str, config: Any) -> Any:
        with RunFolder(tmp_path / name) as folder:
            made = train(
                config, task, which, seed=0, model=config.model, folder=folder, on_step=lambda _: None
            )
            return made.model.state_dict(), folder.read_metrics()

    weights, metrics = run("with", config)
    rows = samples(tmp_path / "with")
    assert [row["step"] for row in rows] == [0] * 12 + [2] * 12 + [4] * 12  # updates before
    for step, logged in enumerate(metrics):
        own = rows[12 * step : 12 * step + 12]
        assert sum(row["reward"] for row in own) / 12 == pytest.approx(logged["reward"], abs=1e-6)
        assert sum(row["truncated"] for row in own) / 12 == pytest.approx(logged["completions/clipped_ratio"])
        assert Counter(row["outcome"] for row in own if row["outcome"]) == logged["counts"]
    assert all(row["outcome"] == task.parse(row["response"]) for row in rows)
    assert all(row["prompt"] == [{"role": "user", "content": task.prompts[0]}] for row in rows)
    settings = json.loads((tmp_path / "with" / "audit.json").read_text())
    assert AuditConfig.model_validate(settings) == AuditConfig(
        trainer="trl",
        beta=0.1,
        kl="k1-in-reward",
        scale_rewards="none",
        transform="mara",
        settings={"level": "outcomes"} if level == "outcomes" else None,  # what is not the default
        threshold=0.5,
        group_size=6,
        max_tokens=20,
    )
    without, metrics_without = run("without", config.model_copy(update={"log_samples": False}))
    assert all(torch.equal(value, without[name]) for name, value in weights.items())
    assert metrics_without == metrics
    assert not list((tmp_path / "without").glob("*samples*"))
    assert not (tmp_path / "without" / "audit.json").exists()


def test_a_logged_probability_is_the_base_model_s(
    make_text_config: Make, one_two_model: Path, tmp_path: Path
) -> None:
    config = make_text_config(steps=1, group_size=12)
    with RunFolder(tmp_path) as folder:
        train(config, OneTwo(), arm(), seed=0, model=config.model, folder=folder, on_step=lambda _: None)
    model, tokenizer = load_model(str(one_two_model)), load_tokenizer(str(one_two_model))
    start = tokenizer.encode(chat_prompt(tokenizer, OneTwo.prompts[0]), add_special_tokens=False)
    checked = 0
    for row in samples(tmp_path):
        ids = tokenizer.encode(row["response"], add_special_tokens=False)
        ids += [] if row["truncated"] else [tokenizer.eos_token_id]
        if len(ids) == row["num_tokens"]:  # else the text was written with other tokens than it is read with
            expected = float(ids_logprobs(model, start, [ids], batch_size=1))
            assert (row["ref_logprob"], row["policy_logprob"]) == pytest.approx(
                (expected, expected), abs=1e-4
            )
            checked += 1
    assert checked > 3


def test_prompts_over_the_limit_are_left_out(make_text_config: Make, tmp_path: Path) -> None:
    assert len(build(make_text_config(max_prompt_tokens=200), arm(), tmp_path).train_dataset) == 1
    with pytest.raises(ConfigError, match=r"`max_prompt_tokens`: .* got 5 with prompts of \d+ to \d+ tokens"):
        build(make_text_config(max_prompt_tokens=5), arm(), tmp_path)


def test_other_settings_of_trl_get_there_and_none_twice(make_text_config: Make, tmp_path: Path) -> None:
    settings = make_settings(make_text_config(trl={"max_grad_norm": 0.3}), arm(), seed=0, out=tmp_path)
    assert (settings.max_grad_norm, settings.report_to) == (0.3, [])
    for trl, message in (
        ({"beta": 0.3}, r"`trl.beta`: expected a setting that no other key makes"),
        ({"betta": 0.3}, r"`trl`: expected settings of RLOOConfig; .*betta"),
        (
            {"report_to": ["nothing-of-this-name"]},
            r"`trl.report_to`: expected trackers that are installed, .*; got 'nothing",
        ),
        ({"optim": "none-such"}, r"`trl`: expected settings of RLOOConfig; .*none-such"),
    ):
        with pytest.raises(ConfigError, match=message):
            build(make_text_config(trl=trl), arm(), tmp_path)


class Unscorable(OneTwo):
    """The 1-2 task, with a reward model that has nothing to say on two calls of three."""

    def __init__(self) -> None:
        self.calls = 0

    def rewards(self, prompts: Sequence[str], responses: Sequence[str]) -> list[float | None]:
        self.calls += 1
        if self.calls % 3:
            return [None] * len(responses)
        return super().rewards(prompts, responses)


@pytest.mark.parametrize("trainer", ["rloo", "grpo"])
@pytest.mark.parametrize("method", [*METHODS, "mara+entropy", "ips+entropy"])
def test_every_method_trains_also_where_nothing_can_be_scored(
    trainer: str, method: str, make_text_config: Make, tmp_path: Path
) -> None:
    config = make_text_config(trainer=[trainer])
    seen: list[Any] = []
    with RunFolder(tmp_path) as folder:
        which = arm(trainer=trainer, method=method)
        task = Unscorable()
        trained = train(config, task, which, seed=0, model=config.model, folder=folder, on_step=seen.append)
        rows = folder.read_metrics()
    assert [row["reward"] is None for row in rows] == [True, True, False]
    assert [math.isnan(progress.reward) for progress in seen] == [True, True, False]
    assert all(torch.isfinite(weights).all() for weights in trained.model.parameters())
    before = load_model(config.model).state_dict()
    moved = any(not torch.equal(value, before[name]) for name, value in trained.model.state_dict().items())
    assert moved or method == "best_of_n"  # which learns nothing from two good samples of a group


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ({"prompts": "none.jsonl", "reward_model": "x"}, r"cannot load the model 'x'"),
        (
            {"prompts": "none.jsonl", "reward_model": "x", "embedder": "y"},
            r"cannot load the model 'x'|`task.embedder`",
        ),
    ],
)
def test_a_task_that_cannot_be_made_is_one_error(
    task: dict[str, Any], message: str, make_text_config: Make
) -> None:
    config = make_text_config(task={"kind": "creative", **task})
    with pytest.raises(ConfigError, match=message):
        config.task.make()


def test_samples_are_the_policy_s_own_and_leave_the_generator_alone(one_two_model: Path) -> None:
    """The first token's frequencies against its probabilities.

    At most 12 tokens, 5 standard errors each: a false alarm in a hundred thousand runs.
    """
    model, tokenizer = load_model(str(one_two_model)), load_tokenizer(str(one_two_model))
    model.generation_config.top_k, model.generation_config.top_p = 1, 0.1  # what a hub model may bring
    prompts = [OneTwo.prompts[0], "1"]
    torch.manual_seed(5)
    before = torch.get_rng_state()
    drawn = sample_responses(
        model, tokenizer, prompts, count=600, max_tokens=1, temperature=1.5, seed=2, batch_size=500
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert [len(texts) for texts in drawn] == [600, 600]
    again = sample_responses(
        model, tokenizer, prompts, count=600, max_tokens=1, temperature=1.5, seed=2, batch_size=500
    )
    assert again == drawn
    checked = 0
    for prompt, texts in zip(prompts, drawn, strict=True):
        ids = tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}], add_generation_prompt=True, return_dict=False
        )
        with torch.no_grad():
            p = (model(torch.tensor([ids])).logits[0, -1] / 1.5).softmax(0)
        by_text = Counter[str]()  # several tokens may read the same
        for token, probability in enumerate(p.tolist()):
            by_text[tokenizer.decode([token], skip_special_tokens=True)] += probability
        for text, probability in by_text.most_common(6):
            error = (probability * (1 - probability) / 600) ** 0.5
            assert texts.count(text) / 600 == pytest.approx(probability, abs=5 * error)
            checked += probability > 0.02
    assert checked >= 4
