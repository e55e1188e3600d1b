"""Scoring a file: what is read, what is written, and that nothing is computed twice."""

import html
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rdkit import Chem
from rich.console import Console

from allmodes.chem.design.ledger import LedgerRow, read_ledger
from allmodes.chem.molecule_file import InputMolecule, Rejected, write_rejected
from allmodes.chem.oracles.config import OracleConfig
from allmodes.chem.oracles.results import Evaluation
from allmodes.chem.reporting.figures import distribution, draw_distribution
from allmodes.chem.reporting.score_report import write_score_report
from allmodes.chem.reporting.summary import print_scores
from allmodes.chem.score import score_file
from allmodes.chem.scoring_config import ScoringConfig
from allmodes.errors import ConfigError, InputError, RunError
from allmodes.runs.config import build_config
from pages import without_origin
from run_files import read_csv

# Answers with the share of oxygens, fails for sulfur, and writes down what it was asked.
PROGRAM = """
import json, sys, time
for line in sys.stdin:
    request = json.loads(line)
    text = request["smiles"]
    open("{calls}", "a").write(text + "\\n")
    time.sleep(float(open("{seconds}").read()))
    said = {{"error": "no sulfur, please"}} if "S" in text else {{"value": text.count("O") / len(text)}}
    print(json.dumps({{"id": request["id"], **said}}), flush=True)
"""
FILE = """\
OCC ethanol, absolute
CCO\tspirit of wine
not-a-smiles name

CCS thiol
C(O)O
"""
CHAINS = [f"{'C' * (n % 9 + 1)}{'O' * (n // 9 + 1)}" for n in range(45)]


def program(folder: Path, *, seconds: float = 0.0, **rest: Any) -> OracleConfig:
    (folder / "seconds").write_text(str(seconds))
    text = PROGRAM.format(calls=folder / "calls.txt", seconds=folder / "seconds")
    (folder / "oracle.py").write_text(text)
    command = [sys.executable, str(folder / "oracle.py")]
    component = {"kind": "process", "name": "oxygen", "protocol": "json", "command": command}
    return build_config(OracleConfig, {"components": [component], **rest}, source="test")


def calls(folder: Path) -> Counter[str]:
    """What the program was asked, without the question before each run whether it works."""
    asked = Counter((folder / "calls.txt").read_text().splitlines())
    del asked["CCO"]
    return asked


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


# Scoring


def test_scores_are_a_row_for_each_line_and_computed_once(tmp_path: Path) -> None:
    oracle, out = program(tmp_path, workers=2), tmp_path / "out"
    report = score_file(written(tmp_path / "a.smi", FILE), oracle, hit_threshold=0.5, out=out)
    assert report == out / "report.html"
    printed = io.StringIO()
    print_scores(out, Console(file=printed, width=80))
    heads, _, figures = printed.getvalue().splitlines()
    assert heads.split("  ")[0] == "molecules"
    assert figures.split() == ["3", "1", "1", "0.667", "0.500"]
    rows = read_csv(out / "scores.csv")
    unread = {"smiles": "", "reward": "", "oxygen raw": "", "oxygen score": ""}
    scores = {"CCO": "0.3333333333333333", "OCO": "0.6666666666666666"}

    def scored(smiles: str) -> dict[str, str]:
        value = scores[smiles]
        return {"smiles": smiles, "reward": value, "oxygen raw": value, "oxygen score": value, "failure": ""}

    assert rows == [
        {"line": "1", "name": "ethanol, absolute", **scored("CCO")},
        {"line": "2", "name": "spirit of wine", **scored("CCO")},
        {
            "line": "3",
            "name": "name",
            **unread,
            "failure": "input: malformed: RDKit cannot read it as SMILES",
        },
        {"line": "4", "name": "", **unread, "failure": "input: malformed: no SMILES"},
        {
            "line": "5",
            "name": "thiol",
            **unread,
            "smiles": "CCS",
            "failure": "oxygen: raised: no sulfur, please",
        },
        {"line": "6", "name": "", **scored("OCO")},
    ]
    molecules = list(Chem.SDMolSupplier(str(out / "scores.sdf")))
    titles = ["ethanol, absolute", "spirit of wine", "thiol", "OCO"]
    assert [molecule.GetProp("_Name") for molecule in molecules] == titles
    assert [Chem.MolToSmiles(molecule) for molecule in molecules] == ["CCO", "CCO", "CCS", "OCO"]
    assert [molecule.GetProp("line") for molecule in molecules] == ["1", "2", "5", "6"]
    assert (out / "rejected.tsv").read_text().splitlines() == [
        "line\treason\ttext", "3\tRDKit cannot read it as SMILES\tnot-a-smiles", "4\tno SMILES\t",
    ]  # fmt: skip
    assert [row.evaluation.smiles for row in read_ledger(out / "ledger.sqlite")] == ["CCO", "CCS", "OCO"]
    # Each of two workers was asked about ethanol before; then ethanol itself once.
    asked = (tmp_path / "calls.txt").read_text().splitlines()
    assert Counter(asked) == {"CCO": 3, "CCS": 1, "OCO": 1}


