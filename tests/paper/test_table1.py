"""Table 1: the paper's settings, the whole way with tiny models, and verdicts that come from the numbers."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("trl")

from allmodes.errors import ConfigError, RunError
from allmodes.metrics import ead, novelty_utility, semantic_diversity, welch_test
from allmodes.paper import mara_table1, table1_inputs
from allmodes.paper import table1 as module
from allmodes.paper.reproduction import PAPER as PAPER_SCALE
from allmodes.paper.reproduction import QUICK as QUICK_SCALE
from allmodes.paper.reproduction import Scale
from allmodes.paper.table1 import Figure, Table, table1
from allmodes.paper.table1_inputs import english_first_turns, prepare
from allmodes.paper.table1_settings import NAMES, PAPER, QUICK, TRAINED, Settings, text_config
from allmodes.runs.method_settings import BatchQuantileThreshold
from allmodes.tasks import RewardModel
from allmodes.text.evaluation.measures import stand_in_embeddings
from allmodes.text.models import load_tokenizer
from allmodes.text.stand_ins.made_up_answers import HELD_OUT, TRAINING, named
from allmodes.text.task_kinds.open_questions import make_judge

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

TINY = replace(QUICK, steps=4, seeds=(0,), prompts_per_step=2, group_size=3, generations=4, sampled_prompts=3)


def no_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def test_the_papers_settings_are_those_of_tables_3_and_4() -> None:
    for row in TRAINED:
        config = text_config(
            PAPER, row, model=PAPER.model, prompts=Path("training.jsonl"), reward_model=PAPER.reward_model
        )
        assert config.model == "Qwen/Qwen3-1.7B"
        assert config.task.kind == "creative"
        assert config.task.reward_model == "Skywork/Skywork-Reward-V2-Qwen3-4B"
        assert (config.prompts_per_step, config.group_size) == (128, 5)
        assert config.prompts_per_step // config.updates_per_step == 64
        assert (config.max_prompt_tokens, config.max_tokens) == (512, 2048)
        assert config.learning_rate == 1e-6
        assert config.gradient_checkpointing
        assert config.precision == "bfloat16"
        assert config.chat_template == {"enable_thinking": False}
        assert config.steps == 234  # three epochs of 10,000 prompts by 128
        assert config.methods.mara.level == ("strings" if row.quantile else "outcomes")
    assert PAPER.max_training_prompts == 10_000
    assert PAPER.other_reward_model == "Skywork/Skywork-Reward-Gemma-2-27B-v0.2"
    assert (PAPER.generations, PAPER.max_test_tokens) == (10, 4000)
    assert PAPER.judge is not None
    assert PAPER.judge.model == "yimingzhang/deberta-v3-large-generation-similarity"
    assert PAPER.embedder.endswith("all-MiniLM-L6-v2")


def test_rows_are_trained_as_the_paper_has_it() -> None:
    rows = {row.name: (row.trainer, row.kl, row.method, row.scale_rewards, row.quantile) for row in TRAINED}
    assert rows == {
        "GRPO": ("grpo", "reverse", "vanilla", True, None),
        "RLOO": ("rloo", "reverse", "vanilla", False, None),
        "Entropy": ("rloo", "reverse", "entropy", False, None),
        "Unlikely": ("rloo", "reverse", "unlikeliness", False, None),
        "BoN": ("rloo", "reverse", "best_of_n", False, None),
        "MARA (rev)": ("rloo", "reverse", "mara", False, 0.9),
        "MARA (fwd)": ("grpo", "token-forward", "mara", False, 0.9),
        "MARA (rev, .75)": ("rloo", "reverse", "mara", False, 0.75),
        "MARA (fwd, .75)": ("grpo", "token-forward", "mara", False, 0.75),
    }
    assert set(NAMES) == {*rows, "Base", "Ensemble"}
    assert QUICK.unlikeliness == 0.25


def test_scales_choose_settings() -> None:
    assert mara_table1.settings_of(PAPER_SCALE) == PAPER
    assert mara_table1.settings_of(QUICK_SCALE) == QUICK
    assert len(QUICK.seeds) == 2
    tiny = mara_table1.settings_of(Scale(name="test", seeds=1, steps=0.05, grid_steps=1))
    assert (tiny.steps, tiny.seeds) == (3, (0,))


def test_the_papers_scale_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALLMODES_TABLE1_WORK", str(tmp_path / "work"))
    no_accelerator(monkeypatch)
    with pytest.raises(ConfigError, match=r"Qwen/Qwen3-1\.7B, .*Gemma.*, .*deberta.*; got no accelerator"):
        mara_table1.reproduce(PAPER_SCALE, lambda _: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)

    def nothing(name: str, **_: Any) -> None:
        if "Qwen3-1.7B" not in name:
            raise OSError("not on the hub")

    monkeypatch.setattr(table1_inputs.AutoConfig, "from_pretrained", nothing)
    with pytest.raises(ConfigError, match=r"got no Skywork/Skywork-Reward-V2-Qwen3-4B, no Skywork/.*Gemma"):
        mara_table1.reproduce(PAPER_SCALE, lambda _: None)
    assert not (tmp_path / "work").exists()


def test_prompts_of_ones_own_need_no_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table1_inputs, "_is_there", lambda name: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    (tmp_path / "training.jsonl").write_text('{"prompt": "a"}\n')
    found = prepare(replace(PAPER, test_prompts=tmp_path / "mine.jsonl"), tmp_path, share=1)
    assert found.training_prompts == tmp_path / "training.jsonl"
    assert found.test_prompts == tmp_path / "mine.jsonl"
    with pytest.raises(ConfigError, match="expected all stand-ins or none"):
        table1(replace(QUICK, model="other"), tmp_path / "work")
    monkeypatch.setattr(table1_inputs, "_from_hub", lambda name, _, **__: [{"prompt": "x"}, {"prompt": "x"}])
    found = prepare(PAPER, tmp_path, share=1)
    assert found.test_prompts.read_text() == '{"prompt": "x"}\n'


def test_wildchats_first_turns_in_english() -> None:
    def chat(prompt: str, language: str = "English", role: str = "user") -> dict[str, Any]:
        return {"language": language, "conversation": [{"role": role, "content": prompt}, {}]}

    chats = [
        chat("a"), chat("b", "French"), chat("a"), chat("too long"), chat(" "), chat("c"),
        chat("d", role="assistant"), {"language": "English", "conversation": []}, chat("e"), chat("f"),
    ]  # fmt: skip
    assert english_first_turns(chats, lambda prompt: len(prompt) < 3, count=3) == ["a", "c", "e"]
    assert english_first_turns(chats, lambda prompt: True, count=9) == ["a", "too long", "c", "e", "f"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Table, list[dict[str, Any]]]:
    """A table with tiny models, and what each training was called with."""
    folder = tmp_path_factory.mktemp("table1")
    calls: list[dict[str, Any]] = []
    real = module.train

    def spy(config: Any, task: Any, arm: Any, **rest: Any) -> Any:
        calls.append({"config": config, "task": task, "arm": arm, **rest})
        return real(config, task, arm, **rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "train", spy)
        steps: list[int] = []
        table = table1(TINY, folder, share=0.02, advance=steps.append)
    assert sum(steps) == 9 * 4
    return folder, table, calls


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_every_row_is_trained_with_its_own_settings(finished: Any) -> None:
    folder, _, calls = finished
    assert len(calls) == len(TRAINED)
    for row, call in zip(TRAINED, calls, strict=True):
        config, arm = call["config"], call["arm"]
        assert (arm.trainer, arm.kl, arm.method, arm.beta) == (row.trainer, row.kl, row.method, QUICK.beta)
        assert config.scale_rewards == row.scale_rewards
        if row.quantile is not None:
            assert config.methods.mara.threshold == BatchQuantileThreshold(batch_quantile=row.quantile)
            assert config.methods.mara.level == "strings"
        assert call["keep_checkpoints"] == (row.name == "RLOO")
        assert tuple(call["task"].prompts) == TRAINING
        base = call["model"]
        assert base == str(folder / "stand-ins" / "base")


def test_unlikely_alone_counts_rewards_from_the_base_models_lowest(finished: Any) -> None:
    folder, _, calls = finished
    lowest = min(
        r for row in read(folder / "Base-0" / "samples.json")["rewards"] for r in row if r is not None
    )
    texts = ["Fig.", "Mango, I like it.", ""]
    plain = RewardModel(folder / "stand-ins" / "reward-model").scores([TRAINING[0]] * 3, texts)
    for row, call in zip(TRAINED, calls, strict=True):
        found = call["task"].rewards([TRAINING[0]] * 3, texts)
        floor = lowest if row.method == "unlikeliness" else None
        expected = [score if score is None or floor is None else max(score - floor, 0) for score in plain]
        assert found[2] is None
        assert found[:2] == pytest.approx(expected[:2], abs=1e-5)

    class Fixed:
        def scores(self, prompts: Any, responses: Any) -> list[float | None]:
            return [-3.0, -1.0, 2.0, None]

    assert module._Floored(Fixed(), -1.5).scores([], []) == [0.0, 0.5, 3.5, None]


def test_the_ensemble_is_the_mean_of_rloos_first_and_last_checkpoint(finished: Any) -> None:
    from safetensors.torch import load_file

    folder, _, _ = finished
    checkpoints = folder / "RLOO-0" / "trainer"
    assert {path.name for path in checkpoints.glob("checkpoint-*")} == {
        f"checkpoint-{n}" for n in (1, 2, 3, 4)
    }
    early, late, mean = (
        load_file(path / "model.safetensors")
        for path in (
            checkpoints / "checkpoint-1",
            checkpoints / "checkpoint-4",
            folder / "Ensemble-0" / "model",
        )
    )
    name = "model.layers.0.mlp.up_proj.weight"
    assert not torch.equal(early[name], late[name])
    for key in mean:
        torch.testing.assert_close(mean[key], (early[key] + late[key]) / 2)


def test_the_figures_follow_from_the_samples(finished: Any) -> None:
    folder, table, _ = finished
    tokenizer = load_tokenizer(str(folder / "stand-ins" / "base"))
    judge = RewardModel(folder / "stand-ins" / "other-reward-model")
    trainer_judge = RewardModel(folder / "stand-ins" / "reward-model")
    for name in ("Base", "MARA (fwd)", "Ensemble"):
        slug = {"Base": "Base", "MARA (fwd)": "MARA-fwd", "Ensemble": "Ensemble"}[name]
        samples = read(folder / f"{slug}-0" / "samples.json")
        assert [row["prompt"] for row in samples["test"]] == list(HELD_OUT)
        assert [row["prompt"] for row in samples["training"]] == list(TRAINING[:3])
        assert all(len(row["responses"]) == 4 for row in samples["test"])
        in_dist = [trainer_judge.scores([row["prompt"]] * 4, row["responses"]) for row in samples["training"]]
        for scores, found in zip(in_dist, samples["rewards"], strict=True):
            assert found == pytest.approx(scores, abs=1e-4)
        expected: dict[str, list[float]] = {metric: [] for metric in module.METRICS}
        expected["in_dist_reward"] = [sum(row) / 4 for row in in_dist if None not in row]  # pyright: ignore
        for row in samples["test"]:
            texts = row["responses"]
            scores = judge.scores([row["prompt"]] * 4, texts)
            known = [score for score in scores if score is not None]
            expected["out_dist_reward"].append(sum(known) / len(known))
            tokens = [tokenizer.encode(text, add_special_tokens=False) for text in texts]
            expected["ead"].append(ead(tokens, vocabulary_size=50257))
            expected["semantic_diversity"].append(semantic_diversity(stand_in_embeddings(texts)))
            classes = [named(text) or text for text in texts]
            expected["distinct_classes"].append(len(set(classes)))
            pairs = [(c, s) for c, s in zip(classes, scores, strict=True) if s is not None]
            expected["utility"].append(novelty_utility([c for c, _ in pairs], [s for _, s in pairs]))
        for metric, values in expected.items():
            figure = table.rows[name][metric]
            assert figure.prompts == pytest.approx(values, abs=1e-4)
            assert figure.mean == pytest.approx(sum(values) / len(values), abs=1e-4)
            assert figure.seeds == pytest.approx([figure.mean])
            spread = torch.tensor(values, dtype=torch.float64).std(correction=0) / len(values) ** 0.5
            assert figure.sem == pytest.approx(float(spread), rel=0.15, abs=1e-4)
    assert table.embedder == "stand-in"
    assert table.p_greater("GRPO", "Base", "ead") == pytest.approx(
        welch_test(table.rows["GRPO"]["ead"].prompts, table.rows["Base"]["ead"].prompts)
    )


def test_what_is_done_is_not_done_again(finished: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, table, _ = finished
    (folder / "Entropy-0" / "samples.json").unlink()
    (folder / "Entropy-0" / "result.json").unlink()
    (folder / "BoN-0" / "result.json").unlink()
    trained: list[str] = []
    real = module.train
    steps: list[int] = []

    def spy(config: Any, task: Any, arm: Any, **rest: Any) -> Any:
        trained.append(arm.method)
        return real(config, task, arm, **rest)

    monkeypatch.setattr(module, "train", spy)
    again = table1(TINY, folder, share=0.02, advance=steps.append)
    assert trained == ["entropy"]
    assert steps == []  # from its last checkpoint: nothing was left to train
    assert again == table
    with pytest.raises(RunError, match=r"`beta`: expected 0\.1; got 0\.2"):
        table1(replace(TINY, beta=0.2), folder, share=0.02)


def figure(mean: float) -> Figure:
    return Figure(mean=mean, sem=0.1, prompts=(mean - 0.1, mean, mean + 0.1), seeds=(mean,))


def made_up(**changes: dict[str, float]) -> Table:
    """The paper's own table, but for changes."""
    metrics = ("in_dist_reward", "out_dist_reward", "ead", "semantic_diversity", "distinct_classes")
    paper = {
        "Base": (10.94, 1.166, 0.413, 0.220, 4.01),
        "GRPO": (14.80, 1.317, 0.497, 0.193, 3.96),
        "RLOO": (15.56, 1.280, 0.514, 0.192, 3.88),
        "Entropy": (1.44, 0.786, 0.267, 0.228, 3.45),
        "Unlikely": (10.04, 1.381, 0.532, 0.191, 4.24),
        "BoN": (16.88, 0.596, 0.541, 0.162, 2.29),
        "Ensemble": (0.0, 1.143, 0.438, 0.211, 4.19),
        "MARA (rev)": (15.42, 1.451, 0.543, 0.186, 4.14),
        "MARA (fwd)": (15.33, 1.604, 0.568, 0.193, 4.62),
        "MARA (rev, .75)": (0.0, 1.498, 0.547, 0.183, 4.41),
        "MARA (fwd, .75)": (0.0, 1.325, 0.508, 0.196, 4.07),
    }
    rows = {
        name: {
            metric: figure(changes.get(name, {}).get(metric, value))
            for metric, value in zip(metrics, values, strict=True)
        }
        | {"utility": figure(1.0)}
        for name, values in paper.items()
    }
    return Table(
        rows=rows,
        unscored=dict.fromkeys(rows, 0.0),
        embedder="stand-in",
        stand_ins={"parameters": 1.0},
    )


