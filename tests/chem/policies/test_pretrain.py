import gzip
import itertools
import json
import math
import shutil
import signal
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import torch
from rdkit import Chem

from allmodes.chem.molecule_file import Rejected
from allmodes.chem.molecules import canonical_smiles
from allmodes.chem.policies.policy import RecurrentPolicy, load_policy, pad_tokens
from allmodes.chem.policies.pretrain import (
    BATCHES_PER_POOL,
    PretrainSettings,
    learning_rate_at,
    length_batches,
    mean_nll,
    pretrain,
    read_smiles,
    sample_quality,
)
from allmodes.chem.policies.tokenizer import split_smiles
from allmodes.errors import InputError, RunError
from interruption import interrupted_after
from processes import start_command

MakePolicy = Callable[..., RecurrentPolicy]


def settings(**changes: Any) -> PretrainSettings:
    values: dict[str, Any] = {
        "cell": "gru",
        "hidden_size": 16,
        "num_layers": 1,
        "embedding_size": 8,
        "epochs": 2,
        "batch_size": 8,
        "learning_rate": 1e-2,
        "validation_fraction": 0.1,
        "max_tokens": 100,
        "seed": 0,
        "precision": "float32",
        "checkpoint_every": 5,
        "num_samples": 20,
    }
    return PretrainSettings(**{**values, **changes})


def mamba_settings(**changes: Any) -> PretrainSettings:
    return settings(**{"cell": "mamba", "embedding_size": None, "state_size": 4, **changes})


def read_rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


MESSY = (
    b"OCC ethanol\n"
    b"CCO again, other spelling\n"
    b"\n"
    b"not_a_molecule\n"
    b"   \t \n"
    b"C(\r\n"
    b"c1ccccc1\tbenzene\t12.5\r\n"
    b"C\xff\xfeC\n"
    b"CCCCCCCCCCCC too long\n"
    b"  CBr  \n"
    b"CN |no extension of RDKit's\n"
    b"C[C@H](N)C(=O)O"
)


@pytest.mark.parametrize("compressed", [False, True])
def test_malformed_lines_are_rejected_by_number_and_the_rest_is_read(
    compressed: bool,
    tmp_path: Path,
) -> None:
    path = tmp_path / ("data.smi.gz" if compressed else "data.smi")
    path.write_bytes(gzip.compress(MESSY) if compressed else MESSY)
    kept, rejected = read_smiles(path, max_tokens=11)
    assert kept == ["CCO", "c1ccccc1", "CBr", "CN", "C[C@H](N)C(=O)O"]
    assert [row.line for row in rejected] == [3, 4, 5, 6, 8, 9]
    reasons = {row.line: row.reason for row in rejected}
    assert reasons[3] == reasons[5] == "no SMILES"
    assert "RDKit" in reasons[4]
    assert "12 tokens" in reasons[9]
    assert "11" in reasons[9]
    assert rejected[1].text == "not_a_molecule"


def test_length_is_counted_in_tokens_of_the_canonical_spelling(tmp_path: Path) -> None:
    path = tmp_path / "data.smi"
    path.write_text("[CH3][CH2]Br\n")
    assert read_smiles(path, max_tokens=3) == (["CCBr"], [])
    with pytest.raises(InputError):
        read_smiles(path, max_tokens=2)


def test_tables_and_sdf_are_read_as_what_they_are(tmp_path: Path) -> None:
    table = tmp_path / "chembl.csv"
    table.write_text('"ChEMBL ID";"Smiles";"Name"\r\n"C";"OCC";"CN"\r\n"CN";"";"N"\r\n')
    assert read_smiles(table, max_tokens=9) == (["CCO"], [Rejected(line=3, text="", reason="no SMILES")])
    block = Chem.MolToMolBlock(Chem.MolFromSmiles("CCO"))
    sdf = tmp_path / "a.sdf"
    sdf.write_text(block + "> <formula>\nC\n\n> <salt>\nCN\n\n$$$$\n" + block + "$$$$\n")
    assert read_smiles(sdf, max_tokens=9) == (["CCO"], [])
    huge = tmp_path / "huge.smi"
    huge.write_text("C" * 20_000 + "\nCCO\n")
    kept, (row,) = read_smiles(huge, max_tokens=9)
    assert (kept, row.line, row.reason) == (["CCO"], 1, "20,000 characters, more than 4,000")