def test_huge_molecules_cost_themselves_and_are_scored_or_named_but_not_drawn(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    lines = ["C" * 20_000, "C" * 501, "C" * 250 + "O", "OCC", "C(" * 5_000]
    out = tmp_path / "out"
    report = score_file(
        written(tmp_path / "a.smi", "\n".join(lines)), program(tmp_path), hit_threshold=0.0, out=out
    )
    rows = read_csv(out / "scores.csv")
    assert [row["failure"] for row in rows] == [
        "input: malformed: 20,000 characters, more than 4,000",
        "input: malformed: 501 heavy atoms, more than 500",
        "",
        "",
        "input: malformed: 10,000 characters, more than 4,000",
    ]
    assert [row["reward"] != "" for row in rows] == [False, False, True, True, False]
    assert [line.split("\t")[0] for line in (out / "rejected.tsv").read_text().splitlines()[1:]] == [
        "1",
        "2",
        "5",
    ]
    assert [Chem.MolToSmiles(molecule) for molecule in Chem.SDMolSupplier(str(out / "scores.sdf"))] == ["CCO"]
    assert "1 molecule not in" in capfd.readouterr().err
    page = report.read_text()
    assert page.count("not drawn: more than 200 atoms") == 2  # its card and its page
    assert page.count("<path class='bond-0") >= 2


def test_the_same_command_again_computes_nothing_and_writes_the_same(tmp_path: Path) -> None:
    oracle, file, out = program(tmp_path), written(tmp_path / "a.smi", FILE), tmp_path / "out"
    names = ("scores.csv", "scores.sdf", "report.html", "rejected.tsv")
    score_file(file, oracle, hit_threshold=None, out=out)
    before, asked = [(out / name).read_bytes() for name in names], calls(tmp_path)
    score_file(file, oracle, hit_threshold=None, out=out)
    assert [(out / name).read_bytes() for name in names] == before
    assert calls(tmp_path) == asked
    # Another screen and other workers change no result, and the folder tells the last ones.
    score_file(file, oracle.model_copy(update={"workers": 2}), hit_threshold=0.5, out=out)
    assert calls(tmp_path) == asked
    assert (out / "scores.csv").read_bytes() == before[0]
    assert json.loads((out / "config.json").read_text())["hit_threshold"] == 0.5
    assert "reaches the hit threshold of 0.5" in (out / "report.html").read_text()


def test_a_killed_scoring_goes_on_and_computes_nothing_twice(tmp_path: Path) -> None:
    file, out = written(tmp_path / "a.smi", "\n".join([*CHAINS, "CO"])), tmp_path / "out"
    oracle = program(tmp_path, seconds=0.1, workers=2)
    script = written(
        tmp_path / "run.py",
        "import sys\nfrom pathlib import Path\n"
        "from allmodes.chem.score import score_file\nfrom allmodes.chem.oracles.config import OracleConfig\n"
        "if __name__ == '__main__':\n"
        "    oracle = OracleConfig.model_validate_json(sys.argv[1])\n"
        f"    score_file(Path({str(file)!r}), oracle, hit_threshold=None, out=Path({str(out)!r}))\n",
    )
    process = subprocess.Popen(
        [sys.executable, str(script), oracle.model_dump_json()], start_new_session=True
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (
        (out / "ledger.sqlite").exists() and (out / "config.json").exists() and committed(out) >= 8
    ):
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    kept = {row.evaluation.smiles for row in read_ledger(out / "ledger.sqlite")}
    assert 8 <= len(kept) < 45
    assert not (out / "scores.csv").exists()
    time.sleep(0.2)  # its workers see that it is gone
    before = calls(tmp_path)

    assert program(tmp_path, workers=2) == oracle  # the same, but quick
    score_file(file, oracle, hit_threshold=None, out=out)
    again = calls(tmp_path) - before
    distinct = {Chem.CanonSmiles(line) for line in [*CHAINS, "CO"]}
    assert set(again) == distinct - kept - {"CCO"}
    assert set(again.values()) == {1}
    assert [row["line"] for row in read_csv(out / "scores.csv")] == [str(n) for n in range(1, 47)]
    rewards = [(row["smiles"], float(row["reward"])) for row in read_csv(out / "scores.csv")]
    assert all(reward == smiles.count("O") / len(smiles) for smiles, reward in rewards)

    whole = tmp_path / "whole"
    score_file(file, oracle, hit_threshold=None, out=whole)
    for name in ("scores.csv", "scores.sdf"):
        assert (whole / name).read_bytes() == (out / name).read_bytes()
    pages = [(folder / "report.html").read_text() for folder in (whole, out)]
    assert without_origin(pages[0]) == without_origin(pages[1])
    assert re.search(r"with <code>run\.py ", pages[1])  # as the killed one began


def committed(out: Path) -> int:
    try:
        return len(read_ledger(out / "ledger.sqlite"))
    except RunError:  # its table is not made yet
        return 0


def test_a_folder_of_another_scoring_is_refused(tmp_path: Path) -> None:
    oracle, file, out = program(tmp_path), written(tmp_path / "a.smi", FILE), tmp_path / "out"
    score_file(file, oracle, hit_threshold=None, out=out)
    ledger = (out / "scores.csv").read_bytes()
    with pytest.raises(RunError, match=r"`file`: .*b\.smi has changed .* expected SHA-256"):
        score_file(written(tmp_path / "b.smi", FILE + "CCCC\n"), oracle, hit_threshold=None, out=out)
    product = oracle.model_copy(update={"aggregation": "product"})
    with pytest.raises(
        RunError, match=r'other settings: `oracle\.aggregation`: expected "geometric_mean"; got "product"'
    ):
        score_file(file, product, hit_threshold=None, out=out)
    (component,) = oracle.components
    longer = component.model_copy(update={"command": (*component.command, "-v")})  # type: ignore[union-attr]
    more = oracle.model_copy(update={"components": (longer,)})
    with pytest.raises(
        RunError, match=r'`oracle\.components\.0\.command\.2`: expected null; got "-v"; choose another folder'
    ):
        score_file(file, more, hit_threshold=None, out=out)
    (out / "config.json").write_text('{"kind": "molecules"}')
    with pytest.raises(ConfigError, match=r"config\.json: "):
        score_file(file, oracle, hit_threshold=None, out=out)
    assert (out / "scores.csv").read_bytes() == ledger


def test_a_file_that_the_oracle_reads_may_not_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class NoOracle:
        """Answers 1: what a docking would cost is not the point here."""

        def __init__(self, *_: Any, **__: Any) -> None: ...
        def __enter__(self) -> "NoOracle":
            return self

        def __exit__(self, *_: object) -> None: ...
        def probe(self) -> None: ...
        def notes(self) -> list[str]:
            return []

        def finish(self) -> None: ...
        def submit(self, smiles: list[str]) -> list[Any]:
            from concurrent.futures import Future

            futures: list[Any] = []
            for line in smiles:
                future: Future[Evaluation] = Future()
                future.set_result(
                    Evaluation(smiles=line, raw={"dock": 1.0}, shaped={"dock": 1.0}, reward=1.0, failure=None)
                )
                futures.append(future)
            return futures

    monkeypatch.setattr("allmodes.chem.score.ComponentOracle", NoOracle)
    receptor = written(tmp_path / "r.pdbqt", "one")
    component = {"kind": "docking", "name": "dock", "receptor": str(receptor), "box": {"center": [0, 0, 0]}}
    oracle = build_config(OracleConfig, {"components": [component]}, source="test")
    file = written(tmp_path / "a.smi", FILE)
    score_file(file, oracle, hit_threshold=None, out=tmp_path / "out")
    written(receptor, "two")
    with pytest.raises(RunError, match=r"`dock\.receptor`: .*r\.pdbqt has changed"):
        score_file(file, oracle, hit_threshold=None, out=tmp_path / "out")


def test_what_cannot_work_leaves_no_folder(tmp_path: Path) -> None:
    components = [{"kind": "smarts", "patterns": ["not SMARTS"]}]
    oracle = build_config(OracleConfig, {"components": components}, source="test")
    with pytest.raises(ConfigError, match="SMARTS"):
        score_file(written(tmp_path / "a.smi", FILE), oracle, hit_threshold=None, out=tmp_path / "out")
    with pytest.raises(InputError, match="got no molecule on 1 line"):
        score_file(
            written(tmp_path / "b.smi", "x\n"), program(tmp_path), hit_threshold=None, out=tmp_path / "out"
        )
    assert not (tmp_path / "out").exists()


# The report


def config(**changes: Any) -> ScoringConfig:
    values = {"oracle": {"components": [{"kind": "qed", "name": "QED"}]}, **changes}
    return build_config(ScoringConfig, values, source="test")


def rows_of(rewards: dict[str, float | None]) -> list[LedgerRow]:
    return [
        LedgerRow(
            call=call,
            step=1,
            evaluation=Evaluation(
                smiles=smiles,
                raw={} if reward is None else {"QED": reward},
                shaped={} if reward is None else {"QED": reward},
                reward=reward,
                failure="QED: timed_out: no answer from '/home/somebody/x.py'" if reward is None else None,
            ),
            penalised_reward=None,
        )
        for call, (smiles, reward) in enumerate(rewards.items(), start=1)
    ]


def lines_of(*molecules: tuple[str | None, str]) -> list[InputMolecule]:
    return [
        InputMolecule(line=line, name=name, text="", smiles=smiles, reason="")
        for line, (smiles, name) in enumerate(molecules, start=1)
    ]


def page(folder: Path, settings: ScoringConfig, rows: list[LedgerRow], lines: list[InputMolecule]) -> str:
    path = folder / "report.html"
    write_score_report(path, settings, file_name="a.smi", molecules=lines, rows=rows)
    return path.read_text(encoding="utf-8")


def cards(text: str) -> list[str]:
    return [html.unescape(line) for line in re.findall(r'<div class="smiles">(.*?)</div>', text)]


REWARDS: dict[str, float | None] = {"CCO": 0.2, "CCCO": 0.8, "c1ccccc1O": 0.9, "CCN": None, "CCCCO": 0.85}


def test_the_report_counts_lines_molecules_and_hits(tmp_path: Path) -> None:
    lines = lines_of(
        ("CCO", "a"),
        (None, "bad"),
        ("CCCO", "b"),
        ("c1ccccc1O", ""),
        ("CCN", "n"),
        ("CCCCO", "c"),
        ("CCO", "d"),
    )
    text = page(tmp_path, config(hit_threshold=0.8), rows_of(REWARDS), lines)
    facts = dict(re.findall(r"<dt>(\w+)</dt><dd>(.*?)</dd>", text))
    assert facts["Lines"] == (
        "7, 1 of them not read: see rejected.tsv, 1 repeat a molecule of another line, which is computed once"
    )
    assert facts["Molecules"] == "5, 1 of them without a score"
    assert facts["Hits"] == "3, 75.0 % of those with a score"
    assert "5 distinct molecules on 7 lines of a.smi, scored by QED." in text
    # The phenol is best; of the two alcohols, near to each other, the better one is a circle's best.
    # What did not reach the screen comes last, and is not called a hit.
    assert cards(text) == ["c1ccccc1O", "CCCCO", "CCCO", "CCO"]
    assert "3 of 3 hits: the best molecule of each of 2 circles first" in text
    assert "Then 1 molecule below the hit threshold." in text
    assert "Hit 3" in text
    assert "Molecule 4" in text
    assert re.search(r'<td class="wrap">QED: timed_out</td><td>1</td>.*…/x\.py', text)
    assert "/home" not in text


def test_names_and_lines_of_a_molecule_are_told(tmp_path: Path) -> None:
    lines = lines_of(("CCO", "<b>x</b>"), ("CCO", ""), ("CCO", "y"), ("CCO", "z"), ("CCO", "z"))
    text = page(tmp_path, config(), rows_of({"CCO": 0.5}), lines)
    assert "&lt;b&gt;x&lt;/b&gt;, y and z, lines 1, 2, 3 and 2 more" in text
    assert "<b>x</b>" not in text


def test_without_a_screen_nothing_is_called_a_hit(tmp_path: Path) -> None:
    lines = lines_of(*((smiles, "") for smiles in REWARDS))
    text = page(tmp_path, config(), rows_of(REWARDS), lines)
    assert cards(text) == ["c1ccccc1O", "CCCCO", "CCCO", "CCO"]
    assert "The best 4 of 4 that were scored, best first." in text
    assert "hit " not in html.unescape(re.sub(r"<style>.*?</style>", "", text, flags=re.DOTALL)).lower()
    none = page(tmp_path, config(hit_threshold=0.95), rows_of(REWARDS), lines)
    assert "No molecule reached the hit threshold of 0.95. The best 4 of 4 that were scored" in none
    assert "No molecule was scored." in page(tmp_path, config(), rows_of({"C": None}), lines_of(("C", "")))


def test_every_card_leads_to_its_page_and_back(tmp_path: Path) -> None:
    chains = {"C" * n + "O": n / 40 for n in range(1, 31)}
    text = page(
        tmp_path, config(hit_threshold=0.1), rows_of(chains), lines_of(*((smiles, "") for smiles in chains))
    )
    targets = re.findall(r'href="#([^"]+)"', text)
    anchors = re.findall(r'\bid="([^"]+)"', text)
    assert len(anchors) == len(set(anchors))
    assert set(targets) <= set(anchors)
    pages = re.findall(r'<section class="hit" id="([^"]+)">', text)
    assert pages == [f"molecule-{n}" for n in range(1, 25)]
    assert Counter(targets) == {**dict.fromkeys(pages, 1), "molecules": 24}
    assert "24 of 27 hits" in text


def test_a_distribution_counts_every_value_once_and_no_bin_straddles_the_mark() -> None:
    generator = np.random.default_rng(3)
    for mark in (None, 0.8, 0.1, 0.3, -5.0, 5.0):
        values = [*generator.uniform(size=200).round(2).tolist(), 0.8, 0.1, 0.3]
        edges, counts = distribution(values, mark=mark)
        assert counts.sum() == 203
        np.testing.assert_allclose(np.diff(edges), np.diff(edges)[0])
        for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True):
            last = high == edges[-1]
            assert count == sum(low <= value < high or (last and value == high) for value in values)
        if mark is not None and 0 < mark < 1:
            above = counts[edges[:-1] >= mark].sum()
            assert above == sum(value >= mark for value in values)
            assert mark in edges
    edges, counts = distribution([2.0] * 7)
    assert counts.tolist().count(7) == 1
    assert edges[counts.argmax()] <= 2 < edges[counts.argmax() + 1]


def test_bars_are_as_tall_as_their_counts_and_coloured_from_the_mark_up() -> None:
    drawn = draw_distribution([0.0] * 4 + [1.0] * 2, mark=0.5)
    bars = re.findall(r'<rect x="([\d.]+)".*?height="([\d.]+)" fill="(.*?)"', drawn)
    assert [fill for _, _, fill in bars] == ["#a9b4bf", "var(--accent)"]
    assert float(bars[0][1]) == 2 * float(bars[1][1])
    assert float(bars[0][0]) < float(bars[1][0])
    for values, coloured in (([0.0, 0.25, 0.5, 0.75, 1.0], 3), ([0.5, 0.5], 1), ([0.4, 0.4], 0)):
        assert draw_distribution(values, mark=0.5).count("var(--accent)") == coloured


def test_a_file_of_the_user_s_is_not_taken_for_a_table_of_rejected_lines(tmp_path: Path) -> None:
    path = tmp_path / "rejected.tsv"
    path.write_text("compound\twhy\n")
    write_rejected(path, [])
    assert path.read_text() == "compound\twhy\n"
    write_rejected(path, [Rejected(line=1, text="x", reason="y")])
    write_rejected(path, [])
    assert not path.exists()
