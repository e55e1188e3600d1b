"""Which line of a program belongs to which molecule: never the wrong one, whatever the program writes."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from allmodes.chem import score
from allmodes.chem.config import MoleculesConfig
from allmodes.chem.design.design import new_design, resume_design
from allmodes.chem.design.ledger import read_ledger
from allmodes.chem.design.loop import DesignLoop
from allmodes.chem.oracles.config import OracleConfig
from allmodes.chem.oracles.oracle import ComponentOracle
from allmodes.chem.oracles.results import Evaluation, StrayLineError
from allmodes.errors import ConfigError
from allmodes.runs.config import build_config
from molecule_settings import training_config

PLAIN = """
import os, sys, time
for line in sys.stdin:
    smiles = line.strip()
    value = len(smiles) / 10
    BEHAVIOUR
    print(value, flush=True)
    AFTER
"""
JSON = """
import json, os, sys, time
for line in sys.stdin:
    request = json.loads(line)
    number, smiles = request["id"], request["smiles"]
    def answer(value, id=number, end="\\n"):
        print(json.dumps({"id": id, "value": value}), end=end, flush=True)
    value = len(smiles) / 10
    BEHAVIOUR
    answer(value)
    AFTER
"""
SIX = ["CCC", "CCN", "CCCC", "CCCCC", "CCCCCC", "CCCCCCC"]


def oracle_of(
    folder: Path, source: str, protocol: str, *, behaviour: str = "pass", after: str = "pass"
) -> OracleConfig:
    path = folder / "program.py"
    path.write_text(source.replace("BEHAVIOUR", behaviour).replace("AFTER", after))
    component = {
        "name": "mine",
        "kind": "process",
        "protocol": protocol,
        "command": [sys.executable, "-S", "-E", str(path)],
        "time_limit": 0.5,
        "start_limit": 20,
    }
    return OracleConfig.model_validate({"components": [component]})


def batch(config: OracleConfig, smiles: list[str]) -> tuple[list[Evaluation], StrayLineError | None]:
    """The evaluations of one batch, and the error that ended it or that `finish` raised."""
    found: list[Evaluation] = []
    with ComponentOracle(config) as oracle:
        try:
            for future in oracle.submit(smiles):
                found.append(future.result(timeout=30))  # noqa: PERF401 - those before an error count, too
            oracle.finish()
        except StrayLineError as error:
            return found, error
    return found, None


def kinds(found: list[Evaluation]) -> dict[str, str]:
    return {e.smiles: e.failure.split(": ")[1] for e in found if e.failure is not None}


@pytest.mark.parametrize(
    ("when", "behaviour", "after"),
    [
        ("50 ms later", "pass", "if smiles == 'CCN': time.sleep(0.05); print(.99, flush=True)"),
        ("at once", "pass", "if smiles == 'CCN': print(.99, flush=True)"),
        ("before the answer", "if smiles == 'CCN': print(.99, flush=True); time.sleep(0.05)", "pass"),
        ("in the same piece", "if smiles == 'CCN': os.write(1, b'0.99\\n')", "pass"),
        ("the same line twice", "pass", "if smiles == 'CCN': print(value, flush=True)"),
        # Slow enough to be a line behind all the time: no line waits when the next molecule is sent.
        ("slow", "time.sleep(0.1)", "if smiles == 'CCN': time.sleep(0.05); print(.99, flush=True)"),
    ],
)
def test_a_stray_line_of_a_plain_program_stops_its_batch(
    when: str, behaviour: str, after: str, tmp_path: Path
) -> None:
    """A shift by one molecule was silent: .99 was the score of the next molecule, and so on."""
    config = oracle_of(tmp_path, PLAIN, "plain", behaviour=behaviour, after=after)
    found, error = batch(config, SIX)
    assert error is not None, when
    assert "\n" not in str(error)
    assert "component 'mine': expected one line for each SMILES; got one more" in str(error)
    assert 'protocol = "json"' in str(error)
    assert len(found) < len(SIX)  # so the batch is never complete


def test_a_stray_line_after_the_last_answer_is_noticed_at_the_end(tmp_path: Path) -> None:
    late = "if len(smiles) == 7: time.sleep(0.3); print(.99, flush=True)"
    _, error = batch(oracle_of(tmp_path, PLAIN, "plain", after=late), SIX)
    assert error is not None


@pytest.mark.parametrize("noise", ["", "warning: slow", "{", "[]"])
def test_noise_of_a_plain_program_never_changes_a_score(noise: str, tmp_path: Path) -> None:
    """It costs a molecule or the batch, whichever comes first; which of them is a matter of microseconds."""
    after = f"if smiles == 'CCN': print({noise!r}, flush=True)"
    found, _ = batch(oracle_of(tmp_path, PLAIN, "plain", after=after), SIX)
    assert all(e.reward is None or e.reward == len(e.smiles) / 10 for e in found)
    assert len(found) < len(SIX) or any(e.reward is None for e in found)


def test_a_part_of_a_line_makes_the_next_one_invalid(tmp_path: Path) -> None:
    after = "if smiles == 'CCN': time.sleep(0.02); os.write(1, b'.9')"
    found, error = batch(oracle_of(tmp_path, PLAIN, "plain", after=after), SIX)
    assert error is None
    assert kinds(found) == {"CCCC": "malformed"}
    assert [e.reward for e in found] == [0.3, 0.3, None, 0.5, 0.6, 0.7]


def test_an_honest_plain_program_is_trusted(tmp_path: Path) -> None:
    config = oracle_of(tmp_path, PLAIN, "plain", after="if smiles == 'CCN': time.sleep(0.05)")
    found, error = batch(config, SIX)
    assert error is None
    assert [e.reward for e in found] == [len(smiles) / 10 for smiles in SIX]


def test_a_missing_line_of_a_plain_program_costs_its_molecule_alone(tmp_path: Path) -> None:
    config = oracle_of(tmp_path, PLAIN, "plain", behaviour="if smiles == 'CCN': continue")
    found, error = batch(config, SIX)
    assert error is None
    assert [e.reward for e in found] == [0.3, None, 0.4, 0.5, 0.6, 0.7]
    assert (found[1].failure or "").startswith("mine: timed_out")


@pytest.mark.parametrize("last", ["print('done', flush=True)", "print('2 molecules', flush=True)"])
def test_a_goodbye_of_a_plain_program_is_no_answer(last: str, tmp_path: Path) -> None:
    found, error = batch(oracle_of(tmp_path, PLAIN + f"\n{last}", "plain"), ["C", "CC"])
    assert error is None
    assert [e.reward for e in found] == [0.1, 0.2]


def test_a_late_answer_at_the_end_of_the_input_is_noticed(tmp_path: Path) -> None:
    _, error = batch(oracle_of(tmp_path, PLAIN + "\nprint(.99, flush=True)", "plain"), ["C", "CC"])
    assert error is not None


@pytest.mark.parametrize("early", ["print(.5, flush=True)", "print('0.5\\n0.6', flush=True)"])
def test_a_line_before_the_first_request_is_noticed_by_the_probe(early: str, tmp_path: Path) -> None:
    config = oracle_of(tmp_path, f"{early}\n{PLAIN}", "plain")
    with pytest.raises(ConfigError, match="expected one line for each SMILES"), ComponentOracle(config) as it:
        it.probe()


@pytest.mark.parametrize(
    ("behaviour", "after", "costs"),
    [
        ("if smiles == 'CCN': print(.99, flush=True)", "pass", {"CCN"}),
        ("if smiles == 'CCN': answer(.99, id=number - 1)", "pass", {"CCN"}),
        ("if smiles == 'CCN': answer(.99, id=number + 1)", "pass", {"CCN"}),
        ("if smiles == 'CCN': answer(.99, id=str(number)); continue", "pass", {"CCN"}),
        ("if smiles == 'CCN': answer(.99, id=float(number)); continue", "pass", {"CCN"}),
        ("if smiles == 'CCN': answer(.99, id=True); continue", "pass", {"CCN"}),
        ("if smiles == 'CCN': print(json.dumps({'value': .99}), flush=True); continue", "pass", {"CCN"}),
        ("if smiles == 'CCN': print(json.dumps([number, .99]), flush=True); continue", "pass", {"CCN"}),
        ("if smiles == 'CCN': answer(.99, end=''); time.sleep(9)", "pass", {"CCN"}),
        ("if smiles == 'CCN': continue", "pass", {"CCN"}),
        ("pass", "if smiles == 'CCN': time.sleep(0.05); answer(.99)", {"CCCC"}),  # twice, and late
        ("pass", "if smiles == 'CCN': time.sleep(0.05); print(.99, flush=True)", {"CCCC"}),
        ("pass", "if smiles == 'CCN': answer(.99)", {"CCCC"}),
    ],
)
def test_with_ids_no_line_counts_for_another_molecule(
    behaviour: str, after: str, costs: set[str], tmp_path: Path
) -> None:
    config = oracle_of(tmp_path, JSON, "json", behaviour=behaviour, after=after)
    found, error = batch(config, SIX)
    assert error is None
    assert set(kinds(found)) == costs
    assert set(kinds(found).values()) <= {"malformed", "timed_out"}
    assert {e.smiles: e.reward for e in found if e.reward is not None} == {
        smiles: len(smiles) / 10 for smiles in SIX if smiles not in costs
    }


def test_with_ids_all_kinds_of_answers_are_as_without(tmp_path: Path) -> None:
    source = """
