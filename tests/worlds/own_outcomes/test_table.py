"""Reading outcomes: every form that is allowed, and what is said of every one that is not."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from allmodes.cli.samples import SAMPLES
from allmodes.errors import InputError
from allmodes.reports.formatting import shown_name
from allmodes.worlds.own_outcomes.table import OutcomeTable, read_outcomes

SAMPLE = SAMPLES / "outcomes.csv"
HINT = "; --normalise rescales probabilities that are known up to a factor, as those of samples are"


def read(folder: Path, text: str | bytes, name: str = "f.csv", *, normalise: bool = False) -> OutcomeTable:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_outcomes(path, normalise=normalise)


def complaint(folder: Path, text: str | bytes, name: str = "f.csv", *, normalise: bool = False) -> str:
    """The error without the folder's name."""
    with pytest.raises(InputError) as caught:
        read(folder, text, name, normalise=normalise)
    message = str(caught.value)
    assert "\n" not in message
    return message.replace(f"{folder}/", "")


def probabilities(table: OutcomeTable) -> list[float]:
    return table.ref_logprobs.exp().tolist()


def test_the_sample() -> None:
    table = read_outcomes(SAMPLE)
    assert table.names[0] == "usual answer"
    assert table.rewards.tolist() == [1.0, 1.0, 1.0, 0.9, 0.7, 0.5, 0.1, 0.0]
    assert probabilities(table) == pytest.approx(
        [0.08, 0.01, 0.0004, 0.02, 0.3, 0.25, 0.2396, 0.1], rel=1e-14
    )
    assert table.rewards.dtype == table.ref_logprobs.dtype == torch.float64


def test_a_spreadsheets_csv(tmp_path: Path) -> None:
    """Byte-order mark, Windows line ends, blank lines, spaces, quotes, columns that nobody asked for."""
    text = '\ufeffoutcome, reward ,note,ref_prob\r\n\r\n"a, ""b""\nsecond line",1.5,x,0.25\r\n'
    text += "c,-2e-1,, 0.75 \r\n\r\n"
    table = read(tmp_path, text)
    assert table.names == ('a, "b"\nsecond line', "c")
    assert table.rewards.tolist() == [1.5, -0.2]
    assert probabilities(table) == pytest.approx([0.25, 0.75], rel=1e-15)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "latin-1"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_encodings_line_ends_and_delimiters(tmp_path: Path, encoding: str, end: str, mark: str) -> None:
    rows = [["outcome", "reward", "probability"], ["é", "1.5", "0.25"], ["b", "2", "0.75"]]
    text = end.join(mark.join(row) for row in rows) + end
    table = read(tmp_path, text.encode(encoding))
    assert (table.names, table.rewards.tolist()) == (("é", "b"), [1.5, 2])
    assert probabilities(table) == pytest.approx([0.25, 0.75], rel=1e-15)


@pytest.mark.parametrize("column", ["logprob", "ref_logprob"])
def test_logprobs_and_an_outcome_without_mass(tmp_path: Path, column: str) -> None:
    table = read(tmp_path, f"reward,{column}\n1,-0.6931471805599453\n2,-inf\n3,{math.log(0.5)}\n")
    assert table.names == ("1", "2", "3")
    assert table.ref_logprobs.tolist() == pytest.approx([math.log(0.5), -math.inf, math.log(0.5)], rel=1e-15)


def test_a_rounding_error_above_zero_is_certainty(tmp_path: Path) -> None:
    assert read(tmp_path, "reward,logprob\n1,9e-10\n").ref_logprobs.tolist() == [0.0]
    assert 'got "2e-9"' in complaint(tmp_path, "reward,logprob\n1,2e-9\n")


def test_a_probability_of_zero_is_no_mass(tmp_path: Path) -> None:
    assert read(tmp_path, "reward,probability\n1,0\n0,1\n").ref_logprobs.tolist() == [-math.inf, 0.0]


@pytest.mark.parametrize(
    "value",
    [
        [
            {"outcome": "a", "reward": 1, "probability": 0.25, "more": [1]},
            {"outcome": 7, "reward": 0.5, "probability": 0.75},
        ],
        {"reward": [1, 0.5], "probability": [0.25, 0.75], "outcome": ["a", 7], "more": "nothing"},
    ],
)
def test_json_in_both_forms(tmp_path: Path, value: Any) -> None:
    table = read(tmp_path, json.dumps(value), "f.JSON")
    assert table.names == ("a", "7")
    assert table.rewards.tolist() == [1.0, 0.5]
    assert probabilities(table) == pytest.approx([0.25, 0.75], rel=1e-15)


