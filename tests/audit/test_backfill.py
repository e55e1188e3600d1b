"""Missing log-probabilities of a log: what is asked for, what is kept, how a killed computation resumes."""

import csv
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from allmodes.audit.audit import audit_source
from allmodes.audit.config import AuditConfig
from allmodes.audit.logs.backfill import BackfilledSource, Column, Request, ResponseLogprob, backfill
from allmodes.audit.logs.cache import open_cache
from allmodes.audit.logs.formats import Mapped, map_columns
from allmodes.audit.logs.log import Log, read_log
from allmodes.audit.logs.reading import merged_row
from allmodes.audit.logs.sources import RecordSource, Source, open_source
from allmodes.errors import InputError, RunError
from allmodes.runs.lines import BadLineError
from audit_logs import numbers


def score(requests: Sequence[Request]) -> list[ResponseLogprob | None]:
    """−1.5 a letter, −0.25 a letter of the prompt, 1 less for a cut-off one; nothing for an empty text."""
    return [
        ResponseLogprob(
            logprob=-1.5 * len(request.response)
            - 0.25 * len(request.prompt or "")
            - (1 if request.truncated else 0),
            num_tokens=len(request.response),
        )
        if request.response
        else None
        for request in requests
    ]


class Counted:
    """Keeps what it was asked; fails at its n-th call."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.calls: list[list[Request]] = []
        self._fails_at = fails_at

    def __call__(self, requests: Sequence[Request]) -> list[ResponseLogprob | None]:
        self.calls.append(list(requests))
        if len(self.calls) == self._fails_at:
            raise KeyboardInterrupt
        return score(requests)

    @property
    def responses(self) -> list[str]:
        return [request.response for call in self.calls for request in call]


def backfilled(
    source: Source,
    path: Path,
    *,
    scorer: Any = score,
    column: Column = "ref_logprob",
    mapped: Mapped | None = None,
    model: str = "m",
    batch: int = 2,
) -> BackfilledSource:
    return backfill(
        source,
        mapped or map_columns(merged_row(source)),
        scorer,
        column=column,
        path=path,
        identity={"model": model},
        batch=batch,
    )


def rows_of(source: Source) -> list[Any]:
    return [row for _, row in source.rows(advance=lambda read: None)]


def log_of(source: BackfilledSource, **settings: Any) -> Log:
    columns = {**settings.pop("columns", {}), **source.columns}
    return read_log(
        source, map_columns(merged_row(source), columns=columns, needs_reward=False, **settings).convert
    )


ROWS: list[dict[str, Any]] = [
    {"prompt": "ab", "response": "abc", "reward": 1.0, "truncated": False},
    {"prompt": "ab", "response": "abcd", "reward": 0.5, "truncated": True},
    {"prompt": "a", "response": "x\ny", "reward": 0.0, "truncated": None},
    {"prompt": "ab", "response": None, "reward": 0.0, "truncated": False},
    {"prompt": "abcd", "response": "abc", "reward": 1.0, "truncated": False},
]
EXPECTED = [-5.0, -7.5, -4.75, None, -5.5]


def jsonl(path: Path, rows: Sequence[Mapping[str, Any]]) -> Source:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return open_source(path)


def as_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> Source:
    with open(path, "w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return open_source(path)


def as_parquet(path: Path, rows: Sequence[Mapping[str, Any]]) -> Source:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.Table.from_pylist(list(rows)), path)
    return open_source(path)


def in_two_files(path: Path, rows: Sequence[Mapping[str, Any]]) -> Source:
    path.mkdir()
    jsonl(path / "9.jsonl", rows[:2])
    jsonl(path / "10.jsonl", rows[2:])
    return open_source(path)


def records(path: Path, rows: Sequence[Mapping[str, Any]]) -> Source:
    return RecordSource(list(rows))


@pytest.mark.parametrize(
    ("name", "write"),
    [("a.jsonl", jsonl), ("a.csv", as_csv), ("a.parquet", as_parquet), ("a", in_two_files), ("", records)],
)
@pytest.mark.parametrize("batch", [1, 2, 100])
def test_every_kind_of_source(
    name: str, write: Callable[[Path, Sequence[Mapping[str, Any]]], Source], batch: int, tmp_path: Path
) -> None:
    found = backfilled(write(tmp_path / name, ROWS), tmp_path / "out" / "ref.jsonl", batch=batch)
    log = log_of(found)
    assert numbers(log.ref_logprobs) == EXPECTED
    assert log.num_tokens is not None
    assert log.num_tokens.tolist() == [3, 4, 3, -1, 3]
    assert (found.computed, found.failed, found.as_they_stand) == (4, 0, 0)
    again = Counted()
    assert (
        numbers(log_of(backfilled(write_again(found), tmp_path / "none", scorer=again)).ref_logprobs)
        == EXPECTED
    )
    assert again.calls == []
    assert not (tmp_path / "none").exists()


def write_again(source: Source) -> Source:
    """All its rows as records."""
    return RecordSource(rows_of(source))


def test_names_places_and_size_are_the_logs_own(tmp_path: Path) -> None:
    source = in_two_files(tmp_path / "log", ROWS)
    found = backfilled(source, tmp_path / "ref.jsonl")
    assert found.size == source.size
    places = [place for place, _ in source.rows(advance=lambda read: None)]
    assert [place for place, _ in found.rows(advance=lambda read: None)] == places
    assert [found.name(place) for place in places] == [source.name(place) for place in places]
    read: list[int] = []
    (wanted,) = found.rows(wanted={(1, 3, 0)}, advance=read.append)
    assert wanted[1] == {**ROWS[4], "ref_logprob": -5.5, "num_tokens": 3}
    assert sum(read) == found.size


def test_equal_requests_of_a_batch_are_asked_once(tmp_path: Path) -> None:
    rows = [
        {"prompt": prompt, "response": response, "truncated": truncated}
        for prompt, response, truncated in [
            ("p", "a", False), ("p", "a", False), ("q", "a", False), ("p", "a", True), ("p", "a", None),
            ("p", "b", False), ("p", "a", False),
        ]
    ]  # fmt: skip
    scorer = Counted()
    found = backfilled(RecordSource(rows), tmp_path / "ref.jsonl", scorer=scorer, batch=6)
    assert [len(call) for call in scorer.calls] == [5, 1]
    assert found.computed == 7
    assert numbers(log_of(found).ref_logprobs) == [-1.75, -1.75, -1.75, -2.75, -1.75, -1.75, -1.75]


def test_what_the_log_knows_is_kept(tmp_path: Path) -> None:
    known = [-9.0, None, math.nan, "nan", "-3.5"]
    rows = [
        {"response": "ab", "ref_logprob": value, "num_tokens": tokens}
        for value, tokens in zip(known, [7, 8, None, math.nan, None], strict=True)
    ]
    scorer = Counted()
    found = backfilled(RecordSource(rows), tmp_path / "ref.jsonl", scorer=scorer, batch=1)
    assert len(scorer.calls) == 3
    log = log_of(found)
    assert numbers(log.ref_logprobs) == [-9.0, -3.0, -3.0, -3.0, -3.5]
    assert log.num_tokens is not None
    assert log.num_tokens.tolist() == [7, 8, 2, 2, -1]
    assert log.bad == {}


def test_a_column_that_the_first_row_lacks_is_kept_too(tmp_path: Path) -> None:
    rows = [{"response": "a"}, {"response": "b", "ref_logprob": -7.0}]
    assert numbers(log_of(backfilled(RecordSource(rows), tmp_path / "ref.jsonl")).ref_logprobs) == [
        -1.5,
        -7.0,
    ]


def test_values_of_a_column_by_another_name_are_kept(tmp_path: Path) -> None:
    rows = [{"text": "a", "lp": -4.0, "ref_logprob": -8.0}, {"text": "b", "lp": None, "ref_logprob": -8.0}]
    columns = {"response": "text", "ref_logprob": "lp"}
    source = RecordSource(rows)
    found = backfilled(
        source, tmp_path / "ref.jsonl", mapped=map_columns(rows[0], columns=columns, needs_reward=False)
    )
    assert numbers(log_of(found, columns=columns).ref_logprobs) == [-4.0, -1.5]


@pytest.mark.parametrize("name", ["ref_logprob", "num_tokens"])
def test_our_name_for_another_column_is_refused(name: str, tmp_path: Path) -> None:
    source = RecordSource([{"response": "a", name: 1}])
    mapped = map_columns(merged_row(source), columns={"step": name})
    with pytest.raises(
        InputError,
        match=rf"^`columns\.step`: expected a name other than '{name}', which is .* added column$",
    ):
        backfilled(source, tmp_path / "ref.jsonl", mapped=mapped)


def test_reference_and_policy_one_on_the_other(tmp_path: Path) -> None:
    source = RecordSource(ROWS)
    mapped = map_columns(ROWS[0])
    reference = backfilled(source, tmp_path / "ref.jsonl", mapped=mapped)

    def policy(requests: Sequence[Request]) -> list[ResponseLogprob | None]:
        return [ResponseLogprob(logprob=-0.5, num_tokens=99) for _ in requests]

    both = backfilled(
        reference, tmp_path / "policy.jsonl", scorer=policy, column="policy_logprob", mapped=mapped
    )
    assert set(both.columns) == {"ref_logprob", "policy_logprob", "num_tokens"}
    log = log_of(both)
    assert numbers(log.ref_logprobs) == EXPECTED
    assert numbers(log.policy_logprobs) == [-0.5, -0.5, -0.5, None, -0.5]
    assert log.num_tokens is not None
    assert log.num_tokens.tolist() == [3, 4, 3, -1, 3]


def test_bad_rows_stay_what_they_are(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(
        '{"response": "ab"}\nno json\n{"response": 5}\n[1]\n{"response": "cd", "num_tokens": "many"}\n'
        '{"response": {"role": "user"}}\n{"response": "ef"}\n{"response": "gh", "rew'
    )
    before = read_log(open_source(path), map_columns({"response": "", "num_tokens": 0}).convert)
    found = backfilled(open_source(path), tmp_path / "ref.jsonl")
    log = log_of(found)
    assert log.bad == before.bad
    assert log.first_places == before.first_places
    assert numbers(log.ref_logprobs) == [-3.0, -3.0]
    assert sum(isinstance(row, BadLineError) for row in rows_of(found)) == 3


def test_a_first_row_that_is_bad_has_the_columns(tmp_path: Path) -> None:
    rows = [{"response": 3.5, "num_tokens": "x"}, {"response": "ab", "num_tokens": None}]
    log = log_of(backfilled(RecordSource(rows), tmp_path / "ref.jsonl"))
    assert numbers(log.ref_logprobs) == [-3.0]


def test_what_the_model_cannot_have_written_is_counted_and_not_asked_again(tmp_path: Path) -> None:
    values = {"a": -1.0, "b": math.nan, "c": -math.inf, "d": None}

    def scorer(requests: Sequence[Request]) -> list[ResponseLogprob | None]:
        found = [values[request.response] for request in requests]
        return [
            None if v is None else ResponseLogprob(logprob=v, num_tokens=1, as_it_stands=True) for v in found
        ]

    source = RecordSource([{"response": name} for name in "abcda"])
    found = backfilled(source, tmp_path / "ref.jsonl", scorer=scorer)
    assert (found.computed, found.failed, found.as_they_stand) == (2, 3, 2)
    assert numbers(log_of(found).ref_logprobs) == [-1.0, None, None, None, -1.0]
    again = backfilled(source, tmp_path / "ref.jsonl", scorer=Counted(fails_at=1))
    assert (again.computed, again.failed, again.as_they_stand) == (2, 3, 2)


MANY = [
    {"prompt": f"p{i % 3}", "response": "x" * (1 + i % 7), "reward": i % 2, "truncated": False}
    for i in range(50)
]


def test_a_killed_computation_goes_on(tmp_path: Path) -> None:
    path, source = tmp_path / "ref.jsonl", RecordSource(MANY)
    whole = numbers(log_of(backfilled(source, tmp_path / "whole.jsonl")).ref_logprobs)
    first = Counted(fails_at=4)
    with pytest.raises(KeyboardInterrupt):
        backfilled(source, path, scorer=first, batch=8)
    assert len(path.read_text().splitlines()) == 1 + 3 * 8
    second = Counted()
    log = log_of(backfilled(source, path, scorer=second, batch=7))
    assert second.calls[0][0].response == MANY[24]["response"]
    assert len(second.calls) == 4
    assert numbers(log.ref_logprobs) == whole
    assert path.read_text() == (tmp_path / "whole.jsonl").read_text()


@pytest.mark.parametrize("cut", ["a line's end", "half a line", "half of the first line", "all"])
def test_a_cut_off_last_line_is_dropped(cut: str, tmp_path: Path) -> None:
    path, source = tmp_path / "ref.jsonl", RecordSource(MANY)
    whole = numbers(log_of(backfilled(source, path)).ref_logprobs)
    text = path.read_bytes()
    half = text.rindex(b"logprob"), text.index(b"model")
    ends = {
        "a line's end": len(text) - 1,
        "half a line": half[0],
        "half of the first line": half[1],
        "all": 0,
    }
    path.write_bytes(text[: ends[cut]])
    scorer = Counted()
    assert numbers(log_of(backfilled(source, path, scorer=scorer, batch=1)).ref_logprobs) == whole
    assert len(scorer.calls) == (1 if "a line" in cut else 50)
    assert path.read_bytes() == text


def test_a_model_that_cannot_be_loaded_leaves_no_results_of_its_own(tmp_path: Path) -> None:
    def missing(requests: object) -> list[ResponseLogprob | None]:
        raise InputError("no such model")

    path, source = tmp_path / "ref.jsonl", RecordSource(MANY)
    with pytest.raises(InputError, match="no such model"):
        backfilled(source, path, scorer=missing, model="n")
    assert backfilled(source, path, model="m").computed == 50


def test_results_of_another_model_or_log_are_refused(tmp_path: Path) -> None:
    path, source = tmp_path / "ref.jsonl", RecordSource(MANY)
    backfilled(source, path)
    before = path.read_bytes()
    remedy = "choose another folder or delete the file$"
    with pytest.raises(
        InputError,
        match=f"^{re.escape(str(path))} holds results of another `model`: expected 'n'; got 'm': {remedy}",
    ):
        backfilled(source, path, model="n")
    with pytest.raises(InputError, match=f"another `column`.*{remedy}"):
        backfilled(source, path, column="policy_logprob")
    for change in ({"prompt": "other"}, {"response": "other"}, {"truncated": True}, {"response": None}):
        with pytest.raises(InputError, match=f"another `log`.*{remedy}"):
            backfilled(RecordSource([*MANY[:-1], {**MANY[-1], **change}]), path)
    with pytest.raises(InputError, match=f"another `log`.*{remedy}"):
        backfilled(RecordSource([*MANY, MANY[0]]), path)
    assert path.read_bytes() == before
    # What results do not depend on may change.
    assert backfilled(RecordSource([{**row, "reward": 7, "step": 1} for row in MANY]), path).computed == 50


@pytest.mark.parametrize(
    ("number", "line"),
    [
        (1, "hello"),
        (1, "[]"),
        (3, "{}"),
        (3, '{"file": 0, "line": "x", "logprob": -1.0, "num_tokens": 1}'),
        (3, '{"file": 0, "line": 1, "logprob": -1.0, "num_tokens": 1}'),
        (3, '{"file": 0, "line": 2, "logprob": "low", "num_tokens": 1}'),
        (3, '{"file": 0, "line": 2, "logprob": NaN, "num_tokens": 1}'),
    ],
)
def test_a_file_of_something_else_is_refused_and_left_alone(number: int, line: str, tmp_path: Path) -> None:
    path, source = tmp_path / "ref.jsonl", RecordSource(MANY)
    backfilled(source, path)
    lines = path.read_text().splitlines()
    lines[number - 1] = line
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(
        InputError, match=rf"^.*ref\.jsonl, line {number}: expected a result; got .*; choose|.*"
    ):
        backfilled(source, path)
    assert path.read_text() == "\n".join(lines) + "\n"


def test_a_text_without_a_lines_end_is_no_cut_off_head(tmp_path: Path) -> None:
    path = tmp_path / "ref.jsonl"
    path.write_text("my notes")
    with pytest.raises(InputError, match="line 1: expected a result; got b'my notes'"):
        backfilled(RecordSource(MANY), path)
    assert path.read_text() == "my notes"


def test_two_processes_do_not_write_one_file(tmp_path: Path) -> None:
    path = tmp_path / "ref.jsonl"
    with open_cache(path, {"a": "b"}), pytest.raises(RunError, match="is in use by another process"):
        backfilled(RecordSource(MANY), path)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=r"^cannot write .*ref\.jsonl: "):
        backfilled(RecordSource(MANY), tmp_path / "file" / "ref.jsonl")


TRL = [
    {"step": 1, "prompt": "user\nhi\nassistant\n", "completion": text, "accuracy": 1.0, "advantage": 0.0}
    for text in ("a", "bb")
]


def test_added_columns_are_no_rewards_of_trl(tmp_path: Path) -> None:
    found = backfilled(RecordSource(TRL), tmp_path / "ref.jsonl")
    mapped = map_columns(merged_row(found), columns=found.columns)
    assert (mapped.format, mapped.sources["reward"]) == ("trl", "accuracy")
    assert numbers(read_log(found, mapped.convert).rewards) == [1.0, 1.0]


def test_prompts_are_asked_for_and_not_their_keys(tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "hi"}]
    logs: list[tuple[dict[str, Any], dict[str, str], Any, bool]] = [
        ({"prompt": "p", "response": "r"}, {}, "p", False),
        ({"prompt": messages, "response": "r"}, {}, messages, False),
        ({"response": "r"}, {}, None, False),
        ({"question": "q", "response": "r"}, {"prompt": "question"}, "q", False),
        ({"prompt": "p", "completion": [{"role": "assistant", "content": "r"}]}, {}, "p", True),
        ({"input": "i", "output": "r", "score": 1, "uid": "77_0_0"}, {}, "i", True),
        ({"input": "i", "output": "r", "score": 1, "uid": "7", "q": "q"}, {"prompt": "q"}, "q", False),
        ({"input": "i", "output": "r", "reward": 1}, {}, "i", True),
        ({"SMILES": "r", "Prior": "nan", "Agent": "1", "Score": "1", "Input_SMILES": "CC"}, {}, "CC", False),
        ({"smiles": "r", "oracle_calls": 1, "penalized_reward": 1, "reward": 1}, {}, None, False),
    ]
    for number, (row, columns, prompt, is_decoded) in enumerate(logs):
        mapped, asked = map_columns(row, columns=columns), list[Request]()

        def scorer(requests: Sequence[Request], asked: list[Request] = asked) -> list[ResponseLogprob | None]:
            asked.extend(requests)
            return [None]

        backfilled(RecordSource([row]), tmp_path / str(number), scorer=scorer, mapped=mapped)
        assert [(request.prompt, request.response) for request in asked] == [(prompt, "r")]
        assert mapped.has_decoded_prompts == is_decoded


def test_an_audit_of_a_backfilled_log(tmp_path: Path) -> None:
    rows = [{"prompt": f"p{i % 4}", "response": "x" * (1 + i % 5), "reward": float(i % 2)} for i in range(80)]
    source = RecordSource(rows)
    mapped = map_columns(rows[0])
    before = audit_source(source, mapped, AuditConfig(beta=0.1))
    assert before.of("AM011").state == "skipped"
    found = backfilled(source, tmp_path / "ref.jsonl", mapped=mapped)
    after = audit_source(found, map_columns(merged_row(found), columns=found.columns), AuditConfig(beta=0.1))
    assert after.of("AM011").state == "issue"
    assert after.of("AM045").state == "passed"
