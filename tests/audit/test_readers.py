"""One reader for audit and evaluate: containers, programs' schemas, identities, and what is hostile."""

import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from allmodes.audit.logs.columns import Log
from allmodes.audit.logs.formats import Mapped
from allmodes.audit.logs.reading import Reading, read_samples
from allmodes.audit.logs.sources import RecordSource
from allmodes.errors import InputError
from audit_logs import numbers

Rows = list[dict[str, Any]]
ROWS: Rows = [
    {"prompt": f"q{i // 4}", "response": f"it is {i % 3}", "outcome": str(i % 3), "reward": float(i % 3 > 0),
     "step": i // 6}
    for i in range(12)
]  # fmt: skip


def read(path: Path, **settings: Any) -> tuple[Mapped, Log]:
    reading = Reading(**settings)
    source = reading.open(path)
    mapped = reading.mapped(source)
    told: list[int] = []
    log = read_samples(source, mapped, advance=told.append)
    assert sum(told) == pytest.approx(source.size, rel=0.01)
    return mapped, log


def of(rows: Sequence[Mapping[str, Any]], **settings: Any) -> tuple[Mapped, Log]:
    reading = Reading(**settings)
    source = reading.split(RecordSource(list(rows)))
    mapped = reading.mapped(source)
    return mapped, read_samples(source, mapped)


def lines(rows: Rows) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def table(rows: Rows) -> bytes:
    return json.dumps({"columns": list(rows[0]), "data": [list(row.values()) for row in rows]}).encode()


def comma(rows: Rows) -> bytes:
    return "\n".join([",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]).encode()


# --- Containers ---


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", lines(ROWS)),
        ("a.ndjson", lines(ROWS)),
        ("A.JSONL", lines(ROWS)),
        ("a.json", json.dumps(ROWS).encode()),
        ("a.json", b"\xef\xbb\xbf" + json.dumps(ROWS, indent=1).encode()),
        ("a.json", lines(ROWS)),
        ("a.json", json.dumps({"data": ROWS}).encode()),
        ("a.table.json", table(ROWS)),
        ("a.csv", comma(ROWS)),
        ("a.jsonl.gz", gzip.compress(lines(ROWS), mtime=0)),
        ("a.ndjson.gz", gzip.compress(lines(ROWS), mtime=0)),
        ("a.json.gz", gzip.compress(json.dumps(ROWS).encode(), mtime=0)),
        ("a.table.json.gz", gzip.compress(table(ROWS), mtime=0)),
        ("a.csv.gz", gzip.compress(comma(ROWS), mtime=0)),
    ],
)
def test_every_container_holds_the_same_samples(name: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    for place in (path, tmp_path):
        _, log = read(place)
        assert numbers(log.rewards) == [row["reward"] for row in ROWS]
        assert (log.prompt_names, log.outcome_names) == (["q0", "q1", "q2"], ["0", "1", "2"])
        assert log.bad == {}


def test_one_row_in_json_is_a_row(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(ROWS[0]))
    assert len(read(tmp_path / "a.json")[1]) == 1


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.jsonl.gz",
            gzip.compress(lines(ROWS * 50), mtime=0)[:200],
            "a.jsonl.gz: Compressed file ended",
        ),
        ("a.csv.gz", b"no gzip", "a.csv.gz: Not a gzipped file"),
        ("a.json", b"[" * 100_000, "expected JSON with few levels"),
        ("a.json", b'[{"prompt": 1', "cannot read .*a.json: expected JSON"),
        ("a.json", b"5", "expected an array of objects or a table; got int"),
        ("a.json", b"[1, 2]", "got none that can be used: not an object: 2, first at row 1"),
        (
            "a.json",
            b'{"columns": ["a"], "data": [[1, 2]]}',
            "2 cells where the header has 1: 1, first",
        ),
        (
            "a.parquet.gz",
            gzip.compress(b"PAR1", mtime=0),
            "expected an uncompressed .parquet file; got one compressed with gzip",
        ),
        ("a.jsonl", b'{"response": ' + b"[" * 100_000 + b"}\n", "got none that can be used: not JSON: 1"),
    ],
)
def test_what_is_broken_or_hostile_is_one_line(
    name: str, content: bytes, message: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        read(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_what_is_nested_deeply_costs_its_row() -> None:
    deep: Any = "x"
    for _ in range(5000):
        deep = [deep]
    call = {"role": "assistant", "tool_calls": [{"function": {"arguments": deep}}]}
    rows = [
        {"prompt": "q", "response": "a", "reward": 1.0},
        {"prompt": deep, "response": "a", "reward": 1.0},
        {"prompt": "q", "response": [call], "reward": 1.0},
        {"prompt": "q", "response": "a", "outcome": deep, "reward": 1.0},
    ]
    log = of(rows)[1]
    assert (len(log), sum(bad.count for bad in log.bad.values())) == (1, 3)


def test_dates_that_python_cannot_hold_cost_nothing(tmp_path: Path) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    late = arrow.array([1, 2**62, None], type=arrow.timestamp("us"))
    fine = arrow.array([1, 10**15 + 1, None], type=arrow.timestamp("ns"))
    columns = {"response": ["a", "b", "c"], "reward": [1.0, 0.0, 1.0], "logged": late, "at": fine}
    parquet.write_table(arrow.table(columns), tmp_path / "a.parquet")
    assert numbers(read(tmp_path / "a.parquet")[1].rewards) == [1.0, 0.0, 1.0]
    parquet.write_table(arrow.table({**columns, "prompt": late}), tmp_path / "a.parquet")
    log = read(tmp_path / "a.parquet")[1]
    assert {kind: bad.count for kind, bad in log.bad.items()} == {
        "`prompt` is neither a text nor a number": 2
    }


def test_a_folder_of_several_kinds_says_which_it_reads(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(lines(ROWS))
    (tmp_path / "b.csv").write_bytes(comma(ROWS))
    (tmp_path / "audit.json").write_text("{}")
    log = read(tmp_path)[1]
    assert len(log) == 12
    assert "The .jsonl files of the folder are read; those of kind .csv are not." in log.remarks


# --- Rows with several responses ---


def test_a_list_of_responses_is_as_many_samples(tmp_path: Path) -> None:
    rows = [
        {"prompt": "q", "responses": ["a", "b"], "rewards": [1.0, 0.0], "seed": 3, "outcome": ["x", None]},
        {"prompt": [{"role": "user", "content": "r"}, {"role": "user", "content": "s"}],
         "responses": [[{"role": "assistant", "content": "c"}], "d"], "rewards": [0.5, None],
         "outcome": ["y", "z"]},
        {"prompt": "t", "responses": [], "rewards": []},
    ]  # fmt: skip
    (tmp_path / "a.jsonl").write_bytes(lines(rows))
    mapped, log = read(tmp_path / "a.jsonl")
    assert mapped.sources["reward"] == "rewards"
    assert numbers(log.rewards) == [1.0, 0.0, 0.5, None]
    assert log.prompts.tolist() == [0, 0, 1, 1]
    assert [log.place_name(i) for i in (0, 3)] == ["line 1, response 1", "line 2, response 2"]
    assert {kind: bad.count for kind, bad in log.bad.items()} == {"`responses` holds no response": 1}


NOVELTYBENCH: Rows = [
    {"id": "curated-1", "prompt": "Name a colour.", "model": "some/model",
     "generations": ["red", "blue", "Red.", "green"], "partition": [0, 1, 0, 2], "distinct": 3,
     "generation_scores": [9, 6, 0, 7], "partition_scores": [9, 6, 7]},
    {"id": "curated-2", "prompt": "Name a tree.", "model": "some/model",
     "generations": ["oak", "oak tree", "an oak", "elm"], "partition": [0, 0, 0, 1], "distinct": 2,
     "generation_scores": [8, 0, 0, 5], "partition_scores": [8, 5]},
]  # fmt: skip


def test_noveltybenchs_scores(tmp_path: Path) -> None:
    """A class is an outcome, and a generation that repeats one is worth as much as the first."""
    bare = [{key: row[key] for key in ("id", "prompt", "model", "generations")} for row in NOVELTYBENCH]
    (tmp_path / "generations.jsonl").write_bytes(lines(bare))
    mapped, log = read(tmp_path)
    assert (mapped.format, len(log), log.rewards, log.outcomes) == ("noveltybench", 8, None, None)
    (tmp_path / "scores.jsonl").write_bytes(lines(NOVELTYBENCH))
    mapped, log = read(tmp_path)  # the same generations count once
    assert len(log) == 8
    assert numbers(log.rewards) == [9, 6, 9, 7, 8, 8, 8, 5]
    assert mapped.sources["outcome"] == "partition"
    assert log.outcomes is not None
    assert log.outcomes.tolist() == [0, 1, 0, 2, 0, 0, 0, 1]


# --- Programs ---


def test_open_instruct(tmp_path: Path) -> None:
    """Token ids are texts of their own, prompts are their tokens, and its metadata is one row left out."""
    rows = [
        {"step": 1 + i // 4, "sample_idx": i % 4, "prompt_idx": i % 4 // 2,
         "prompt_tokens": [5, 6, i // 2 % 2, i // 4],
         "response_tokens": [7, 8, i], "reward": float(i % 2), "advantage": 0.5, "dataset": "gsm8k",
         "finish_reason": ["stop", "length", "abort", "stop"][i % 4], "ground_truth": [1, 2],
         "logprobs": [-0.5, -0.25, -0.125], "request_info": {"tool_calleds": i == 7}}
        for i in range(8)
    ]  # fmt: skip
    (tmp_path / "run_metadata.jsonl").write_text('{"run_name": "run", "git_commit": "abc"}\n')
    (tmp_path / "run_rollouts_000000.jsonl").write_bytes(lines(rows))
    mapped, log = read(tmp_path)
    assert mapped.format == "open-instruct"
    assert mapped.has_tokens
    assert log.prompts.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert log.responses is not None
    assert len(set(log.responses.tolist())) == 8
    assert log.truncated is not None
    assert log.truncated.tolist() == [0, 1, -1, 0] * 2
    assert log.num_tokens is not None
    assert log.num_tokens.tolist() == [3] * 8
    assert numbers(log.policy_logprobs) == [-0.875] * 7 + [None]
    assert numbers(log.rewards) == [0.0, 1.0] * 4
    assert {kind: bad.count for kind, bad in log.bad.items()} == {"it has no response, outcome or reward": 1}


def rollout(example: int, text: str, **more: Any) -> dict[str, Any]:
    return {
        "example_id": example, "task": "wordle", "prompt": [{"role": "user", "content": "Guess a word."}],
        "completion": [{"role": "assistant", "content": text}], "answer": "crane", "reward": 0.5,
        "is_truncated": False, "stop_condition": "done", "metrics": {"turns": 1.0}, "info": {}, **more,
    }  # fmt: skip


def test_prime_rl(tmp_path: Path) -> None:
    """Folders step_N give the step; one text stands for many examples; `answer` is the dataset's."""
    for step in (9, 10):
        folder = tmp_path / "rollouts" / f"step_{step}"
        folder.mkdir(parents=True)
        rows = [rollout(i // 2, f"{step} {i}", reward=i / 4, is_truncated=i == 3) for i in range(4)]
        (folder / "train_rollouts.jsonl").write_bytes(lines(rows))
        (folder / "eval_rollouts.jsonl").write_bytes(lines([rollout(9, "x")]))
    for place in (tmp_path, tmp_path / "rollouts"):
        mapped, log = read(place)
        assert (mapped.format, len(log), log.outcomes) == ("prime-rl", 8, None)
        assert log.steps is not None
        assert log.steps.tolist() == [9] * 4 + [10] * 4
        assert log.prompts.tolist() == [0, 0, 1, 1] * 2
        assert log.truncated is not None
        assert log.truncated.tolist() == [0, 0, 0, 1] * 2
        assert "eval_rollouts.jsonl is left out: it holds an evaluation." in log.remarks
        assert log.place_name(7) == "step_10/train_rollouts.jsonl, line 4"
    steps = read(tmp_path / "rollouts" / "step_10")[1].steps
    assert steps is not None
    assert steps.tolist() == [10] * 4


def test_trls_output_folder_holds_its_completions(tmp_path: Path) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    rows = [
        {"step": 1, "prompt": "q", "completion": f"c{i}", "accuracy": float(i % 2), "advantage": i % 2 - 0.5}
        for i in range(4)
    ]
    (tmp_path / "completions").mkdir()
    parquet.write_table(arrow.Table.from_pylist(rows), tmp_path / "completions" / "completions_00001.parquet")
    mapped, log = read(tmp_path)
    assert (mapped.trainer, mapped.sources["reward"], len(log)) == ("trl", "accuracy", 4)


MOLECULE: dict[str, Any] = {
    "Agent": "20.6", "Prior": "20.6", "Target": "-18", "SMILES": "CCO", "SMILES_state": "1", "QED": "0.9",
    "QED (raw)": "0.9", "Scaffold": "c1ccccc1",
}  # fmt: skip


def test_reinvents_filtered_scores_are_not_known() -> None:
    rows = [
        {**MOLECULE, "SMILES": "C" * (i + 1), "Score": "0.9" if i < 80 else "0.0", "step": str(1 + i // 16)}
        for i in range(160)
    ]
    mapped, log = of(rows)
    assert numbers(log.rewards) == [0.9] * 80 + [None] * 80
    assert mapped.trainer == "reinvent"
    words = "REINVENT's diversity filter set a valid molecule's score to 0"
    assert f"80 rewards not known, the first on record 81: {words}." in log.remarks


def test_reinvents_true_zeros_are_zeros() -> None:
    zero = {**MOLECULE, "Score": "0.0", "step": "1"}
    rows = [
        {**zero, "QED": "0.0"},
        {**zero, "SMILES_state": "0", "SMILES": "c1cc"},
        {**zero, "QED": None},
        {**zero, "QED": "nan"},
        {**zero, "SMILES_state": "2"},
        {**zero, "SMILES_state": "1.0"},
        {**zero, "Score": "0.9"},
    ]
    assert numbers(of(rows)[1].rewards) == [0.0, 0.0, 0.0, 0.0, None, None, 0.9]
    bare = [{key: value for key, value in row.items() if "QED" not in key} for row in rows]
    assert numbers(of(bare)[1].rewards)[5] == 0.0  # without components nothing tells


# --- Identities ---


def test_prompts_are_equal_only_if_they_are_the_same() -> None:
    prompts: list[Any] = [
        7, "7", "7.5", 7.5, True, "true", "a_1", "a_2", "a_1_0", "a_1_1", "a|b", "a|c", "a", "a ", " a", "A",
        '["a"]', ["a"], [["a"]], "a\tb", "a b", "\ud800", "\ud801", "?", "\u00e9", "e\u0301", "",
        [1, 2], [12], "1 2", {"id": 1}, {"id": "1"},
        [{"role": "user", "content": "a", "images": ["1"]}],
        [{"role": "user", "content": "a", "images": ["2"]}],
        [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}],
        [{"role": "system", "content": "a"}],
    ]  # fmt: skip
    log = of([{"prompt": prompt, "response": "r", "reward": 1.0} for prompt in prompts])[1]
    assert (len(log), log.bad) == (len(prompts), {})
    assert log.prompts.tolist() == list(range(len(prompts)))
    same: list[Any] = [
        "a",
        [{"role": "user", "content": "a"}],
        [{"role": "user", "content": "a", "name": None}],
    ]
    assert of([{"prompt": one, "response": "r"} for one in same])[1].prompts.tolist() == [0, 0, 0]
    assert of([{"prompt": one, "response": "r"} for one in (1, 1.0)])[1].prompts.tolist() == [0, 0]


@pytest.mark.parametrize("name", ["prompt_id", "group_id", "uid", "example_id", "question", "problem"])
def test_ids_stand_for_prompts_where_there_is_no_text(name: str) -> None:
    ids = ["set_1_0", "set_1_1", "set_2_0", "set_10_0", 1, "1"]
    log = of([{name: one, "response": f"r{i}", "reward": 1.0} for i, one in enumerate(ids * 2)])[1]
    assert log.prompts.tolist() == [0, 1, 2, 3, 4, 5] * 2


def test_a_uid_of_each_sample_is_no_prompt() -> None:
    log = of([{"uid": f"s{i}", "response": f"r{i}", "reward": 1.0} for i in range(4)])[1]
    assert log.prompts.tolist() == [0, 0, 0, 0]
    assert "No column names a prompt: all samples are read as those of one prompt." in log.remarks


def test_verls_uids_are_not_cut() -> None:
    row = {"input": "same text, other pictures", "output": "2", "score": 1.0, "step": 0}
    log = of([{**row, "uid": uid} for uid in ("task_1_0", "task_2_0", "task_1_0", "task_2_0")])[1]
    assert log.prompts.tolist() == [0, 1, 0, 1]
    # Where each row has its own, the text tells samples of one prompt.
    log = of([{**row, "input": f"q{i // 2}", "uid": f"sample {i}"} for i in range(4)])[1]
    assert log.prompts.tolist() == [0, 0, 1, 1]
    log = of([{**row, "input": f"q{i // 2}", "uid": f"task_{i}_0"} for i in range(4)])[1]
    assert log.prompts.tolist() == [0, 0, 1, 1]


def test_a_log_without_prompts_says_so() -> None:
    remark = "No column names a prompt: all samples are read as those of one prompt."
    assert remark in of([{"response": "a", "reward": 1.0}])[1].remarks
    assert remark not in of([{"prompt": "q", "response": "a", "reward": 1.0}])[1].remarks


def test_a_row_that_lacks_the_prompt_of_others_is_left_out() -> None:
    rows: Rows = [{"prompt": "q", "response": "a"}, {"response": "b"}, {"prompt": None, "response": "c"}]
    log = of(rows)[1]
    assert {kind: (bad.count, bad.first_line) for kind, bad in log.bad.items()} == {
        "`prompt` is missing": (2, 2)
    }
    assert len(log) == 1


def test_responses_that_differ_in_a_broken_character_differ() -> None:
    log = of([{"prompt": "q", "response": text} for text in ("\ud800", "\ud801", "?")])[1]
    assert log.responses is not None
    assert len(set(log.responses.tolist())) == 3


def test_trajectories_are_told_by_all_that_the_model_wrote() -> None:
    def turns(i: int) -> list[dict[str, str]]:
        return [
            {"role": "assistant", "content": f"I try {i}."}, {"role": "user", "content": "No: 42."},
            {"role": "assistant", "content": "done"},
        ]  # fmt: skip

    rows = [{"prompt": "q", "completion": turns(i), "reward": 1.0} for i in range(40)]
    log = of(rows, outcome_pattern="done|42")[1]
    assert log.responses is not None
    assert len(set(log.responses.tolist())) == 40
    assert log.outcome_names == ["done"]  # of the model's last message, not of the user's


# --- Outcomes ---


def test_the_datasets_answer_is_no_outcome() -> None:
    rows = [
        {"prompt": f"{p}*7?", "response": f"#### {i}", "answer": str(7 * p), "reward": float(i == 7 * p)}
        for p in (1, 2)
        for i in range(8)
    ]
    mapped, log = of(rows)
    assert mapped.sources["outcome"] == "answer"
    assert (log.outcomes, log.outcome_names) == (None, [])
    assert any("`answer` is the same for all samples of each prompt" in remark for remark in log.remarks)
    assert not any("outcome = answer" in remark for remark in log.remarks)
    # What the user names stays, and is remarked on; what differs in one prompt is the model's.
    log = of(rows, columns={"outcome": "answer"})[1]
    assert log.outcomes is not None
    assert any("The outcome is the same for all samples" in remark for remark in log.remarks)
    rows[3]["answer"] = "other"
    assert of(rows)[1].outcomes is not None
    rows[3]["answer"] = "7"
    for row in rows:
        row["reward"] = 1.0
    assert of(rows)[1].outcomes is not None  # a policy that has collapsed onto the right answer