@pytest.mark.parametrize("minus_infinity", ["-Infinity", '"-inf"'])
def test_json_without_mass(tmp_path: Path, minus_infinity: str) -> None:
    table = read(tmp_path, f'{{"reward": [1, 2], "logprob": [0, {minus_infinity}]}}', "f.json")
    assert table.ref_logprobs.tolist() == [0.0, -math.inf]


def test_rounded_probabilities_are_renormalised_exactly(tmp_path: Path) -> None:
    table = read(tmp_path, "reward,probability\n1,0.3333333\n1,0.3333333\n1,0.3333333\n")
    assert probabilities(table) == pytest.approx([1 / 3] * 3, rel=1e-15)
    assert float(table.ref_logprobs.exp().sum()) == pytest.approx(1, abs=1e-15)


@pytest.mark.parametrize("off", [0.9e-6, -0.9e-6])
def test_the_sum_may_be_off_by_a_millionth(tmp_path: Path, off: float) -> None:
    read(tmp_path, f"reward,probability\n1,0.5\n1,{0.5 + off!r}\n")
    assert "sum to 1" in complaint(tmp_path, f"reward,probability\n1,0.5\n1,{0.5 + 1.2 * off!r}\n")


def test_normalise_takes_counts_and_sequence_logprobs(tmp_path: Path) -> None:
    counts = read(tmp_path, "reward,probability\n1,3\n0,9\n", normalise=True)
    assert probabilities(counts) == pytest.approx([0.25, 0.75], rel=1e-15)
    # exp(-1500) is 0 in floating point; what counts is the difference.
    sequences = read(tmp_path, f"reward,logprob\n1,-1500\n0,{-1500 + math.log(3)}\n", normalise=True)
    assert probabilities(sequences) == pytest.approx([0.25, 0.75], rel=1e-12)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "f.csv: expected a header and at least one outcome; got an empty file"),
        ("\n \n", "f.csv: expected a header and at least one outcome; got an empty file"),
        ("reward,probability\n", "f.csv: expected at least one outcome; got none"),
        (
            "outcome,probability\na,1\n",
            "f.csv, line 1: expected a column `reward`; got outcome, probability",
        ),
        (
            "\nreward,prob\n1,1\n",
            "f.csv, line 2: expected exactly one column of `probability` or `logprob`; got reward, prob",
        ),
        (
            "reward,logprob,ref_prob\n1,0,1\n",
            "f.csv, line 1: expected exactly one column of `probability` or `logprob`; "
            "got both `logprob` and `ref_prob`",
        ),
        ("reward,probability,reward\n1,1,1\n", "f.csv, line 1: expected one column `reward`; got 2"),
        (
            "reward,probability\n1,0.5\n\n1\n",
            "f.csv, line 4: expected 2 fields (reward, probability); got 1",
        ),
        (
            "reward,probability\n1,0.5\n1,0,5\n",
            "f.csv, line 3: expected 2 fields (reward, probability); got 3",
        ),
        (
            "reward,probability\n1,0.5\nhigh,0.5\n",
            'f.csv, line 3, column `reward`: expected a finite number; got "high"',
        ),
        ("reward,probability\n,1\n", 'f.csv, line 2, column `reward`: expected a finite number; got ""'),
        (
            "reward,probability\nnan,1\n",
            'f.csv, line 2, column `reward`: expected a finite number; got "nan"',
        ),
        (
            "reward,probability\n-inf,1\n",
            'f.csv, line 2, column `reward`: expected a finite number; got "-inf"',
        ),
        (
            "reward,probability\n1e999,1\n",
            'f.csv, line 2, column `reward`: expected a finite number; got "1e999"',
        ),
        (
            "reward,ref_prob\n1,1\n1,-0.1\n",
            'f.csv, line 3, column `ref_prob`: expected a finite number, 0 or above; got "-0.1"',
        ),
        (
            "reward,probability\n1,50%\n",
            'f.csv, line 2, column `probability`: expected a finite number, 0 or above; got "50%"',
        ),
        (
            "reward,probability\n1,inf\n",
            'f.csv, line 2, column `probability`: expected a finite number, 0 or above; got "inf"',
        ),
        (
            "reward,logprob\n1,0.5\n",
            'f.csv, line 2, column `logprob`: expected a log-probability of at most 0, or -inf; got "0.5"',
        ),
        (
            "reward,logprob\n1,nan\n",
            'f.csv, line 2, column `logprob`: expected a log-probability of at most 0, or -inf; got "nan"',
        ),
        (
            "reward,logprob\n1,inf\n",
            'f.csv, line 2, column `logprob`: expected a log-probability of at most 0, or -inf; got "inf"',
        ),
        (
            'outcome,reward,probability\n"a\nb",1,0.5\nc,1,0.2\n"a\nb",1,0.3\n',
            'f.csv, line 5, column `outcome`: expected every name once; got "a\\nb", '
            "which is on line 2 already",
        ),
        (
            "reward,probability\n1,0.5\n1,0.4\n",
            "f.csv, column `probability`: expected probabilities that sum to 1 (within 1e-06); "
            f"got a sum of 0.9{HINT}",
        ),
        (
            "reward,logprob\n1,-1000\n1,-1000\n",
            "f.csv, column `logprob`: expected probabilities that sum to 1 (within 1e-06); "
            f"got a sum of exp(-999.307){HINT}",
        ),
        (
            'outcome,reward,probability\n"a,1,1\n',
            "f.csv, line 2: expected comma-separated fields; unexpected end of data",
        ),
    ],
)
def test_what_is_wrong_with_a_csv(tmp_path: Path, text: str | bytes, message: str) -> None:
    assert complaint(tmp_path, text) == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (" ", "f.json: expected at least one outcome; got an empty file"),
        ("[]", "f.json: expected at least one outcome; got none"),
        ('{"reward": [], "probability": []}', "f.json: expected at least one outcome; got none"),
        ("{}", "f.json: expected a column `reward`; got none"),
        ("3", "f.json: expected a list of objects or an object of lists; got 3"),
        ('[\n{"reward": 1,}]', "f.json, line 2: expected valid JSON; "),
        ("[" * 100_000, "f.json: expected valid JSON; "),
        ("[" + "9" * 5000 + "]", "f.json: expected valid JSON; "),
        ("[[1, 0.5]]", "f.json, row 1: expected an object; got [1, 0.5]"),
        (
            '[{"reward": 1, "probability": 0.5}, {"probability": 0.5}]',
            "f.json, row 2: expected a column `reward`; got probability",
        ),
        (
            '[{"reward": 1, "probability": 0.5}, {"reward": 1, "logprob": -1}]',
            "f.json: expected exactly one column of `probability` or `logprob`; "
            "got both `probability` and `logprob`",
        ),
        (
            '[{"reward": 1, "probability": 0.5}, {"reward": null, "probability": 0.5}]',
            "f.json, row 2, column `reward`: expected a finite number; got null",
        ),
        (
            '[{"reward": true, "probability": 1}]',
            "f.json, row 1, column `reward`: expected a finite number; got true",
        ),
        (
            '[{"reward": NaN, "probability": 1}]',
            "f.json, row 1, column `reward`: expected a finite number; got NaN",
        ),
        (
            '[{"reward": 1, "probability": [1]}]',
            "f.json, row 1, column `probability`: expected a finite number, 0 or above; got [1]",
        ),
        (
            '{"reward": [1, 2, 3], "probability": [0.5, 0.5]}',
            "f.json, column `probability`: expected 3 values like `reward`; got 2",
        ),
        ('{"reward": [1], "probability": 1}', "f.json, column `probability`: expected a list; got 1"),
        (
            '{"reward": [1, 1], "probability": [0.5, 0.5], "outcome": ["a", "a"]}',
            'f.json, row 2, column `outcome`: expected every name once; got "a", which is on row 1 already',
        ),
        (
            '{"reward": [1], "probability": [1], "outcome": [null]}',
            "f.json, row 1, column `outcome`: expected a name; got null",
        ),
    ],
)
def test_what_is_wrong_with_json(tmp_path: Path, text: str, message: str) -> None:
    got = complaint(tmp_path, text, "f.json")
    assert got.startswith(message) if message.endswith("; ") else got == message


@pytest.mark.parametrize("text", ["reward,probability\n1,0\n2,0\n", "reward,logprob\n1,-inf\n"])
def test_no_mass_at_all_cannot_be_normalised(tmp_path: Path, text: str) -> None:
    for normalise in (False, True):
        message = complaint(tmp_path, text, normalise=normalise)
        assert message.endswith("expected at least one outcome with probability above 0; got a sum of 0")


def test_files_that_are_none(tmp_path: Path) -> None:
    assert complaint(tmp_path, "x", "f.tsv") == "f.tsv: expected a .csv or .json file; got '.tsv'"
    for path, reason in ((tmp_path / "no.csv", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(InputError, match=f"cannot read {path}: {reason}"):
            read_outcomes(path)


def test_shown_names_are_short_and_one_line() -> None:
    assert shown_name("C1=CC") == "C1=CC"
    assert shown_name(" a\n\tb\x1b[0m") == "a b?[0m"
    assert shown_name("") == "(empty)"
    long = shown_name("abcdefghijklmnopqrstuvwxyz", 10)
    assert long == "abcdef…xyz"
    assert len(long) == 10
