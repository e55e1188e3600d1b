"""Every command of the documentation is one: its flags exist, its values are accepted, its recipe is right.

Nothing is computed here; README's commands and those of the tutorials are run by tests of their own.
"""

import functools
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tyro

from allmodes.cli import _dispatch, app
from allmodes.cli.flags import REGISTRY
from allmodes.cli.recipes import find_recipe
from allmodes.errors import ConfigError

ROOT = Path(__file__).parents[1]
BLOCKS = re.compile(r"```(?:sh|bash|console|shell)\n(.*?)```", re.DOTALL)
OWN = {"mine.toml", "my_recipe.toml", "clpp.toml"}


def documented() -> Iterator[tuple[str, str]]:
    """The page and each command of allmodes on it, continued lines as one."""
    for page in sorted((ROOT / "docs").rglob("*.md")):
        text = "\n".join(BLOCKS.findall(page.read_text(encoding="utf-8"))).replace("\\\n", " ")
        for line in text.splitlines():
            words = shlex.split(line.removeprefix("$ "), comments=True)
            while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):  # variables of the environment
                words = words[1:]
            ends = [words.index(sign) for sign in ("|", ">", ">>", "&&", ";") if sign in words]
            if words[:1] == ["allmodes"]:
                yield page.name, shlex.join(words[1 : min(ends, default=len(words))])


COMMANDS = sorted(set(documented()))


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