def _truncated(tmp_path: Path) -> Path:
    path = tmp_path / "data.smi.gz"
    path.write_bytes(gzip.compress(b"".join(b"C" * n + b"\n" for n in range(1, 200)))[:-20])
    return path


def _corrupt(tmp_path: Path) -> Path:
    path = tmp_path / "data.smi.gz"
    whole = bytearray(gzip.compress(b"".join(b"C" * n + b"O\n" for n in range(1, 200))))
    whole[10:14] = b"\xff\xff\xff\xff"  # the first bytes after the header
    path.write_bytes(whole)
    return path


def _no_gzip(tmp_path: Path) -> Path:
    path = tmp_path / "data.smi.gz"
    path.write_text("CCO\n")
    return path


def _text(text: str) -> Callable[[Path], Path]:
    def write(tmp_path: Path) -> Path:
        path = tmp_path / "data.smi"
        path.write_text(text)
        return path

    return write


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(_truncated, id="truncated gzip"),
        pytest.param(_corrupt, id="corrupt gzip"),
        pytest.param(_no_gzip, id="text named .gz"),
        pytest.param(_text(""), id="empty"),
        pytest.param(_text("smiles\nxyz\n"), id="no molecule"),
        pytest.param(lambda tmp_path: tmp_path / "missing.smi", id="missing"),
        pytest.param(lambda tmp_path: tmp_path / "missing.smi.gz", id="missing gzip"),
        pytest.param(lambda tmp_path: tmp_path, id="folder"),
    ],
)
def test_unreadable_files(make: Callable[[Path], Path], tmp_path: Path) -> None:
    path = make(tmp_path)
    with pytest.raises(InputError) as caught:
        read_smiles(path, max_tokens=100)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("count", [1, 7, 8, 9, 400, 1000])
def test_length_batches_cover_each_index_once(count: int) -> None:
    lengths = torch.randint(1, 60, (count,), generator=torch.Generator().manual_seed(1)).tolist()
    batches = list(length_batches(lengths, batch_size=8, generator=torch.Generator().manual_seed(2)))
    assert sorted(index for batch in batches for index in batch) == list(range(count))
    assert all(1 <= len(batch) <= 8 for batch in batches)


def test_length_batches_hold_like_lengths_and_come_in_random_order() -> None:
    count = 8 * BATCHES_PER_POOL  # one pool
    lengths = torch.randint(1, 60, (count,), generator=torch.Generator().manual_seed(1)).tolist()

    def draw(seed: int) -> list[list[int]]:
        return list(length_batches(lengths, batch_size=8, generator=torch.Generator().manual_seed(seed)))

    ranges = [(min(lengths[i] for i in batch), max(lengths[i] for i in batch)) for batch in draw(2)]
    in_order = sorted(ranges)
    assert all(one[1] <= two[0] for one, two in itertools.pairwise(in_order))
    assert ranges != in_order  # short batches would otherwise always come first
    assert draw(2) == draw(2)
    assert draw(2) != draw(3)


def test_learning_rate_schedule() -> None:
    total, peak = 1000, 0.5  # 2 % of the steps are 20
    rates = [learning_rate_at(step, total, peak) for step in range(total)]
    assert rates[0] == pytest.approx(peak / 20)
    assert rates[9] == pytest.approx(peak / 2)
    assert rates[19] == pytest.approx(peak)
    assert rates[20] == pytest.approx(peak)
    assert rates[510] == pytest.approx(peak / 2)  # halfway between 20 and 1000
    assert max(rates) == pytest.approx(peak)
    assert all(one >= two for one, two in itertools.pairwise(rates[20:]))
    assert 0 < rates[-1] < 1e-5
    assert learning_rate_at(0, 1, peak) == peak


def test_mean_nll_is_that_of_single_sequences(make_policy: MakePolicy) -> None:
    policy = make_policy(6, cell="lstm", seed=1, scale=2.0)
    sequences = [[3, 2], [4, 5, 3, 3, 3, 2], [2], [5, 2], [3, 3, 2]]
    singly = [-float(policy.logprobs(torch.tensor([ids])).detach()) for ids in sequences]
    for batch_size in (1, 2, 100):
        assert mean_nll(policy, sequences, batch_size) == pytest.approx(sum(singly) / 5, abs=1e-5)


