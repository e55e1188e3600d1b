"""Damaged recipes and flags: `allmodes run` checks them, and says what is wrong in one line."""

import functools
import random
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("rdkit")
pytest.importorskip("trl")
pytest.importorskip("yaml")

import yaml

from allmodes.chem.design import design
from fuzzing import VALUES, as_json, as_toml, check_command, damage_bytes, damage_tree, fuzz, pick

Command = Callable[..., tuple[int, str, str]]  # the fixture of conftest.py
RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.toml"))


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the shipped recipes name, and a prior that is loaded once."""
    monkeypatch.setattr(design, "load_policy", functools.cache(design.load_policy))
    (tmp_path / "receptor").mkdir()
    (tmp_path / "receptor" / "receptor.pdbqt").write_text("")
    (tmp_path / "receptor" / "reference_ligand.pdb").write_text("".join(map(_atom, range(1, 4))))
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "Name a fruit."}\n')


def _atom(number: int) -> str:
    return (
        f"HETATM{number:5d}  C{number}  LIG A   1    {number:8.3f}{0:8.3f}{0:8.3f}  1.00 10.00           C\n"
    )


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_as_it_is_shipped_passes(recipe: Path, command: Command) -> None:
    assert check_command(command, "run", recipe, "--dry-run", "--no-execute") == 0


def test_damaged_recipes(command: Command, tmp_path: Path) -> None:
    trees = [tomllib.loads(path.read_text(encoding="utf-8")) for path in RECIPES]

    def attempt(rng: random.Random) -> None:
        chosen = rng.randrange(len(RECIPES))
        suffix = rng.choice([".toml", ".yaml", ".json"])
        tree = damage_tree(rng, trees[chosen]) if rng.random() < 0.7 else trees[chosen]
        if suffix == ".toml":
            text = as_toml(tree) if tree is not trees[chosen] else RECIPES[chosen].read_text(encoding="utf-8")
        else:
            text = as_json(tree) if suffix == ".json" else yaml.safe_dump(tree, allow_unicode=True)
        data = text.encode("utf-8", "surrogatepass")
        if tree is trees[chosen] or rng.random() < 0.1:
            data = damage_bytes(rng, data)
        (tmp_path / f"recipe{suffix}").write_bytes(data)
        scale = pick(rng, [["--scale", "paper"]], 1)
        check_command(
            command, "run", f"recipe{suffix}", "--dry-run", "--no-execute", *(scale[0] if scale else ())
        )

    fuzz("damaged recipes", 150, attempt)


def test_damaged_flags(command: Command) -> None:
    trees = {path: _keys(tomllib.loads(path.read_text(encoding="utf-8"))) for path in RECIPES}

    def attempt(rng: random.Random) -> None:
        recipe, keys = rng.choice(list(trees.items()))
        flags = []
        for _ in range(rng.randint(1, 2)):
            key = rng.choice(keys)
            if rng.random() < 0.2:
                key = damage_bytes(rng, key.encode()).decode("utf-8", "replace")
            value = rng.choice(VALUES)
            text = value if isinstance(value, str) and rng.random() < 0.5 else as_toml(value, is_top=False)
            text = text.replace("\0", "").encode("utf-8", "replace").decode()  # as a shell can hand it over
            flags += [f"--{key}={text}"] if rng.random() < 0.5 else [f"--{key}", text]
        check_command(command, "run", recipe, "--dry-run", "--no-execute", *flags)

    fuzz("damaged flags", 100, attempt)


def _keys(tree: object, prefix: str = "") -> list[str]:
    if isinstance(tree, dict):
        return [
            k for name, inner in tree.items() for k in [f"{prefix}{name}", *_keys(inner, f"{prefix}{name}.")]
        ]
    if isinstance(tree, list):
        return [k for part in tree if isinstance(part, dict)
                for k in _keys(part, f"{prefix}{part.get('name', part.get('kind'))}.")]  # fmt: skip
    return []
