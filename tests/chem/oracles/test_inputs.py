"""The files that decide what an oracle says, and what may not stand in its configuration."""

import sys
from pathlib import Path

import pytest

from allmodes.chem.oracles.config import oracle_inputs
from allmodes.chem.oracles.inputs import check_oracle_files
from allmodes.errors import ConfigError
from molecule_settings import oracle_config


def test_the_files_of_a_command_are_inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("score.py", "weights.bin"):
        (tmp_path / name).write_text(name)
    command = ["python3", "score.py", "--weights", str(tmp_path / "weights.bin"), "x" * 5000, "a\0b", "."]
    assert oracle_inputs(oracle_config({"kind": "process", "name": "mine", "command": command})) == {
        "mine.command.1": tmp_path / "score.py",
        "mine.command.3": tmp_path / "weights.bin",
    }
    own = ["./score.py", "{receptor}"]
    assert list(oracle_inputs(oracle_config({"kind": "process", "name": "mine", "command": own}))) == [
        "mine.command.0"
    ]


def test_the_module_of_a_function_is_an_input_with_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pack" / "deep").mkdir(parents=True)
    for name in ("alone.py", "pack/__init__.py", "pack/inner.py", "pack/deep/other.py"):
        (tmp_path / name).write_text("raise RuntimeError('imported here')")

    def found(function: str) -> list[str]:
        return list(oracle_inputs(oracle_config({"kind": "function", "name": "mine", "function": function})))

    assert found("alone:score") == ["mine.function/alone.py"]
    assert found("pack.inner:score") == [
        f"mine.function/pack/{name}" for name in ("__init__.py", "deep/other.py", "inner.py")
    ]
    assert found("no_such_module_anywhere:score") == []
    assert "alone" not in sys.modules
    assert "pack" not in sys.modules


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:geheim@host/results",
        "postgresql+psycopg://me:geheim@host:5432/results?sslmode=require",
        "postgresql+psycopg://me@host/results?password=geheim",
        "postgresql+psycopg://me:@host/results?password=geheim",
    ],
)
def test_a_password_in_a_store_s_url_is_refused_before_anything_is_saved(url: str) -> None:
    with pytest.raises(ConfigError, match=r"`oracle\.store`: .*PGPASSWORD.*PGPASSFILE") as caught:
        check_oracle_files(oracle_config({"kind": "qed"}, store=url))
    assert "geheim" not in str(caught.value)


def test_a_store_without_a_password_is_none_of_these(tmp_path: Path) -> None:
    for url in ("postgresql://me@host/results", str(tmp_path / "results.sqlite")):
        check_oracle_files(oracle_config({"kind": "qed"}, store=url))