import json, sys
said = {"C": {"value": 0.5, "details": {"a": 1}}, "CC": {"error": "no pose"}, "CCC": {"value": None}}
for line in sys.stdin:
    request = json.loads(line)
    print(json.dumps({"id": request["id"], **said[request["smiles"]]}), flush=True)
"""
    found, error = batch(oracle_of(tmp_path, source, "json"), ["C", "CC", "CCC"])
    assert error is None
    assert (found[0].reward, found[0].details) == (0.5, {"mine": {"a": 1}})
    assert kinds(found) == {"CC": "raised", "CCC": "not_finite"}


FORKING = """
import os
def score(smiles):
    if smiles == "CCN":
        os.fork()  # and both of them come back
    return len(smiles) / 10
"""


def test_a_function_that_forks_answers_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "forking.py").write_text(FORKING)
    component: dict[str, Any] = {"kind": "function", "name": "mine", "function": "forking:score"}
    found, error = batch(OracleConfig.model_validate({"components": [component]}), SIX)
    assert error is None
    rewards = {e.smiles: e.reward for e in found if e.reward is not None}
    assert rewards == {smiles: len(smiles) / 10 for smiles in rewards}
    assert len(rewards) >= len(SIX) - 1


def test_escape_bytes_of_a_program_reach_nothing(tmp_path: Path) -> None:
    said = json.dumps({"error": "\x1b[31mred\x1b[0m\r\n\x00\u202edrowkcab\x9b1m"})
    config = oracle_of(tmp_path, PLAIN, "plain", behaviour=f"print({said!r}, flush=True); continue")
    (found,), _ = batch(config, ["C"])
    assert found.failure is not None
    assert found.failure.isprintable()
    assert "red" in found.failure


def test_escape_bytes_of_a_dying_program_reach_nothing(tmp_path: Path) -> None:
    dying = "os.write(2, b'\\x1b]0;title\\x07 last words'); os._exit(3)"
    (found,), _ = batch(oracle_of(tmp_path, PLAIN, "plain", behaviour=dying), ["C"])
    assert found.failure is not None
    assert found.failure.isprintable()
    assert "last words" in found.failure


# What a run and a scoring make of it

WATCHED = """
import os, sys, time
for line in sys.stdin:
    open("ASKED", "a").write(line)
    print(min(1.0, len(line.strip()) / 10), flush=True)
    if os.path.exists("STRAY") and open("STRAY").read() in ("any", line.strip()):
        os.remove("STRAY")
        time.sleep(0.05)
        print(.99, flush=True)
