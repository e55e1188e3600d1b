"""The shipped templates and stock, read once, and small ones of a test's own."""

from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("syntheseus")

from allmodes.chem.retrosynthesis.stock import Stock, load_stock, shipped_stock
from allmodes.chem.retrosynthesis.template_file import load_templates, shipped_templates
from allmodes.chem.retrosynthesis.templates import TemplateSet

AMIDE = """
[[templates]]
name = "amide"
class = "amide coupling"
cost = 1
smarts = '[C;$(C-[#6]):1](=[O:2])-;!@[N:3]>>[C:1](=[O:2])O.[N:3]'
product = 'CC(=O)NC'
precursors = ['CC(=O)O', 'CN']
"""
ETHER = """
[[templates]]
name = "ether"
class = "ether formation"
cost = 1.5
smarts = '[c:1]-[O:2]-;!@[CH2:3]>>[c:1][O:2].Br[C:3]'
product = 'CCOc1ccccc1'
precursors = ['Oc1ccccc1', 'CCBr']
"""


@pytest.fixture(scope="session")
def templates() -> TemplateSet:
    return load_templates(shipped_templates())


@pytest.fixture(scope="session")
def stock() -> Stock:
    return load_stock(shipped_stock())


@pytest.fixture
def amide() -> str:
    """An entry of ten lines."""
    return AMIDE


@pytest.fixture
def ether() -> str:
    return ETHER


@pytest.fixture
def write_templates(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "templates.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write
