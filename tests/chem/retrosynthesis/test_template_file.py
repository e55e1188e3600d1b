"""Template files of a user: what is read, and how each mistake is named."""

from collections.abc import Callable
from pathlib import Path

import pytest

from allmodes.chem.retrosynthesis.template_file import load_templates
from allmodes.errors import ConfigError

Write = Callable[[str], Path]


def error_of(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load_templates(path)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_file_of_ones_own_is_read(write_templates: Write, amide: str, ether: str) -> None:
    templates = load_templates(write_templates(ether + amide))
    assert [template.name for template in templates.templates] == ["amide", "ether"]
    assert templates.classes == ("amide coupling", "ether formation")


def test_patterns_are_filled_in_and_line_breaks_do_not_matter(write_templates: Write, amide: str) -> None:
    text = (
        amide.replace("[N:3]>>", "[{amine}:3]\n  >> ").replace("'[C;$", "'''[C;$").replace("N:3]'", "N:3]'''")
    )
    templates = load_templates(write_templates("[patterns]\namine = 'N;H1'\n" + text))
    assert templates.templates[0].smarts == "[C;$(C-[#6]):1](=[O:2])-;!@[N;H1:3]>>[C:1](=[O:2])O.[N:3]"
    assert templates.disconnect("CC(=O)N(C)C") == []


def test_forbidden_groups_and_unless_rule_reactions_out(
    write_templates: Write, amide: str, ether: str
) -> None:
    target = "CC(=O)NCCS"
    assert load_templates(write_templates(amide)).disconnect(target)
    forbidden = "[[forbidden]]\nreason = 'thiol'\nsmarts = '[SX2H]'\n"
    assert load_templates(write_templates(forbidden + amide)).disconnect(target) == []
    unless = load_templates(write_templates(amide + "unless = '[SX2H]'\n" + ether))
    assert unless.disconnect(target) == []
    assert unless.disconnect("SCCOc1ccccc1")  # of the other template nothing was said


def test_a_match_that_would_lose_atoms_is_none(write_templates: Write, amide: str) -> None:
    text = amide.replace("(=[O:2])-;!@[N:3]>>[C:1](=[O:2])O.[N:3]", "(=[O:2])N>>[C:1](=[O:2])O")
    text = text.replace("'CC(=O)NC'", "'CC(N)=O'").replace("['CC(=O)O', 'CN']", "['CC(=O)O']")
    templates = load_templates(write_templates(text))
    assert [one.precursors for one in templates.disconnect("CCC(N)=O")] == [("CCC(=O)O",)]
    assert templates.disconnect("CCC(=O)NC") == []


def test_of_two_templates_for_the_same_precursors_the_cheaper_counts(
    write_templates: Write, amide: str
) -> None:
    dear = (
        amide.replace('"amide"', '"dear amide"')
        .replace("amide coupling", "other")
        .replace("cost = 1", "cost = 3")
    )
    (found,) = load_templates(write_templates(dear + amide)).disconnect("CC(=O)NCC")
    assert (found.template.name, found.template.reaction_class) == ("amide", "amide coupling")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("cost = 1\n", ""), "line 11: 'ether': `cost`: expected a number; got nothing"),
        (("cost = 1\n", "cost = 'high'\n"), "line 11: 'ether': `cost`: expected a number; got 'high'"),
        (("cost = 1\n", "cost = true\n"), "'ether': `cost`: expected a number; got True"),
        (("cost = 1\n", "cost = -1\n"), "'ether': `cost`: expected a finite number ≥ 0; got -1.0"),
        (("cost = 1\n", "cost = nan\n"), "'ether': `cost`: expected a finite number ≥ 0; got nan"),
        (("cost = 1\n", "cost = 1\ncolour = 'red'\n"), "'ether': expected the keys name, class"),
        (("name = \"ether\"\n", ""), "line 11: `name`: expected text; got nothing"),
        (("name = \"ether\"\n", "name = \"amide\"\n"), "expected a name once; got 'amide' twice"),
        (("Br[C:3]", "Br[C:3"), "line 11: 'ether': `smarts`: expected product>>precursors"),
        ((">>[c:1][O:2].Br[C:3]", ""), "line 11: 'ether': `smarts`: expected product>>precursors"),
        (("[CH2:3]>>", "[CH2:3].[N:4]>>"), "line 11: 'ether': `smarts`: expected product>>precursors"),
        (("'CCOc1ccccc1'", "'CCOc1cccc'"), "line 11: 'ether': `product`: expected SMILES; got 'CCOc1cccc'"),
        (("'CCBr'", "'CC('"), "line 11: 'ether': `precursors`: expected SMILES; got 'CC('"),
        (("'CCBr'", "5"), "line 11: 'ether': `precursors`: expected SMILES; got 5"),
        (
            ("['Oc1ccccc1', 'CCBr']", "[]"),
            "line 11: 'ether': `precursors`: expected at least one SMILES; got none",
        ),
        (
            ("'CCBr'", "'CCCBr'"),
            "line 11: 'ether': expected CCOc1ccccc1 to come from CCCBr.Oc1ccccc1; "
            "the template makes CCBr.Oc1ccccc1",
        ),
        (("'CCOc1ccccc1'", "'CCO'"), "from CCBr.Oc1ccccc1; the template makes nothing"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_line_and_entry(
    write_templates: Write, change: tuple[str, str], said: str, amide: str, ether: str
) -> None:
    changed = ether.replace("cost = 1.5", "cost = 1").replace(*change)
    path = write_templates(amide + "\n" + changed)
    message = error_of(path)
    assert message.startswith(f"`templates`: {path}: ")
    assert said in message


def test_other_mistakes_are_named(write_templates: Write, tmp_path: Path, amide: str) -> None:
    assert "No such file" in error_of(tmp_path / "none.toml")
    assert "at line 2" in error_of(write_templates("\nnot toml\n"))
    assert "expected at least one [[templates]]; got none" in error_of(write_templates(""))
    assert "got ['template']" in error_of(write_templates("[[template]]\nname = 'a'\n"))
    assert "expected [[templates]]; got 3" in error_of(write_templates("templates = 3"))
    assert "templates 1: expected a table; got 3" in error_of(write_templates("templates = [3]"))
    assert "[patterns]: expected names and SMARTS" in error_of(write_templates("[patterns]\na = 3\n" + amide))
    forbidden = "[[forbidden]]\nreason = 'odd'\nsmarts = '[Q'\n"
    assert "line 1: 'odd': `smarts`: expected SMARTS; got '[Q'" in error_of(
        write_templates(forbidden + amide)
    )
    assert "line 2: 'amide': `unless`: expected SMARTS; got '[Q'" in error_of(
        write_templates(amide + "unless = '[Q'\n")
    )
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    assert "expected a TOML file or a CSV table" in error_of(tmp_path / "binary.toml")
