"""A log backfilled by a model from disk: language models and policies over SMILES, chosen by name."""

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("transformers")

from allmodes.audit.audit import audit_source
from allmodes.audit.config import AuditConfig
from allmodes.audit.logs.backfill import BackfilledSource, Column
from allmodes.audit.logs.formats import map_columns
from allmodes.audit.logs.log import read_log
from allmodes.audit.logs.reading import merged_row
from allmodes.audit.logs.sources import RecordSource
from allmodes.chem.policies.policy import load_policy, save_policy
from allmodes.chem.policies.prior import shipped_prior
from allmodes.chem.policies.smiles_logprobs import smiles_logprobs
from allmodes.errors import ConfigError, InputError, RunError
from allmodes.text import backfill as module
from allmodes.text.backfill import backfill_log
from allmodes.text.likelihood import sequence_logprobs
from allmodes.text.models import load_model, load_tokenizer
from allmodes.text.stand_ins.tiny import tiny_language_model, tiny_tokenizer

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tokenizer = tiny_tokenizer(["user assistant hello banana band"] * 9, vocabulary_size=280)
    tiny_language_model(tokenizer, seed=1, width=16, spread=0.3).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def backfilled(
    rows: list[dict[str, Any]], folder: Path, model: Path | str, **changes: Any
) -> BackfilledSource:
    settings: dict[str, Any] = {"column": "ref_logprob", "prompts": "auto", "max_tokens": None, **changes}
    source = RecordSource(list(rows))
    return backfill_log(source, map_columns(merged_row(source)), model=str(model), folder=folder, **settings)


def values(source: BackfilledSource, name: str = "ref_logprob") -> list[Any]:
    return [row[name] for _, row in source.rows(advance=lambda read: None) if isinstance(row, dict)]


ROWS = [
    {"prompt": prompt, "response": f"{word} {word}" if i % 2 else word, "reward": float(i % 2)}
    for prompt in ("hello", "band")
    for i, word in enumerate(("banana", "hello", "band", "user", "ban", "and"))
]


def test_a_language_model_from_a_folder(model: Path, tmp_path: Path) -> None:
    found = backfilled(ROWS, tmp_path, model)
    language_model, tokenizer = load_model(str(model)), load_tokenizer(str(model))
    expected = [
        float(sequence_logprobs(language_model, tokenizer, str(row["prompt"]), [str(row["response"])]))
        for row in ROWS
    ]
    assert values(found) == pytest.approx(expected, abs=1e-5)
    assert (found.computed, found.failed, found.as_they_stand) == (12, 0, 0)
    head = json.loads((tmp_path / "ref_logprobs.jsonl").read_text().splitlines()[0])
    assert head["model"].startswith("tiny ")
    assert (head["column"], head["prompts"], head["max_tokens"]) == ("ref_logprob", "auto", "None")


def test_an_audit_has_what_it_lacked(model: Path, tmp_path: Path) -> None:
    rows = [{**row, "response": f"{row['response']} {i}"} for i in range(5) for row in ROWS]
    source = RecordSource(list(rows))
    mapped = map_columns(rows[0])
    assert audit_source(source, mapped, AuditConfig(beta=0.1)).of("AM011").state == "skipped"
    found = backfilled(rows, tmp_path, model)
    both = backfill_log(
        found, mapped, model=str(model), column="policy_logprob", folder=tmp_path, prompts="auto",
        max_tokens=None,
    )  # fmt: skip
    audit = audit_source(both, map_columns(merged_row(both), columns=both.columns), AuditConfig(beta=0.1))
    assert audit.of("AM011").state in ("issue", "tip", "passed")
    assert audit.log.ref_logprobs is not None
    assert audit.log.policy_logprobs is not None
    assert audit.log.ref_logprobs.tolist() == audit.log.policy_logprobs.tolist()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["policy_logprobs.jsonl", "ref_logprobs.jsonl"]


def test_prompts_of_a_log_that_decodes_are_recovered(model: Path, tmp_path: Path) -> None:
    texts = ["user\nhello\nassistant\n", "hello", [{"role": "user", "content": "hello"}]]
    rows = [{"prompt": text, "completion": "band", "advantage": 0.0} for text in texts]
    decoded, plain, messages = values(backfilled(rows, tmp_path / "a", model))
    assert backfilled(rows, tmp_path / "a", model).as_they_stand == 1
    assert decoded == pytest.approx(messages, abs=1e-5)
    assert abs(decoded - plain) > 0.01
    as_chat = values(backfilled(rows, tmp_path / "b", model, prompts="chat"))
    assert as_chat[1] == pytest.approx(messages, abs=1e-5)
    ours = [{"prompt": text, "response": "band"} for text in texts]
    found = backfilled(ours, tmp_path / "c", model)
    assert values(found) == pytest.approx(as_chat, abs=1e-5)
    assert found.as_they_stand == 0