def judged(table: Table, settings: Settings = QUICK) -> list[str]:
    return [entry.holds for entry in mara_table1.judge(table, settings)]


def test_the_papers_own_numbers_bear_its_claims_out() -> None:
    # But for Table 5, where the reverse KL does better with the lower threshold in three of four metrics.
    assert judged(made_up()) == ["yes", "yes", "yes", "yes", "yes", "yes", "partly"]
    said = [entry.measured for entry in mara_table1.judge(made_up(), QUICK)]
    assert all(text.startswith("stand-ins: ") for text in said)
    assert "MARA (rev) 1.451 ± 0.100, MARA (fwd) 1.604 ± 0.100; best baseline Unlikely 1.381" in said[0]
    assert "better in 4 of 8" in said[6]
    assert not any("stand-in" in entry.measured for entry in mara_table1.judge(made_up(), PAPER))


@pytest.mark.parametrize(
    ("place", "changes", "holds"),
    [
        (0, {"GRPO": {"out_dist_reward": 1.5}}, "partly"),
        (0, {"Ensemble": {"out_dist_reward": 1.7}}, "no"),
        (1, {"RLOO": {"ead": 0.55}}, "partly"),
        (1, {"RLOO": {"ead": 0.6}, "GRPO": {"ead": 0.6}}, "no"),
        (2, {"GRPO": {"distinct_classes": 5.0}}, "partly"),
        (3, {"Base": {"ead": 0.9}}, "partly"),
        (3, {"Base": {"ead": 0.9, "distinct_classes": 9.0}}, "no"),
        (4, {"Entropy": {"out_dist_reward": 1.2}}, "partly"),
        (4, {"Entropy": {"out_dist_reward": 1.4}}, "no"),
        (5, {"BoN": {"distinct_classes": 4.0}}, "partly"),
        (5, {"BoN": {"in_dist_reward": 1.0, "distinct_classes": 4.0, "out_dist_reward": 2.0}}, "no"),
    ],
)
def test_verdicts_come_from_the_numbers(place: int, changes: Any, holds: str) -> None:
    assert judged(made_up(**changes))[place] == holds


