"""What the guide says can be pasted, and its numbers of templates and molecules are those of the files."""

import re
import tomllib
from collections import Counter
from pathlib import Path

import pytest

from allmodes.chem.oracles.components import RetrosynthesisComponent
from allmodes.chem.retrosynthesis.stock import Stock
from allmodes.chem.retrosynthesis.template_file import load_templates
from allmodes.chem.retrosynthesis.templates import TemplateSet

GUIDE = (Path(__file__).parents[3] / "docs" / "guide" / "retrosynthesis.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", GUIDE, re.DOTALL)


def test_components_and_templates_of_the_guide_are_valid(tmp_path: Path) -> None:
    components, templates = [], []
    for block in blocks("toml"):
        values = tomllib.loads(block)
        if "templates" in values and "oracle" not in values:
            templates.append(block)
        else:
            given = values.get("oracle", {}).get("components", [{"kind": "retrosynthesis", **values}])
            components += [RetrosynthesisComponent.model_validate(one) for one in given]
    assert len(components) == 4
    (tmp_path / "templates.toml").write_text("".join(templates))
    assert len(load_templates(tmp_path / "templates.toml").templates) == 1


def test_the_code_of_the_guide_prepares_a_stock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = blocks("python")
    monkeypatch.chdir(tmp_path)
    Path("vendor.smi").write_text("OCC\n")
    exec(code.replace("vendor.smi.gz", "vendor.smi"), {})
    assert Path("vendor_prepared.smi.gz").stat().st_size > 0


def test_the_numbers_of_the_guide_are_those_of_the_files(templates: TemplateSet, stock: Stock) -> None:
    assert f"{len(stock):,} molecules" in GUIDE
    counts = Counter(template.reaction_class for template in templates.templates)
    said = re.search(r"number of templates\)(.*?)\.\n", GUIDE, re.DOTALL)
    assert said is not None
    listed = dict(re.findall(r"([A-Za-z][\w\- ]*) \((\d+)\)", " ".join(said.group(1).split())))
    assert {name.strip(): int(number) for name, number in listed.items()} == dict(counts)