def test_sample_quality_counts(tiny_prior: Path) -> None:
    """Of 700 chains: the empty and the unfinished are invalid; known ones are not novel."""
    policy, tokenizer = load_policy(tiny_prior)
    known = {"C", "N", "CC"}
    got = sample_quality(policy, tokenizer, known=known, count=700, max_length=6, seed=3)

    generator = torch.Generator().manual_seed(3)
    texts = []
    for count in (500, 200):  # drawn in parts of 500
        samples = policy.sample(count, max_length=6, generator=generator)
        rows = zip(samples.tokens.tolist(), samples.finished.tolist(), strict=True)
        texts += [tokenizer.decode(ids) if finished else "" for ids, finished in rows]
    valid = [canonical_smiles(text) for text in texts if text]
    assert 0 < texts.count("") < 700
    assert got == {
        "samples": 700,
        "validity": pytest.approx(len(valid) / 700),
        "uniqueness": pytest.approx(len(set(valid)) / len(valid)),
        "novelty": pytest.approx(len(set(valid) - known) / len(set(valid))),
    }


def test_a_policy_that_writes_nothing_valid_has_quality_zero(tiny_prior: Path) -> None:
    policy, tokenizer = load_policy(tiny_prior)
    with torch.no_grad():
        policy.head.bias[0] = 50.0  # always the empty string
    got = sample_quality(policy, tokenizer, known=set(), count=10, max_length=6, seed=3)
    assert (got["validity"], got["uniqueness"], got["novelty"]) == (0, 0, 0)