def test_the_table_is_written_out(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(module, "table1", lambda *_, **__: made_up())
    result = mara_table1.reproduce(QUICK_SCALE, lambda _: None)
    page = result.notes[-1]
    assert "| MARA (fwd) | 15.330 ± 0.100 | 1.604 ± 0.100 | 0.568 ± 0.100 |" in page
    assert all(f"| {name} |" in page for name in NAMES)
    numbers = result.numbers
    assert numbers["rows"]["BoN"]["out_dist_reward"]["mean"] == 0.596
    assert set(numbers["p_greater"]["MARA (fwd)"]) == {"RLOO", "GRPO"}
    assert numbers["p_greater"]["RLOO"]["GRPO"]["ead"] == pytest.approx(
        1 - numbers["p_greater"]["GRPO"]["RLOO"]["ead"]
    )
    assert "RLOO has no forward KL" in " ".join(result.notes)
    assert len(result.figure.axes) == 3


def test_means_over_seeds_and_prompts_by_hand() -> None:
    found = module._figure([[1.0, None, 3.0], [3.0, None, 4.0]])
    assert found.prompts == (2.0, 3.5)
    assert found.mean == 2.75
    assert found.seeds == (2.0, 3.5)
    nothing = module._figure([[None], [None]])
    assert math.isnan(nothing.mean)
    assert nothing.prompts == ()


def test_without_a_judge_stand_ins_have_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    class Task:
        def same(self, first: str, second: str) -> bool:
            return True

    task: Any = Task()
    assert make_judge(QUICK.judge) is None
    assert not table1_inputs.sameness(QUICK, task)("Maybe fig.", "Maybe plum.")
    assert table1_inputs.sameness(QUICK, task)("Maybe fig.", "Surely fig.")
    assert table1_inputs.sameness(PAPER, task)("Maybe fig.", "Maybe plum.")
    assert table1_inputs.sameness(replace(QUICK, judge=PAPER.judge), task)("Maybe fig.", "Maybe plum.")
    monkeypatch.setattr(table1_inputs, "load_embedder", lambda name: "not installed")
    assert table1_inputs.find_embedder(PAPER, PAPER.embedder) == (stand_in_embeddings, "stand-in")
    monkeypatch.setattr(table1_inputs, "load_embedder", lambda name: len)
    assert table1_inputs.find_embedder(PAPER, PAPER.embedder) == (len, PAPER.embedder)
