import importlib.util
import os
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from rdkit import Chem, DataStructs, RDConfig
from rdkit.Chem import QED, Crippen, Descriptors, rdFingerprintGenerator, rdMolDescriptors

from allmodes.chem.oracles.config import OracleConfig
from allmodes.chem.oracles.oracle import ComponentOracle
from allmodes.chem.oracles.results import Evaluation
from allmodes.errors import ConfigError
from molecule_settings import oracle_config

ANY_VALUE = {"kind": "step", "low": -1e9}  # every value has the score 1


def evaluate(config: OracleConfig, smiles: Sequence[str]) -> list[Evaluation]:
    with ComponentOracle(config) as oracle:
        return list(oracle.evaluate(smiles))


def kind_of(evaluation: Evaluation) -> str | None:
    return None if evaluation.failure is None else evaluation.failure.split(": ")[1]


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended but was not waited for does not."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] not in "ZX"


def ends_soon(pid: int, seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not is_alive(pid)


def children() -> set[int]:
    """Processes that this one has started and that still run."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and is_alive(int(entry.name)):
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == os.getpid():
                found.add(int(entry.name))
    return found


# RDKit's own components


def test_every_rdkit_component_against_rdkit_itself(molecules: list[str]) -> None:
    references = ["CC(=O)Nc1ccc(O)cc1", "Cn1cnc2c1c(=O)n(C)c(=O)n2C"]
    patterns = ["[Cl,Br]", "C(=O)[OX2H1]"]
    config = oracle_config(
        *({"kind": kind} for kind in ("qed", "hbd", "sa_score", "logp", "weight", "tpsa", "rings")),
        {"kind": "similarity", "references": references},
        {"kind": "smarts", "patterns": patterns},
        {"name": "chlorine", "kind": "smarts", "patterns": patterns[:1]},
    )
    spec = importlib.util.spec_from_file_location(
        "sascorer_by_path", Path(RDConfig.RDContribDir) / "SA_Score" / "sascorer.py"
    )
    assert spec is not None
    assert spec.loader is not None
    sascorer = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sascorer)
    morgan = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=2048)
    theirs = [morgan.GetFingerprint(Chem.MolFromSmiles(text)) for text in references]

    seen = set()
    for smiles, got in zip(molecules, evaluate(config, molecules), strict=True):
        molecule = Chem.MolFromSmiles(smiles)
        fingerprint = morgan.GetFingerprint(molecule)
        matches = [molecule.HasSubstructMatch(Chem.MolFromSmarts(pattern)) for pattern in patterns]
        assert got.smiles == smiles
        assert got.raw == {
            "qed": pytest.approx(QED.qed(molecule)),
            "hbd": rdMolDescriptors.CalcNumHBD(molecule),
            "sa_score": pytest.approx(sascorer.calculateScore(molecule)),
            "logp": pytest.approx(Crippen.MolLogP(molecule)),
            "weight": pytest.approx(Descriptors.MolWt(molecule)),
            "tpsa": pytest.approx(rdMolDescriptors.CalcTPSA(molecule)),
            "rings": rdMolDescriptors.CalcNumRings(molecule),
            "similarity": pytest.approx(
                max(DataStructs.TanimotoSimilarity(fingerprint, other) for other in theirs)
            ),
            "smarts": float(any(matches)),
            "chlorine": float(matches[0]),
        }
        seen.add((got.raw["smarts"], got.raw["chlorine"]))
    assert seen == {(0.0, 0.0), (1.0, 0.0), (1.0, 1.0)}


def test_shaping_and_aggregation_of_a_whole_reward() -> None:
    components = [
        {"kind": "qed"},
        {"kind": "weight", "shaping": {"kind": "sigmoid", "low": 0, "high": 200, "k": 0.1}},
        {"kind": "hbd", "shaping": {"kind": "step", "high": 1}},
    ]
    molecule = Chem.MolFromSmiles("CC(=O)Oc1ccccc1C(=O)O")
    qed = QED.qed(molecule)
    weight = 1 / (1 + 10 ** (-(Descriptors.MolWt(molecule) - 100) / 200))
    rewards = {}
    for how in ("geometric_mean", "product"):
        (got,) = evaluate(oracle_config(*components, aggregation=how), ["CC(=O)Oc1ccccc1C(=O)O"])
        assert got.shaped == {"qed": pytest.approx(qed), "weight": pytest.approx(weight), "hbd": 1.0}
        assert got.failure is None
        rewards[how] = got.reward
    assert rewards["product"] == pytest.approx(qed * weight)
    assert rewards["geometric_mean"] == pytest.approx((qed * weight) ** (1 / 3))


def test_the_weights_of_components_count_in_the_reward_and_in_no_score() -> None:
    mapping = {"kind": "value_mapping", "mapping": {"0": 0.1, "1": 0.6}}
    window = {"kind": "double_sigmoid", "low": 100, "high": 200}
    components = [
        {"kind": "qed", "weight": 3},
        {"kind": "rings", "shaping": mapping},
        {"kind": "weight", "weight": 0.5, "shaping": window},
    ]
    qed = QED.qed(Chem.MolFromSmiles("CC(=O)Oc1ccccc1C(=O)O"))
    expected = {
        "geometric_mean": (qed**3 * 0.6) ** (1 / 4.5),
        "arithmetic_mean": (3 * qed + 0.6 + 0.5) / 4.5,
        "product": qed**3 * 0.6,
    }
    for how, reward in expected.items():
        (got,) = evaluate(oracle_config(*components, aggregation=how), ["CC(=O)Oc1ccccc1C(=O)O"])
        assert got.shaped == {"qed": pytest.approx(qed), "rings": 0.6, "weight": pytest.approx(1.0)}
        assert got.reward == pytest.approx(reward)
    (naphthalene,) = evaluate(oracle_config(*components), ["c1ccc2ccccc2c1"])
    assert naphthalene.reward is None
    assert naphthalene.failure is not None
    assert naphthalene.failure.startswith("rings: out_of_range: expected a value of `shaping.mapping`")


def test_a_failed_component_leaves_no_reward_and_keeps_what_is_known() -> None:
    config = oracle_config({"kind": "qed"}, {"kind": "weight"}, {"kind": "rings", "shaping": ANY_VALUE})
    got, broken = evaluate(config, ["CCO", "C(("])
    assert got.reward is None
    assert got.failure is not None
    assert got.failure.startswith("weight: out_of_range: ")
    assert set(got.raw) == {"qed", "weight", "rings"}
    assert set(got.shaped) == {"qed", "rings"}
    assert broken.failure is not None
    assert broken.failure.startswith("qed: raised: ")
    assert "C((" in broken.failure
    assert broken.raw == broken.shaped == {}
    assert broken.reward is None


# A user's Python function

HAZARDS = """
import ctypes, os, sys, time

def score(smiles):
    print("noise on stdout", 0.123)
    os.write(1, b"0.456\\n")
    if smiles == "N":
        raise RuntimeError("no such\\nmolecule")
    if smiles == "NN":
        return float("nan")
    if smiles == "NNN":
        return None
    if smiles == "NO":
        return "a text"
    if smiles == "NON":
        return float("-inf")
    if smiles == "NOO":
        return 10**400
    if smiles == "NSS":
        return 1j
    if smiles == "NS":
        return [0.5]
    if smiles == "O":
        time.sleep(60)
    if smiles == "OO":
        os._exit(7)
    if smiles == "OOO":
        sys.exit(0)
    if smiles == "S":
        ctypes.string_at(0)
    return len(smiles) / 10
"""


@pytest.fixture
def user_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the command is run in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_function_that_fails_in_every_way_costs_its_molecules_alone(user_folder: Path) -> None:
    (user_folder / "hazards.py").write_text(HAZARDS)
    failing = {
        "N": "raised",
        "NN": "not_finite",
        "NNN": "not_finite",
        "NO": "malformed",
        "NON": "not_finite",
        "NOO": "not_finite",
        "NSS": "malformed",
        "NS": "malformed",
        "O": "timed_out",
        "OO": "died",
        "OOO": "died",
        "S": "died",
    }
    good = ["C" * (count + 1) for count in range(len(failing) + 1)]
    order = [text for pair in zip(good, failing, strict=False) for text in pair] + good[-1:]
    config = oracle_config(
        {"kind": "function", "name": "mine", "function": "hazards:score", "time_limit": 0.5},
        {"kind": "weight", "shaping": ANY_VALUE},
        aggregation="product",
    )
    before = children()
    got = {evaluation.smiles: evaluation for evaluation in evaluate(config, order)}
    assert list(got) == order
    assert {smiles: kind_of(got[smiles]) for smiles in failing} == failing
    assert all(got[smiles].reward is None for smiles in failing)
    assert {smiles: got[smiles].reward for smiles in good} == {
        smiles: pytest.approx(len(smiles) / 10) if len(smiles) <= 10 else None for smiles in good
    }
    # The component that works is not touched by the one that fails.
    assert all(got[smiles].raw["weight"] > 10 for smiles in order)
    failures = {smiles: got[smiles].failure or "" for smiles in failing}
    assert all(text.startswith("mine: ") for text in failures.values())
    assert "RuntimeError: no such" in failures["N"]
    assert "0.5 s" in failures["O"]
    assert "exit code 7" in failures["OO"]
    assert "exit code 0" in failures["OOO"]
    assert f"signal {signal.SIGSEGV.value}" in failures["S"]
    assert children() == before


def test_a_function_is_imported_from_the_folder_of_the_command(user_folder: Path) -> None:
    (user_folder / "pack").mkdir()
    (user_folder / "pack" / "__init__.py").write_text("")
    (user_folder / "pack" / "inner.py").write_text("def score(smiles):\n    return 0.25\n")
    config = oracle_config({"kind": "function", "function": "pack.inner:score"})
    assert [e.reward for e in evaluate(config, ["C", "CC"])] == [0.25, 0.25]


@pytest.mark.parametrize(
    ("component", "words"),
    [
        (
            {"kind": "function", "function": "no_such_module:score"},
            ["'function'", "`function`", "no_such_module"],
        ),
        ({"kind": "function", "function": "present:absent"}, ["`function`", "'absent'", "'present'"]),
        ({"kind": "function", "function": "present:number"}, ["`function`", "got 3"]),
        ({"kind": "function", "function": "raising:score"}, ["`function`", "raising", "ZeroDivisionError"]),
        ({"kind": "function", "function": "leaving:score"}, ["did not start", "exit code 5", "leaving now"]),
        ({"kind": "smarts", "patterns": ["C", "[C"]}, ["'smarts'", "`patterns`", "'[C'"]),
        ({"kind": "similarity", "references": ["C", "C1C"]}, ["'similarity'", "`references`", "'C1C'"]),
        (
            {"kind": "process", "command": ["no-such-program-here", "x"]},
            ["`command`", "no-such-program-here"],
        ),
        ({"kind": "process", "command": ["./present.py"]}, ["`command`", "present.py"]),  # no program
    ],
)
def test_what_cannot_work_is_refused_on_entering(
    component: dict[str, Any], words: list[str], user_folder: Path
) -> None:
    (user_folder / "present.py").write_text("number = 3\n")
    (user_folder / "raising.py").write_text("1 / 0\n")
    (user_folder / "leaving.py").write_text(
        "import os, sys\nprint('leaving now', file=sys.stderr)\nsys.exit(5)\n"
    )
    before = children()
    with pytest.raises(ConfigError) as caught, ComponentOracle(oracle_config({"kind": "qed"}, component)):
        pytest.fail("entered")
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message
    assert children() == before  # the component that had been started is ended, too


def test_a_module_that_never_finishes_its_import(user_folder: Path) -> None:
    (user_folder / "slow.py").write_text("import time\ntime.sleep(60)\n")
    config = oracle_config({"kind": "function", "function": "slow:score", "start_limit": 0.3})
    with pytest.raises(ConfigError, match=r"did not start.*0\.3 s"), ComponentOracle(config):
        pytest.fail("entered")


# A user's program

PROGRAM = """
import json, os, sys, time
for line in sys.stdin:
    smiles = line.strip()
    if smiles == "BAD":
        BEHAVIOUR
    print(json.dumps({"value": len(smiles) / 10}))
    sys.stdout.flush()
"""


def program(folder: Path, behaviour: str, source: str = PROGRAM) -> dict[str, Any]:
    """A component that does something special when it is asked for the SMILES "BAD"."""
    path = folder / "program.py"
    path.write_text(source.replace("BEHAVIOUR", behaviour))
    command = [sys.executable, "-S", "-E", str(path)]
    return {"name": "mine", "kind": "process", "command": command, "time_limit": 0.5, "start_limit": 20}


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        ("0.25", 0.25),
        ('{"value": 0.25}', 0.25),
        ("1", 1.0),
        ('{"value": 0.5, "pose": [1, 2]}', 0.5),
        ("[0.5]", 0.5),
    ],
)
def test_answers_of_a_program(answer: str, value: float, tmp_path: Path) -> None:
    component = program(tmp_path, f"print({answer!r}, flush=True); continue")
    good, asked, later = evaluate(oracle_config(component), ["C", "BAD", "CCC"])
    assert (good.reward, asked.reward, later.reward) == (0.1, value, pytest.approx(0.3))
    assert asked.raw == {"mine": value}


SAYS = "print({!r}, flush=True); continue"


@pytest.mark.parametrize(
    ("behaviour", "kind", "words"),
    [
        pytest.param(SAYS.format('{"error": "no pose"}'), "raised", "no pose", id="error"),
        pytest.param(SAYS.format('{"error": null}'), "malformed", "", id="error without text"),
        pytest.param(SAYS.format("hello"), "malformed", "hello", id="text"),
        pytest.param(SAYS.format(""), "malformed", "", id="empty line"),
        pytest.param(SAYS.format('"0.5"'), "malformed", "number", id="quoted number"),
        pytest.param(SAYS.format('{"value": "0.5"}'), "malformed", "number", id="quoted value"),
        pytest.param(SAYS.format("true"), "malformed", "number", id="boolean"),
        pytest.param(SAYS.format("[0.1, 0.2]"), "malformed", "2", id="two answers in one line"),
        pytest.param(SAYS.format("[]"), "malformed", "0", id="no answer in a line"),
        pytest.param(SAYS.format("null"), "not_finite", "null", id="null"),
        pytest.param(SAYS.format("NaN"), "not_finite", "nan", id="NaN"),
        pytest.param(SAYS.format('{"value": -Infinity}'), "not_finite", "inf", id="infinity"),
        pytest.param("print('1' + '0' * 400, flush=True); continue", "not_finite", "", id="huge number"),
        pytest.param("print('[' * 100000, flush=True); continue", "malformed", "", id="deep nesting"),
        pytest.param("os.write(1, b'\\xff\\xfe\\n'); continue", "malformed", "", id="not UTF-8"),
        pytest.param("os._exit(3)", "died", "exit code 3", id="dies"),
        pytest.param("os.write(2, b'a\\nlast words\\n'); os._exit(3)", "died", "last words", id="last words"),
        pytest.param("os.abort()", "died", "signal 6", id="aborts"),
        pytest.param("os.write(1, b'0.1'); os._exit(0)", "died", "", id="half a line"),
        pytest.param("time.sleep(60)", "timed_out", "0.5 s", id="hangs"),
        pytest.param("os.write(1, b'0.1'); time.sleep(60)", "timed_out", "", id="hangs in a line"),
        pytest.param("os.close(1); time.sleep(60)", "died", "closed its output", id="closes stdout"),
        pytest.param(
            "\n        while True: os.write(1, b'x' * 4096)",
            "malformed",
            "bytes",
            id="floods without newline",
        ),
    ],
)
def test_a_program_that_fails_costs_its_molecule_alone(
    behaviour: str, kind: str, words: str, tmp_path: Path
) -> None:
    config = oracle_config(program(tmp_path, behaviour), {"kind": "rings", "shaping": ANY_VALUE})
    before = children()
    good, bad, later, last = evaluate(config, ["C", "BAD", "CCC", "CCCC"])
    assert [good.raw["mine"], later.raw["mine"], last.raw["mine"]] == [0.1, 0.3, 0.4]
    assert bad.reward is None
    assert bad.failure is not None
    assert bad.failure.startswith(f"mine: {kind}: ")
    assert words in bad.failure
    assert children() == before


@pytest.mark.parametrize("delay", [0, 0.1])
def test_a_program_that_ends_cleanly_after_each_answer_is_asked_again(delay: float, tmp_path: Path) -> None:
    """It may be asked while it is leaving: the question that it never read is no fault of the molecule."""
    source = f"""
import sys, time
smiles = sys.stdin.readline().strip()
if smiles:
    print(len(smiles) / 10, flush=True)
    time.sleep({delay})
"""
    smiles = ["C" * (count + 1) for count in range(5)]
    got = evaluate(oracle_config(program(tmp_path, "", source)), smiles)
    assert [e.failure for e in got] == [None] * 5
    assert [e.reward for e in got] == [pytest.approx(len(text) / 10) for text in smiles]


def test_a_program_that_always_ends_without_an_answer_is_not_asked_for_ever(tmp_path: Path) -> None:
    source = "import sys\nsys.stdin.readline()\n"
    got = evaluate(oracle_config(program(tmp_path, "", source)), ["C", "CC"])
    assert [kind_of(e) for e in got] == ["died", "died"]


def test_a_program_may_take_its_time_to_start_but_not_to_answer(tmp_path: Path) -> None:
    component = program(tmp_path, "time.sleep(60)", "import time\ntime.sleep(0.8)\n" + PROGRAM)
    got = evaluate(oracle_config(component), ["C", "CC", "BAD", "CCC"])  # started twice
    assert [kind_of(e) for e in got] == [None, None, "timed_out", None]


def test_a_program_that_never_flushes_is_told_so(tmp_path: Path) -> None:
    source = "import sys\nfor line in sys.stdin: print(0.5)\n"
    component = {**program(tmp_path, "", source), "start_limit": 0.1, "time_limit": 0.2}
    (got,) = evaluate(oracle_config(component), ["C"])
    assert kind_of(got) == "timed_out"
    assert got.failure is not None
    assert "flush" in got.failure


def test_evaluations_come_one_by_one(tmp_path: Path) -> None:
    """A result can be written down before the next molecule is even asked about."""
    log = tmp_path / "asked.txt"
    component = program(
        tmp_path, "pass", PROGRAM.replace("if smiles", f"open({str(log)!r}, 'a').write(line)\n    if smiles")
    )
    with ComponentOracle(oracle_config(component)) as oracle:
        evaluations = oracle.evaluate(["C", "CC", "CCC"])
        assert next(evaluations).smiles == "C"
        assert log.read_text() == "C\n"
        assert [e.smiles for e in evaluations] == ["CC", "CCC"]
    assert log.read_text() == "C\nCC\nCCC\n"


def test_each_program_is_asked_on_its_own(tmp_path: Path) -> None:
    components = []
    for name, factor in (("one", 10), ("two", 20)):
        path = tmp_path / f"{name}.py"
        path.write_text(
            f"import sys\nfor line in sys.stdin: print(len(line.strip()) / {factor}, flush=True)\n"
        )
        components.append({"name": name, "kind": "process", "command": [sys.executable, "-S", str(path)]})
    got = evaluate(oracle_config(*components, {"kind": "qed"}, aggregation="product"), ["CC", "CCCC"])
    assert [(e.raw["one"], e.raw["two"]) for e in got] == [(0.2, 0.1), (0.4, 0.2)]
    assert got[0].reward == pytest.approx(0.2 * 0.1 * QED.qed(Chem.MolFromSmiles("CC")))


def test_children_of_a_program_end_with_it(tmp_path: Path) -> None:
    """Programs are often shell scripts that start others."""
    pids = tmp_path / "pids.txt"
    start = f"""
import os, subprocess
child = subprocess.Popen(["sleep", "60"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
open({str(pids)!r}, "a").write(f"{{os.getpid()}} {{child.pid}}\\n")
"""
    with ComponentOracle(oracle_config(program(tmp_path, "os._exit(1)", start + PROGRAM))) as oracle:
        got = list(oracle.evaluate(["C", "BAD", "CC"]))
        ended, running = ([int(pid) for pid in line.split()] for line in pids.read_text().splitlines())
        assert all(ends_soon(pid) for pid in ended)
        assert all(is_alive(pid) for pid in running)
    assert [kind_of(e) for e in got] == [None, "died", None]
    assert all(ends_soon(pid) for pid in running)


DAEMON = """
import os, subprocess, sys
def daemon():
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:  # and nobody is its parent any more
            open({pids!r}, "a").write(f"{{os.getpid()}}\\n")
            os.close(0); os.close(1); os.close(2)
            os.execvp("sleep", ["sleep", "60"])
        os._exit(0)
    os.wait()
own = subprocess.Popen(["sleep", "60"], stdin=subprocess.DEVNULL, start_new_session=True, close_fds=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
open({pids!r}, "a").write(f"{{own.pid}}\\n")
daemon()
"""


@pytest.mark.parametrize("behaviour", ["pass", "os._exit(1)", "time.sleep(60)"])
def test_children_in_sessions_of_their_own_end_with_a_program(behaviour: str, tmp_path: Path) -> None:
    pids = tmp_path / "pids.txt"
    source = DAEMON.format(pids=str(pids)) + PROGRAM
    with ComponentOracle(oracle_config(program(tmp_path, behaviour, source))) as oracle:
        list(oracle.evaluate(["C", "BAD"]))
    found = [int(pid) for pid in pids.read_text().split()]
    assert len(found) >= 2
    assert all(ends_soon(pid) for pid in found)


def test_children_in_sessions_of_their_own_end_with_a_run_that_is_killed(tmp_path: Path) -> None:
    pids = tmp_path / "pids.txt"
    config = oracle_config(program(tmp_path, "pass", DAEMON.format(pids=str(pids)) + PROGRAM))
    script = RUN.replace('["C", "O"]', '["C"] * 100000')
    run = subprocess.Popen([sys.executable, "-c", script, config.model_dump_json()], stdout=subprocess.PIPE)
    assert run.stdout is not None
    run.stdout.readline()
    found = [int(pid) for pid in pids.read_text().split()]
    assert len(found) == 2
    assert all(is_alive(pid) for pid in found)
    run.kill()
    run.communicate(timeout=10)
    assert all(ends_soon(pid) for pid in found)


def test_what_a_program_says_on_standard_error_takes_no_memory_and_no_disk(tmp_path: Path) -> None:
    """400 MB of it were kept in a hidden file, and read whole when the program died."""
    flood = "[os.write(2, b'x' * (1 << 20)) for _ in range(64)]; os.write(2, b'\\nlast words\\n')"
    component = {**program(tmp_path, f"{flood}; os._exit(3)"), "time_limit": 20.0}
    tracemalloc.start()
    try:
        (got,) = evaluate(oracle_config(component), ["BAD"])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert got.failure == "mine: died: exit code 3: last words"
    assert peak < 8 << 20


def test_a_program_that_prints_without_end_before_it_is_asked_is_refused(tmp_path: Path) -> None:
    source = "import os\nwhile True: os.write(1, b'0.5\\n' * 1000)\n"
    with (
        ComponentOracle(oracle_config(program(tmp_path, "", source))) as oracle,
        pytest.raises(ConfigError, match="expected one line for each SMILES"),
    ):
        oracle.probe()


def test_nothing_is_left_after_an_error_in_the_block(user_folder: Path) -> None:
    (user_folder / "steady.py").write_text("def score(smiles):\n    return 0.5\n")
    config = oracle_config(
        {"kind": "qed"},
        {"kind": "function", "function": "steady:score"},
        program(user_folder, "pass"),
    )
    before = children()

    def interrupted() -> None:
        with ComponentOracle(config) as oracle:
            assert next(oracle.evaluate(["C", "CC"])).failure is None
            assert len(children() - before) == 3
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert children() == before


def test_a_worker_that_has_grown_is_replaced_between_two_molecules(user_folder: Path) -> None:
    """Else a library that leaks would fill the machine in a run of 10,000 calls."""
    (user_folder / "leaking.py").write_text("""
import os
kept = []
def score(smiles):
    if smiles == "CC":
        kept.append(b"x" * (1100 << 20))
    return os.getpid() * 1.0
""")
    config = oracle_config({"kind": "function", "function": "leaking:score", "shaping": ANY_VALUE})
    got = evaluate(config, ["C", "CC", "CCC", "CCCC"])
    assert [kind_of(e) for e in got] == [None] * 4
    pids = [e.raw["function"] for e in got]
    assert pids[0] == pids[1] != pids[2] == pids[3]


RUN = """
import json, os, sys
from allmodes.chem.oracles.oracle import ComponentOracle
from allmodes.chem.oracles.config import OracleConfig

with ComponentOracle(OracleConfig.model_validate(json.loads(sys.argv[1]))) as oracle:
    for evaluation in oracle.evaluate(["C", "O"]):
        print(evaluation.reward, flush=True)
"""


def test_workers_end_with_a_run_that_is_killed_even_while_they_hang(user_folder: Path) -> None:
    log = user_folder / "pid.txt"
    (user_folder / "hanging.py").write_text(f"""
import os, time
def score(smiles):
    if smiles == "O":
        open({str(log)!r}, "w").write(str(os.getpid()))
        time.sleep(60)
    return 0.5
""")
    config = oracle_config({"kind": "function", "function": "hanging:score"})
    run = subprocess.Popen([sys.executable, "-c", RUN, config.model_dump_json()], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while not (log.exists() and log.read_text()) and time.monotonic() < deadline:
        time.sleep(0.01)
    worker = int(log.read_text())
    assert is_alive(worker)
    run.kill()
    run.wait(timeout=10)
    assert ends_soon(worker)


def test_a_worker_process_loads_no_torch() -> None:
    """It starts anew after each crash, and torch alone would take longer than the rest."""
    code = "import sys, allmodes.chem.oracles.worker; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_closed_oracle_refuses_instead_of_waiting_for_ever() -> None:
    with ComponentOracle(oracle_config({"kind": "qed"})) as oracle:
        late = oracle.evaluate(["CCO"])  # asks when it is iterated
    with pytest.raises(RuntimeError, match="inside its `with` block"):
        list(late)