@pytest.fixture(scope="module")
def finished(molecules_file: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A finished run on the own molecules and three bad lines."""
    folder = tmp_path_factory.mktemp("pretrained")
    data = folder / "data.smi"
    data.write_bytes(molecules_file.read_bytes() + b"junk\tname\n\n" + b"C" * 101 + b"\n")
    return folder, pretrain(data, folder / "run", settings(epochs=12, max_tokens=60))


def test_training_lowers_the_nll(finished: tuple[Path, dict[str, Any]]) -> None:
    folder, results = finished
    rows = read_rows(folder / "run" / "metrics.jsonl")
    assert [row["epoch"] for row in rows] == list(range(1, 13))
    assert [row["step"] for row in rows] == [7 * epoch for epoch in range(1, 13)]  # 56 in batches of 8
    assert rows[-1]["validation_nll"] < 0.8 * rows[0]["validation_nll"]
    assert rows[-1]["training_nll"] < 0.8 * rows[0]["training_nll"]
    assert results["validation_nll"] == pytest.approx(rows[-1]["validation_nll"], abs=0.05)  # rounded weights


def test_result_is_the_nll_of_the_shipped_policy_on_molecules_it_never_saw(
    finished: tuple[Path, dict[str, Any]], molecules: list[str]
) -> None:
    """The held-out set is not told; but of all sets of its size only held-out ones can have this mean."""
    folder, results = finished
    assert (results["molecules"], results["held_out"], results["rejected_lines"]) == (62, 6, 3)
    policy, tokenizer = load_policy(folder / "run" / "prior.safetensors")
    canonical = [smiles for line in molecules if (smiles := canonical_smiles(line)) is not None]
    order = torch.randperm(62, generator=torch.Generator().manual_seed(0)).tolist()
    held_out = pad_tokens([tokenizer.encode(canonical[index]) for index in order[:6]])
    with torch.no_grad():
        nll = -float(policy.logprobs(held_out).double().mean())
    assert results["validation_nll"] == pytest.approx(nll, abs=1e-4)
    assert len(tokenizer) == results["vocabulary"]
    assert set(tokenizer.tokens[3:]) == {token for line in canonical for token in split_smiles(line)}


def test_rejected_lines_are_listed(finished: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = finished
    lines = (folder / "run" / "rejected.tsv").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "line\treason\ttext"
    assert [line.split("\t")[0] for line in lines[1:]] == ["63", "64", "65"]
    assert lines[1] == "63\tRDKit cannot read it as SMILES\tjunk"


def test_model_card_says_what_was_measured(finished: tuple[Path, dict[str, Any]]) -> None:
    folder, results = finished
    card = (folder / "run" / "model_card.md").read_text(encoding="utf-8")
    for text in (
        f"{results['validation_nll']:.3f} nats",
        results["data_sha256"],
        "62 molecules, 3 lines left out",
        "| hidden_size | 16 |",
        f"| parameters | {results['parameters']} |",
        torch.__version__,
    ):
        assert text in card
    provenance = json.loads((folder / "run" / "provenance.json").read_text(encoding="utf-8"))
    assert provenance["versions"]["torch"] == torch.__version__


def test_the_command_again_on_a_finished_run_changes_nothing(finished: tuple[Path, dict[str, Any]]) -> None:
    folder, results = finished
    names = ("prior.safetensors", "metrics.jsonl", "rejected.tsv")
    before = [(folder / "run" / name).read_bytes() for name in names]
    assert pretrain(folder / "data.smi", folder / "run", settings(epochs=12, max_tokens=60)) == results
    assert [(folder / "run" / name).read_bytes() for name in names] == before


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"hidden_size": 24}, r"hidden_size = 24; got 16"),
        ({"cell": "lstm"}, r"cell = 'lstm'; got 'gru'"),
        ({"seed": 1}, r"seed = 1; got 0"),
        ({"num_samples": 7}, r"num_samples = 7; got 20"),
    ],
)
def test_a_folder_of_other_settings(
    finished: tuple[Path, dict[str, Any]], changes: dict[str, Any], named: str, tmp_path: Path
) -> None:
    folder, _ = finished
    shutil.copytree(folder / "run", tmp_path / "run")
    before = (tmp_path / "run" / "prior.safetensors").read_bytes()
    with pytest.raises(RunError, match=named) as caught:
        pretrain(folder / "data.smi", tmp_path / "run", settings(epochs=12, max_tokens=60, **changes))
    assert str(tmp_path / "run") in str(caught.value)
    assert (tmp_path / "run" / "prior.safetensors").read_bytes() == before


def test_a_folder_of_other_data(finished: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    folder, _ = finished
    shutil.copytree(folder / "run", tmp_path / "run")
    other = tmp_path / "data.smi"  # the same name, another content
    other.write_bytes((folder / "data.smi").read_bytes() + b"CCCCCC\n")
    with pytest.raises(RunError, match="sha256"):
        pretrain(other, tmp_path / "run", settings(epochs=12, max_tokens=60))


def test_too_few_molecules(tmp_path: Path) -> None:
    data = tmp_path / "data.smi"
    data.write_text("CCO\n")
    with pytest.raises(InputError, match="at least 2 molecules"):
        pretrain(data, tmp_path / "run", settings())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"embedding_size": None},
            "cell 'gru' must have `embedding_size` and no `state_size`; got None and None",
        ),
        ({"state_size": 4}, "cell 'gru' must have `embedding_size` and no `state_size`; got 8 and 4"),
        ({"cell": "mamba"}, "cell 'mamba' must have `state_size` and no `embedding_size`; got None and 8"),
        ({"epochs": 0.0}, "`epochs`"),
        ({"epochs": math.nan}, "`epochs`"),
        ({"epochs": 1e30}, "`epochs` must be at most 1e+06; got 1e+30"),
        ({"learning_rate": 1e30}, "`learning_rate` must be at most 1; got 1e+30"),
        ({"seed": 2**63}, "`seed` must be from 0 to 2^63 - 1; got 9223372036854775808"),
        ({"seed": -1}, "`seed`"),
        ({"batch_size": 10**30}, "`batch_size` must be at most 1,000,000; got 1000000"),
        ({"hidden_size": 10**9}, "`hidden_size` must be at most 16,384"),
        ({"num_samples": 10**5000}, "`num_samples` must be at most 100,000,000; got a very large int"),
    ],
)
def test_settings_that_cannot_be(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as caught:
        settings(**changes)
    assert said in str(caught.value)


@pytest.mark.parametrize(("epochs", "steps"), [(0.5, [4]), (2.3, [7, 14, 16]), (0.01, [1])])
def test_a_fraction_of_an_epoch(
    epochs: float, steps: list[int], molecules_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """7 updates an epoch; the learning rate ends with the last update, and the run with a row of metrics."""
    rates = []
    step = torch.optim.Adam.step

    def recorded(optimizer: torch.optim.Adam, *arguments: Any) -> Any:
        rates.append(optimizer.param_groups[0]["lr"])
        return step(optimizer, *arguments)

    monkeypatch.setattr(torch.optim.Adam, "step", recorded)
    pretrain(molecules_file, tmp_path / "run", settings(epochs=epochs, num_samples=1))
    rows = read_rows(tmp_path / "run" / "metrics.jsonl")
    assert [row["step"] for row in rows] == steps
    assert [row["epoch"] for row in rows] == pytest.approx([count / 7 for count in steps], abs=1e-3)
    assert rates == [learning_rate_at(index, steps[-1], 1e-2) for index in range(steps[-1])]


def test_a_mamba_resumes_within_an_unfinished_epoch(
    molecules_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("transformers")
    choice = mamba_settings(epochs=2.6, checkpoint_every=5, num_samples=3)  # 18 updates
    with interrupted_after(monkeypatch, epoch=1):
        pretrain(molecules_file, tmp_path / "resumed", choice)
    results = pretrain(molecules_file, tmp_path / "resumed", choice)
    assert results == pretrain(molecules_file, tmp_path / "whole", choice)
    names = ("prior.safetensors", "metrics.jsonl")
    for name in names:
        assert (tmp_path / "resumed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    policy, _ = load_policy(tmp_path / "whole" / "prior.safetensors")
    assert policy.architecture() == {"cell": "mamba", "hidden_size": 16, "num_layers": 1, "state_size": 4}
    card = (tmp_path / "whole" / "model_card.md").read_text(encoding="utf-8")
    assert "| state_size | 4 |" in card
    assert "| epochs | 2.6 |" in card
    assert "embedding_size" not in card


def test_a_seed_changes_the_run(molecules_file: Path, tmp_path: Path) -> None:
    def weights(name: str, seed: int) -> bytes:
        pretrain(molecules_file, tmp_path / name, settings(epochs=1, seed=seed, num_samples=1))
        return (tmp_path / name / "prior.safetensors").read_bytes()

    assert weights("a", 1) == weights("b", 1)
    assert weights("c", 2) != weights("a2", 1)


@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_resuming_repeats_no_row_and_loses_none(
    epoch: int, molecules_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted after a row beyond the last checkpoint; with epoch 1 there is no checkpoint yet."""
    choice = settings(epochs=4, checkpoint_every=10, num_samples=1)  # 7 updates an epoch
    with interrupted_after(monkeypatch, epoch=epoch):
        pretrain(molecules_file, tmp_path / "resumed", choice)
    assert (tmp_path / "resumed" / "checkpoint.safetensors").exists() == (epoch > 1)

    results = pretrain(molecules_file, tmp_path / "resumed", choice)
    assert results == pretrain(molecules_file, tmp_path / "whole", choice)
    rows, expected = (read_rows(tmp_path / name / "metrics.jsonl") for name in ("resumed", "whole"))
    seen = ("epoch", "step", "validation_nll")
    assert [[row[key] for key in seen] for row in rows] == [[row[key] for key in seen] for row in expected]
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]


