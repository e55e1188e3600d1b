"""README says what is so: every block of it runs, and its figures are those that the commands print."""

import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
Command = Callable[..., tuple[int, str, str]]  # the fixture of conftest.py
SHORT = {
    "run molecules --budget 500 --seeds 0 --out runs/first": "--dry-run",  # tests/test_docs.py runs it
    "run one-two": "--dry-run --no-execute",  # its training is that of tests/text
}
"""Commands of minutes, and what makes them ones of seconds."""


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def commands() -> list[list[str]]:
    """The words of the shell's lines, without their comments and continued ones whole."""
    text = "\n".join(blocks("sh")).replace("\\\n", " ")
    return [words for line in text.splitlines() if (words := shlex.split(line, comments=True))]


def lines(program: str) -> list[str]:
    """The lines that begin with a word."""
    return [shlex.join(words) for words in commands() if words[0] == program]


def python_block(part: str) -> str:
    (block,) = [block for block in blocks("python") if part in block]
    return block


def test_every_line_of_every_block_is_tried_somewhere() -> None:
    # make and pip: .ci/run. verl: tests/integrations/verl.
    known = {"allmodes", "make", "source", "python3", "pip", "python", "examples/verl/one_two.sh"}
    assert {words[0] for words in commands()} <= known
    assert README.count("```") == 2 * (len(blocks("sh")) + len(blocks("python")))
    assert not any("..." in block for block in (*blocks("sh"), *blocks("python")))


@pytest.mark.parametrize("line", [*lines("allmodes"), *re.findall("`(allmodes \\w+ [^`]+)`", README)])
def test_each_command_runs(line: str, command: Command, tmp_path: Path) -> None:
    arguments = shlex.split(line)[1:]
    if arguments[0] == "chem" or arguments[:2] == ["run", "molecules"]:
        pytest.importorskip("rdkit")
    if arguments[0] != "samples":
        shutil.copytree(ROOT / "src" / "allmodes" / "samples", tmp_path / "samples")
    code, printed, error = command(*arguments, *shlex.split(SHORT.get(shlex.join(arguments), "")))
    assert (code, error.count("allmodes: ")) == (0, 0), error
    assert printed


def test_the_targets_of_make_and_the_extras_are_there() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for line in lines("make"):
        for target in shlex.split(line)[1:]:
            assert f"\n{target}: " in makefile
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"].keys()
    for named in re.findall(r"'\.\[(.*?)]'", README):
        assert set(named.split(",")) <= extras
    (listed,) = re.findall(r"# or (.*): see pyproject.toml", README)
    assert set(listed.split(", ")) <= extras


def test_the_loop_s_block_prints_what_it_says_and_its_gradient_is_right(
    capsys: pytest.CaptureFixture[str],
) -> None:
    example = python_block("def loss_of")
    names: dict[str, object] = {}
    exec(example, names)
    assert capsys.readouterr().out.splitlines() == re.findall(r"print\(.*\)  # (.*)", example)
    rewards = torch.tensor([1.0, 1.0, 0.0, 0.2, 0.5, 0.1, 0.0, 0.3])
    ref_logprobs = torch.tensor([-2.0, -7.0, -3.0, -1.0, -2.0, -3.0, -4.0, -5.0])
    logprobs = ref_logprobs.clone().requires_grad_()
    loss = names["loss_of"](
        rewards, logprobs, ref_logprobs, torch.tensor([0, 0, 0, 0, 1, 1, 1, 1]), beta=0.1, tau=0.9
    )  # type: ignore[operator]
    loss.mean().backward()
    # The good but unlikely answer is pushed up the most: its reward is 1 + 0.1 · 5.
    assert int(logprobs.grad.argmin()) == 1  # type: ignore[union-attr]


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.* is deprecated:FutureWarning")
def test_the_block_for_trl_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it stands, with a model of a few thousand parameters that knows the planets, and few steps."""
    trl = pytest.importorskip("trl")
    from tiny_lm import save_tiny_lm

    words = ["<pad>", "<eos>", "<unk>", "Name", "one", "planet", "that", "has", "rings", "."]
    save_tiny_lm(tmp_path / "model", [*words, "Jupiter", "Saturn", "Uranus", "Neptune"])
    monkeypatch.chdir(tmp_path)

    class Short(trl.GRPOConfig):
        def __init__(self, folder: str, **settings: object) -> None:
            quick = {"max_steps": 2, "use_cpu": True, "bf16": False, "report_to": "none", "logging_steps": 1}
            super().__init__(folder, **settings, **quick, save_strategy="no", disable_tqdm=True)

    monkeypatch.setattr(trl, "GRPOConfig", Short)
    example = python_block("GRPOTrainer")
    model = "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert model in example
    names: dict[str, object] = {}
    exec(example.replace(model, str(tmp_path / "model")), names)
    assert [names["answer"](text) for text in ("It is Saturn.", "Mars", "Saturn or Uranus")] == [  # type: ignore[operator]
        "Saturn", None, None,
    ]  # fmt: skip
    logs = names["trainer"].state.log_history  # type: ignore[attr-defined]
    steps = [log for log in logs if "reward" in log]
    assert len(steps) == 2
    assert sum(log["transform/augmented"] for log in steps) > 0
    assert all("answers/distinct" in log for log in steps)


def test_the_table_of_methods_has_the_figures_of_the_demo(command: Command) -> None:
    _, printed, _ = command("demo", "collapse")
    found = dict(re.findall(r"^(\S.*?) +(\d\.\d of 4 +\S+%)", printed, re.MULTILINE))
    found = {label: tuple(re.split(r" {2,}", text)) for label, text in found.items()}
    rows = re.findall(r"^\| (.*?) \| (\d\.\d of 4) \| (\S+) % \|", README, re.MULTILINE)
    said = {re.sub(r"\*\*|\(.*", "", label).strip(): (kept, f"{mass}%") for label, kept, mass in rows}
    said["vanilla"] = said.pop("plain RL")
    assert said == {label: text for label, text in found.items() if label != "reference"}