"""


def watched(folder: Path) -> dict[str, Any]:
    path = folder / "watched.py"
    path.write_text(WATCHED.replace("ASKED", str(folder / "asked")).replace("STRAY", str(folder / "stray")))
    return {"name": "mine", "kind": "process", "command": [sys.executable, "-S", "-E", str(path)]}


def design_config(prior: Path, folder: Path) -> MoleculesConfig:
    return training_config(
        prior,
        algorithm="reinvent",
        budget=96,
        hit_threshold=0.6,
        checkpoint_every=2,
        oracle={"components": [watched(folder)]},
    )


def evaluations(out: Path) -> list[tuple[str, float | None]]:
    rows = read_ledger(out / "reinvent-0" / "ledger.sqlite")
    return [(row.evaluation.smiles, row.evaluation.reward) for row in rows]


def test_a_run_keeps_no_score_beyond_the_checkpoint_after_a_stray_line(
    tiny_prior: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, config = tmp_path / "run", design_config(tiny_prior, tmp_path)
    original = DesignLoop._train_step

    def then_stray(self: DesignLoop, batch: Any) -> Any:
        done = original(self, batch)
        if self._step == 3:  # so batch 4 has it, and the last checkpoint is that of step 2
            (tmp_path / "stray").write_text("any")
        return done

    monkeypatch.setattr(DesignLoop, "_train_step", then_stray)
    with pytest.raises(StrayLineError, match="expected one line for each SMILES"):
        new_design(config, out)
    assert len(evaluations(out)) <= 32
    assert not (out / "reinvent-0" / "result.json").exists()
    monkeypatch.undo()
    resume_design(out)
    found = evaluations(out)
    assert len(found) == 96
    assert all(reward == min(1.0, len(smiles) / 10) for smiles, reward in found)


def test_a_run_that_ends_with_a_stray_line_keeps_nothing(
    tiny_prior: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, config = tmp_path / "run", design_config(tiny_prior, tmp_path)

    def lies(_: object) -> None:
        raise StrayLineError("a line too much")

    with monkeypatch.context() as patched, pytest.raises(StrayLineError):
        patched.setattr(ComponentOracle, "finish", lies)
        new_design(config, out)
    assert evaluations(out) == []
    assert not (out / "reinvent-0" / "checkpoint.safetensors").exists()
    resume_design(out)
    assert all(reward == min(1.0, len(smiles) / 10) for smiles, reward in evaluations(out))


def test_a_scoring_keeps_the_parts_before_a_stray_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(score, "_PART", 4)
    file, out = tmp_path / "a.smi", tmp_path / "out"
    file.write_text("\n".join("C" * n for n in range(1, 11)))
    oracle = build_config(OracleConfig, {"components": [watched(tmp_path)]}, source="test")
    (tmp_path / "stray").write_text("C" * 9)  # the first of the third part
    with pytest.raises(StrayLineError):
        score.score_file(file, oracle, hit_threshold=None, out=out)
    assert [len(row.evaluation.smiles) for row in read_ledger(out / "ledger.sqlite")] == list(range(1, 9))
    assert not (out / "scores.csv").exists()
    (tmp_path / "asked").unlink()
    score.score_file(file, oracle, hit_threshold=None, out=out)
    # The first part, after which another is complete, is not asked for again.
    assert (tmp_path / "asked").read_text().split() == ["CCO", *("C" * n for n in range(5, 11))]
    rows = read_ledger(out / "ledger.sqlite")
    assert [row.evaluation.reward for row in rows] == [n / 10 for n in range(1, 11)]
