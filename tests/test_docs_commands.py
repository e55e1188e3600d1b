"""Every command of the documentation works: short ones run here, and the parser accepts all of them.

README's commands are run by tests/test_readme.py, those of the tutorials by tests/test_tutorials.py. The long
ones are listed in .ci/docs_commands, a manual job that runs all of them.
"""

import functools
import re
import shlex
from collections.abc import Callable, Iterator
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import tyro

from allmodes.cli import _dispatch, app
from allmodes.cli.flags import REGISTRY
from allmodes.cli.recipes import find_recipe
from allmodes.errors import ConfigError

ROOT = Path(__file__).parents[1]
OWN = {"mine.toml", "my_recipe.toml", "clpp.toml"}


def job() -> ModuleType:
    """The manual job as a module."""
    loader = SourceFileLoader("docs_commands", str(ROOT / ".ci" / "docs_commands"))
    module = ModuleType(loader.name)
    module.__file__ = loader.path
    loader.exec_module(module)
    return module


JOB = job()
ALL = list(JOB.documented())


def inline() -> Iterator[tuple[str, str]]:
    """The commands with arguments in the text of the pages, but for those on a recipe that a user names."""
    for page in sorted((ROOT / "docs").rglob("*.md")):
        text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        for found in re.findall(r"`allmodes ([^`]+)`", text):
            words = shlex.split(found)
            is_named_recipe = words[0] == "run" and not Path(ROOT, words[1] if words[1:] else "").is_file()
            if not is_named_recipe and re.search(r"[^a-z\s]", found):
                yield str(page.relative_to(ROOT)), shlex.join(words)


COMMANDS = sorted(
    {(page, line) for page, line in ALL if page != "README.md"}
    | set(inline())
    | {("shortened", f"{line} {flags}") for line, flags in JOB.SHORT.items() if flags}
)
TUTORIALS = ("see-the-optimum", "fix-grpo", "audit-your-log")
ELSEWHERE = {"README.md", *(f"docs/tutorials/{name}.md" for name in TUTORIALS)}
LISTED = {**JOB.SHORT, **JOB.HOURS, **JOB.OUTSIDE}
HERE: dict[str, list[str]] = {}
for _page, _line in ALL:
    if _page not in ELSEWHERE and _line not in LISTED:
        HERE.setdefault(_page, []).append(_line)


def parse_only(commands: Any) -> Any:
    """The same commands and flags, of which none does anything."""
    copy = tyro.extras.SubcommandApp()
    for name, spec in commands._subcommands.items():
        if isinstance(spec.target, tyro.extras.SubcommandApp):
            copy.command(parse_only(spec.target), name=name, help=spec.help)
        else:
            copy.command(_without_effect(spec.target), name=name, help=spec.help)
    return copy


def _without_effect(command: Callable[..., Any]) -> Callable[..., None]:
    @functools.wraps(command)
    def nothing(*_: Any, **__: Any) -> None:
        pass

    return nothing


@pytest.fixture(scope="module")
def parsed() -> Callable[[list[str]], None]:
    quiet = parse_only(app)
    return lambda words: quiet.cli(prog="allmodes", args=words, registry=REGISTRY)


def test_the_job_lists_no_command_twice_and_none_that_no_page_has() -> None:
    assert len(LISTED) == len(JOB.SHORT) + len(JOB.HOURS) + len(JOB.OUTSIDE)
    assert {*LISTED, *JOB.FAILS} <= {line for _, line in ALL}
    assert {*JOB.FILES, *JOB.BEFORE} <= {page for page, _ in ALL}


@pytest.mark.parametrize("page", HERE)
def test_the_short_commands_of_a_page_run(
    page: str, command: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    if any(line.startswith("chem ") for line in HERE[page]):
        pytest.importorskip("rdkit")
    if any(line.startswith("chem receptor ") for line in HERE[page]):
        pytest.importorskip("meeko")
    JOB.lay_out(page, tmp_path)
    for line in HERE[page]:
        words = shlex.split(line)
        code, printed, error = command(*words)
        assert code == JOB.FAILS.get(line, 0), (line, error)
        assert printed, line
        if "--out" in words:
            assert (tmp_path / words[words.index("--out") + 1]).exists(), line


def test_there_are_commands_and_a_wrong_one_is_found(parsed: Callable[[list[str]], None]) -> None:
    assert len(COMMANDS) > 50
    for wrong in (
        ["chem", "scores", "a.smi"],
        ["target", "a.csv", "--bta", "1"],
        ["audit", "a", "--beta", "x"],
    ):
        with pytest.raises(SystemExit) as left:
            parsed(wrong)
        assert left.value.code == 2


@pytest.mark.parametrize(("page", "line"), COMMANDS)
def test_each_command_is_accepted(
    page: str, line: str, parsed: Callable[[list[str]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = shlex.split(line)
    if words[0] != "run":
        parsed(words)
        return
    if "--resume" in words or not words[1:]:
        return
    monkeypatch.chdir(ROOT)
    if words[1] in OWN:
        words[1] = "recipes/molecules.toml"
    elif not Path(words[1]).exists():
        find_recipe(Path(words[1]))
    pytest.importorskip("rdkit")
    try:
        _dispatch([*words, *(flag for flag in ("--dry-run", "--no-execute") if flag not in words)])
    except ConfigError as error:  # a user's own file, or one that an earlier command of the page makes
        if "which does not exist" not in str(error):
            raise
