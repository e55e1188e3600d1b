"""The frame of an experiment: which folders it takes, and what it refuses to go on with."""

from pathlib import Path

import pytest

from allmodes.errors import RunError
from allmodes.runs.experiment import refuse_old_folder


def test_a_new_run_takes_a_folder_with_files_of_others(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text("kind = 'molecules'")
    (tmp_path / "notes").mkdir()
    refuse_old_folder(tmp_path)
    refuse_old_folder(tmp_path / "new")


@pytest.mark.parametrize("name", ["config.json", "provenance.json", "results.json", "report.html"])
def test_a_new_run_overwrites_no_file(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(RunError, match="choose another folder"):
        refuse_old_folder(tmp_path)


def test_a_new_run_takes_up_no_rest_of_another(tmp_path: Path) -> None:
    """With its configuration gone, an old job's result would count as a result of the new settings."""
    (tmp_path / "reinvent-0").mkdir()
    (tmp_path / "reinvent-0" / ".lock").write_text("")
    with pytest.raises(RunError, match="reinvent-0: choose another folder"):
        refuse_old_folder(tmp_path)