@pytest.fixture(scope="module")
def killed_and_whole(molecules_file: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Folders of a run that was killed and resumed by the same command, and of one that nobody touched."""
    folder = tmp_path_factory.mktemp("killed")

    def start(name: str) -> BaseProcess:
        options = {
            "cell": "lstm",
            "hidden-size": 16,
            "num-layers": 2,
            "embedding-size": 8,
            "epochs": 15,
            "batch-size": 8,
            "validation-fraction": 0.1,
            "checkpoint-every": 10,
            "num-samples": 50,
        }
        flags = [text for key, value in options.items() for text in (f"--{key}", str(value))]
        return start_command("chem", "pretrain", molecules_file, "--out", folder / name, *flags)

    whole, killed = start("whole"), start("killed")
    deadline = time.monotonic() + 60
    while not (folder / "killed" / "checkpoint.safetensors").exists():
        assert killed.is_alive()
        assert time.monotonic() < deadline
        time.sleep(0.002)
    killed.kill()
    killed.join()
    assert killed.exitcode == -signal.SIGKILL
    assert not (folder / "killed" / "prior.safetensors").exists()
    again = start("killed")
    for process in (again, whole):
        process.join()
        assert process.exitcode == 0
    return folder / "killed", folder / "whole"


def test_a_killed_run_ends_with_the_same_policy(killed_and_whole: tuple[Path, Path]) -> None:
    killed, whole = killed_and_whole
    assert (killed / "prior.safetensors").read_bytes() == (whole / "prior.safetensors").read_bytes()


def test_a_killed_run_ends_with_the_same_metrics(killed_and_whole: tuple[Path, Path]) -> None:
    killed, whole = killed_and_whole
    rows = read_rows(whole / "metrics.jsonl")
    assert [row["epoch"] for row in rows] == list(range(1, 16))
    assert all(math.isfinite(row["validation_nll"]) for row in rows)
    assert (killed / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()


def test_transfer_starts_from_the_policy_and_rejects_what_it_cannot_write(
    finished: tuple[Path, dict[str, Any]], molecules: list[str], tmp_path: Path
) -> None:
    start = finished[0] / "run" / "prior.safetensors"
    data = tmp_path / "actives.smi"
    data.write_text("\n".join([*molecules[:12], "C[Se]C", "[Na+].[Cl-]"]) + "\n")
    results = pretrain(data, tmp_path / "run", settings(max_tokens=60, num_samples=5), start=start)
    policy, tokenizer = load_policy(start)
    lines = (tmp_path / "run" / "rejected.tsv").read_text().splitlines()[1:]
    assert [line.split("\t")[:2] for line in lines] == [
        ["13", "token [Se], which is unknown to the prior"],
        ["14", "token [Cl-], which is unknown to the prior"],
    ]

    rows = read_rows(tmp_path / "run" / "metrics.jsonl")
    assert [(row["epoch"], row["training_nll"] is None) for row in rows] == [
        (0, True),
        (1, False),
        (2, False),
    ]
    canonical = list(dict.fromkeys(str(canonical_smiles(line)) for line in molecules[:12]))
    order = torch.randperm(len(canonical), generator=torch.Generator().manual_seed(0)).tolist()
    held_out = [tokenizer.encode(canonical[index]) for index in order[: results["held_out"]]]
    assert rows[0]["validation_nll"] == pytest.approx(mean_nll(policy, held_out, 500), rel=1e-6)
    trained, vocabulary = load_policy(tmp_path / "run" / "prior.safetensors")
    assert vocabulary.tokens == tokenizer.tokens
    assert trained.architecture() == policy.architecture()
    card = (tmp_path / "run" / "model_card.md").read_text()
    assert f"| trained from | prior.safetensors, SHA-256 {results['from_sha256']} |" in card
    with pytest.raises(RunError, match=r"expected max_tokens = 50; got 60"):
        pretrain(data, tmp_path / "run", settings(max_tokens=50, num_samples=5), start=start)


def test_samples_longer_than_the_actives_are_no_failures(tiny_prior: Path, tmp_path: Path) -> None:
    """Any chain is valid; the prior's have 6 atoms on average, the actives at most 2."""
    data = tmp_path / "actives.smi"
    data.write_text("".join(f"{one}{other}\n" for one in ("", "C", "N", "O") for other in "CNO"))
    choice = settings(cell="gru", learning_rate=1e-6, num_samples=200)
    results = pretrain(data, tmp_path / "run", choice, start=tiny_prior)
    assert results["validity"] > 0.7  # all but the empty; 0.2 have at most 2 atoms


def test_the_epoch_with_the_lowest_validation_nll_is_kept_also_after_a_resume(
    finished: tuple[Path, dict[str, Any]],
    molecules_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Few molecules and a high rate, so that it soon overfits."""
    start = finished[0] / "run" / "prior.safetensors"
    choice = settings(
        epochs=20,
        learning_rate=0.1,
        validation_fraction=0.9,
        max_tokens=60,
        checkpoint_every=7,
        num_samples=5,
    )
    with interrupted_after(monkeypatch, epoch=9):
        pretrain(molecules_file, tmp_path / "resumed", choice, start=start)
    results = pretrain(molecules_file, tmp_path / "resumed", choice, start=start)
    assert results == pretrain(molecules_file, tmp_path / "whole", choice, start=start)
    rows = read_rows(tmp_path / "whole" / "metrics.jsonl")
    best = min(rows[1:], key=lambda row: row["validation_nll"])
    assert best["epoch"] < 7  # so that its weights come from the checkpoint
    assert results["epoch"] == best["epoch"]
    assert results["validation_nll"] == pytest.approx(best["validation_nll"], abs=0.05)  # rounded weights
    assert abs(results["validation_nll"] - rows[-1]["validation_nll"]) > 0.5