def test_a_tokenizer_without_a_template(model: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(model, base)
    (base / "chat_template.jinja").unlink()
    found = backfilled(ROWS, tmp_path / "auto", base)
    assert values(found) == values(backfilled(ROWS, tmp_path / "text", model, prompts="text"))
    with pytest.raises(ConfigError, match="expected a tokenizer with a chat template"):
        backfilled(ROWS, tmp_path / "chat", base, prompts="chat")


def test_the_limit_of_a_response(model: Path, tmp_path: Path) -> None:
    rows = [{"response": "banana hello banana"}]
    with_end, without = (
        backfilled(rows, tmp_path / "a", model),
        backfilled(rows, tmp_path / "b", model, max_tokens=2),
    )
    assert values(with_end, "num_tokens")[0] == values(without, "num_tokens")[0] + 1


def test_a_finished_computation_loads_no_model(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "tiny"
    shutil.copytree(model, copy)
    first = values(backfilled(ROWS, tmp_path, copy))
    monkeypatch.setattr("allmodes.text.models.load_model", lambda name: 1 / 0)
    assert values(backfilled(ROWS, tmp_path, copy)) == first
    moved = tmp_path / "elsewhere" / "tiny"
    shutil.copytree(copy, moved)
    assert values(backfilled(ROWS, tmp_path, moved)) == first
    for changes in ({"prompts": "text"}, {"max_tokens": 9}):
        with pytest.raises(InputError, match=f"another `{next(iter(changes))}`.*; got"):
            backfilled(ROWS, tmp_path, copy, **changes)


@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json", "chat_template.jinja"])
def test_a_model_that_was_trained_on_is_another(file: str, model: Path, tmp_path: Path) -> None:
    copy = tmp_path / "tiny"
    shutil.copytree(model, copy)
    backfilled(ROWS, tmp_path, copy)
    (copy / "notes.txt").write_text("something new")
    backfilled(ROWS, tmp_path, copy)
    content = bytearray((copy / file).read_bytes())
    content[-1] ^= 1
    (copy / file).write_bytes(content)
    with pytest.raises(
        InputError, match=r"another `model`: expected 'tiny .*'; got 'tiny .*': choose another"
    ):
        backfilled(ROWS, tmp_path, copy)


def test_a_models_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").symlink_to(tmp_path / "gone")
    with pytest.raises(ConfigError, match=r"^`model`: cannot read .*model\.safetensors: No such file"):
        backfilled(ROWS, tmp_path / "out", tmp_path)


def test_long_files_are_read_in_pieces(tmp_path: Path) -> None:
    path = tmp_path / "long.safetensors"
    path.write_bytes(bytes(9 << 20))
    first = module._fingerprint(path)
    with open(path, "r+b") as handle:
        handle.seek(1 << 19)
        handle.write(b"x" * (9 << 14))  # one piece in 64 of the file begins in it
    assert module._fingerprint(path) != first


SMILES = ["CCO", "c1ccccc1", "CCO", "not a molecule", "CC(=O)Oc1ccccc1C(=O)O"]


@pytest.mark.parametrize("name", ["lstm", "zinc250k-lstm", "a file"])
def test_a_policy_over_smiles(name: str, tmp_path: Path) -> None:
    if not shipped_prior().is_file():
        pytest.skip("no LSTM is shipped")
    policy, tokenizer = load_policy(shipped_prior())
    if name == "a file":
        name = str(tmp_path / "own.safetensors")
        save_policy(Path(name), policy, tokenizer)
    rows = [{"response": text, "truncated": i == 2} for i, text in enumerate(SMILES)]
    found = backfilled(rows, tmp_path, name, column="policy_logprob")
    expected = smiles_logprobs(policy, tokenizer, SMILES, is_whole=[True, True, False, True, True])
    for value, tokens, one in zip(
        values(found, "policy_logprob"), values(found, "num_tokens"), expected, strict=True
    ):
        assert (value, tokens) == ((None, None) if one is None else (pytest.approx(one[0], abs=1e-4), one[1]))
    assert (found.computed, found.failed) == (4, 1)
    log = read_log(found, map_columns(merged_row(found), columns=found.columns).convert)
    assert log.policy_logprobs is not None


def test_a_policy_over_smiles_needs_no_language_model(tmp_path: Path) -> None:
    """In a process of its own, where the package cannot be imported."""
    if not shipped_prior().is_file():
        pytest.skip("no LSTM is shipped")
    code = f"""
import sys
sys.modules["transformers"] = None
from pathlib import Path
from allmodes.audit.logs.formats import map_columns
from allmodes.audit.logs.sources import RecordSource
from allmodes.text.backfill import backfill_log
rows = [{{"response": "CCO"}}]
found = backfill_log(RecordSource(rows), map_columns(rows[0]), model="lstm", column="ref_logprob",
    folder=Path({str(tmp_path)!r}), prompts="auto", max_tokens=None)
assert found.computed == 1
assert not {{"rdkit", "trl", "peft"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("column", ["ref_logprob", "policy_logprob"])
def test_what_cannot_be_loaded(column: Column, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        ConfigError, match=r"^`model`: expected a tokenizer by Hugging Face name, folder or \.gguf file; got"
    ):
        backfilled(ROWS, tmp_path, tmp_path / "none", column=column)
    with pytest.raises(ConfigError, match=r"^`model`: expected a policy file; got"):
        backfilled(ROWS, tmp_path, "none.safetensors", column=column)
    broken = tmp_path / "broken.safetensors"
    broken.touch()
    with pytest.raises(RunError, match=r"^cannot read .*broken\.safetensors: expected a safetensors file"):
        backfilled(ROWS, tmp_path / "out", broken, column=column)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        InputError, match=r"^language models need `.*pip install .*\[text\].*`; transformers is"
    ):
        backfilled(ROWS, tmp_path, "Qwen/Qwen3-0.6B", column=column)
