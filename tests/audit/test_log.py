"""Logs of samples as files, folders and records: what is read, and what is wrong with the rest."""

import csv
import json
import math
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from allmodes.audit.logs.formats import map_columns
from allmodes.audit.logs.log import Log, read_log
from allmodes.audit.logs.sources import Place, RecordSource, Source, open_source
from allmodes.errors import InputError

ROWS: list[dict[str, Any]] = [
    {"prompt": "Say one.", "response": "one", "reward": 1.0, "ref_logprob": -1.5, "policy_logprob": -1.0,
     "step": 3, "outcome": "1", "num_tokens": 2, "truncated": False},
    {"prompt": "Say one.", "response": "eins", "reward": 0.5, "ref_logprob": -2.5, "policy_logprob": -2.0,
     "step": 3, "outcome": "1", "num_tokens": 1, "truncated": False},
    {"prompt": "Say two.", "response": 'zwei, "deux"\nзвено', "reward": 0.0, "ref_logprob": -9.0,
     "policy_logprob": -7.0, "step": 4, "outcome": None, "num_tokens": 30, "truncated": True},
]  # fmt: skip


def jsonl(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def as_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    with open(path, "w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def as_parquet(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.Table.from_pylist(list(rows)), path)
    return path


def as_records(path: Path, rows: Sequence[Mapping[str, Any]]) -> Source:
    return RecordSource(list(rows))


def read(source: Source | Path) -> Log:
    opened = open_source(source) if isinstance(source, Path) else source
    return read_log(opened, dict)


WRITERS: list[tuple[str, Callable[[Path, Sequence[Mapping[str, Any]]], Any]]] = [
    ("a.jsonl", jsonl), ("a.csv", as_csv), ("a.parquet", as_parquet), ("", as_records),
]  # fmt: skip


@pytest.mark.parametrize(("name", "write"), WRITERS)
def test_every_kind_of_file_gives_the_same_columns(name: str, write: Any, tmp_path: Path) -> None:
    log = read(write(tmp_path / name, ROWS))
    assert len(log) == log.rows == 3
    assert log.prompts.tolist() == [0, 0, 1]
    assert log.prompt_names == ["Say one.", "Say two."]
    assert log.outcomes is not None
    assert log.outcomes.tolist() == [0, 0, -1]
    assert log.outcome_names == ["1"]
    assert log.responses is not None
    assert len(set(log.responses.tolist())) == 3
    expected = {
        "rewards": [1.0, 0.5, 0.0], "ref_logprobs": [-1.5, -2.5, -9.0], "policy_logprobs": [-1.0, -2.0, -7.0],
        "steps": [3, 3, 4], "num_tokens": [2, 1, 30], "truncated": [0, 0, 1],
    }  # fmt: skip
    for column, values in expected.items():
        assert getattr(log, column).tolist() == values
    assert log.bad == {}


def test_equal_texts_are_equal_and_columns_that_nobody_fills_are_none() -> None:
    rows = [{"prompt": "p", "response": text} for text in ("a", "b", "a")]
    log = read(RecordSource(rows))
    assert log.responses is not None
    first, second, third = log.responses.tolist()
    assert first == third != second
    assert (log.rewards, log.ref_logprobs, log.steps, log.num_tokens, log.truncated, log.outcomes) == (
        None,
    ) * 6


def test_without_prompts_all_share_one() -> None:
    log = read(RecordSource([{"response": "a", "reward": 1}, {"response": "b", "reward": 0}]))
    assert log.prompts.tolist() == [0, 0]
    assert log.prompt_names == [""]


def test_what_some_rows_lack_is_marked() -> None:
    log = read(RecordSource([{"response": "a", "reward": 1, "step": 2}, {"response": "b"}]))
    assert log.rewards is not None
    assert log.rewards[0] == 1
    assert math.isnan(log.rewards[1])
    assert log.steps is not None
    assert log.steps.tolist() == [2, -1]


BAD = [
    ({"response": 5}, "`response` is not a text"),
    ({"response": "a", "reward": "high"}, "`reward` is not a number"),
    ({"response": "a", "ref_logprob": False}, "`ref_logprob` is not a number"),
    ({"response": "a", "reward": math.nan}, "`reward` is NaN or infinite"),
    ({"response": "a", "reward": 10**400}, "`reward` is NaN or infinite"),
    ({"response": "a", "ref_logprob": 0.5}, "`ref_logprob` is positive: expected a log-probability"),
    ({"response": "a", "policy_logprob": -math.inf}, "`policy_logprob` is NaN or infinite"),
    ({"response": "a", "step": 1.5}, "`step` is not a whole number ≥ 0"),
    ({"response": "a", "step": -1}, "`step` is not a whole number ≥ 0"),
    ({"response": "a", "reward": -1e101}, "`reward` is beyond ±1e+100"),
    ({"response": "a", "num_tokens": "many"}, "`num_tokens` is not a number"),
    ({"response": "a", "truncated": "perhaps"}, "`truncated` is neither true nor false"),
    ({"response": "a", "outcome": math.nan}, "`outcome` is NaN"),
    ({"response": "a", "prompt": object()}, "`prompt` is neither a text nor a number"),
]  # fmt: skip


@pytest.mark.parametrize(("row", "kind"), BAD)
def test_a_malformed_value_costs_its_row_and_is_named(row: dict[str, Any], kind: str) -> None:
    log = read(RecordSource([{"response": "fine", "reward": 1.0}, row, row]))
    assert (len(log), log.rows) == (1, 3)
    assert {name: (bad.count, bad.first_line) for name, bad in log.bad.items()} == {kind: (2, 2)}
    assert log.first_places == {kind: "record 2"}


def test_lines_that_are_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(
        b'\xef\xbb\xbf{"response": "a", "reward": 1}\n\n[1]\nno json\n{"response": "\xff"}\n'
        b'{"response": "b", "reward": 0}\n{"response": "c", "rew'
    )
    log = read(path)
    assert log.lines.tolist() == [1, 6]
    assert {kind: bad.first_line for kind, bad in log.bad.items()} == {
        "not an object": 3, "not JSON": 4, "not UTF-8": 5, "cut off at the end of the file": 7,
    }  # fmt: skip


def test_a_table_with_bad_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(
        b'\xef\xbb\xbfresponse,reward\r\n"two\nlines",1\na,0.5,more\n\xff,1\nfine,0\n\n"open, 1\n' + b"x" * 50
    )
    log = read(path)
    assert log.lines.tolist() == [2, 6]
    assert log.rewards is not None
    assert log.rewards.tolist() == [1.0, 0.0]
    assert {kind: bad.first_line for kind, bad in log.bad.items()} == {
        "3 cells where the header has 2": 4, "not UTF-8": 5,
        "cut off, or unreadable after an open quotation mark": 8,
    }  # fmt: skip


def test_a_stray_quotation_mark_costs_its_row(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('response,reward\na,1\n"b"c,1\nd,0\n' + "e,0\n" * 9)
    log = read(path)
    assert log.lines.tolist() == [2, *range(4, 14)]
    assert {kind.partition(" (")[0]: bad.first_line for kind, bad in log.bad.items()} == {"not CSV": 3}


def test_a_name_that_two_columns_have(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("reward,reward,,\n1,0,x,y\n")
    ((_, row),) = open_source(path).rows(advance=lambda _: None)
    assert row == {"reward": "1", "reward.1": "0", "": "x", ".1": "y"}
    log = read(path)
    assert log.rewards is not None
    assert log.rewards.tolist() == [1.0]


def test_a_long_cell(tmp_path: Path) -> None:
    path = as_csv(tmp_path / "a.csv", [{"response": "long " * 100_000, "reward": 1}])
    assert len(read(path)) == 1


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b"", "expected at least one sample; got an empty log"),
        ("a.csv", b"response,reward\n", "expected at least one sample; got an empty log"),
        ("a.jsonl", b"[]\n[]\n", "got none that can be used: not an object: 2, first at line 1"),
        ("a.parquet", b"PAR1 and no more", "expected a Parquet file"),
        ("a.sqlite", b"not a database", "expected a ledger of oracle calls"),
        (
            "a.txt",
            b"x",
            "expected a file of one of the kinds .sqlite, .jsonl, .ndjson, .csv, .parquet, .json; got '.txt'",
        ),
    ],
)
def test_files_that_hold_nothing(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as raised:
        read(tmp_path / name)
    assert message in str(raised.value)


def test_a_path_without_a_log(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.jsonl does not exist"):
        open_source(tmp_path / "none.jsonl")
    with pytest.raises(InputError, match=r"expected files of one of the kinds .*; got none"):
        open_source(tmp_path)


def test_a_folder_is_read_in_the_order_of_its_numbers(tmp_path: Path) -> None:
    for step in (9, 10, 100):
        jsonl(tmp_path / f"{step}.jsonl", [{"response": "a", "step": step}] * 2)
    (tmp_path / "9.jsonl").write_text('{"response": "a", "step": 9}\nno\n')
    source = open_source(tmp_path)
    log = read_log(source, dict)
    assert log.steps is not None
    assert log.steps.tolist() == [9, 10, 10, 100, 100]
    assert [log.place(index) for index in (0, 1, 4)] == [Place(0, 1), Place(1, 1), Place(2, 2)]
    assert log.first_places == {"not JSON": "9.jsonl, line 2"}


@pytest.mark.parametrize(("name", "write"), WRITERS)
def test_chosen_rows_are_found_again(name: str, write: Any, tmp_path: Path) -> None:
    written = write(tmp_path / name, ROWS)
    source = open_source(written) if isinstance(written, Path) else written
    log = read_log(source, dict)
    wanted = {log.place(0), log.place(2)}
    texts = [row["response"] for _, row in source.rows(wanted=wanted, advance=lambda _: None)]  # type: ignore[index]
    assert texts == [ROWS[0]["response"], ROWS[2]["response"]]


@pytest.mark.parametrize(("name", "write"), WRITERS)
def test_progress_adds_up_to_the_size(name: str, write: Any, tmp_path: Path) -> None:
    written = write(tmp_path / name, ROWS * 20_000)
    source = open_source(written) if isinstance(written, Path) else written
    told: list[int] = []
    read_log(source, dict, advance=told.append)
    assert sum(told) == pytest.approx(source.size, rel=0.01)
    assert all(part >= 0 for part in told)


def test_a_ledger(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with sqlite3.connect(path) as database:
        database.execute(
            "CREATE TABLE evaluations (call INTEGER PRIMARY KEY, step INTEGER, smiles TEXT, raw TEXT,"
            " shaped TEXT, reward REAL, penalised_reward REAL, failure TEXT, details TEXT)"
        )
        rows = [(1, 1, "CCO", 0.5, 0.5), (2, 1, "CCN", None, None), (3, 2, "CCC", 0.9, 0.0)]
        database.executemany("INSERT INTO evaluations VALUES (?, ?, ?, '{}', '{}', ?, ?, NULL, '{}')", rows)
    database.close()
    source = open_source(tmp_path)
    first = next(source.rows(advance=lambda _: None))[1]
    assert isinstance(first, dict)
    mapped = map_columns(first)
    log = read_log(source, mapped.convert)
    assert mapped.format == "ledger"
    assert log.rewards is not None
    assert torch.equal(log.rewards.isnan(), torch.tensor([False, True, False]))
    assert log.rewards[2] == 0.9
    assert log.outcome_names == ["CCO", "CCN", "CCC"]


def test_a_verifiers_rewards_are_one_and_zero() -> None:
    log = read_log(RecordSource([{"reward": True}, {"reward": False}]), dict)
    assert log.rewards is not None
    assert log.rewards.tolist() == [1.0, 0.0]
