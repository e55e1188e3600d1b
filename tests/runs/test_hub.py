"""A model hub that does not answer costs one attempt, whatever is asked for."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from allmodes.errors import ConfigError
from allmodes.runs import hub

CACHED = "somebody/cached"


class Hub(ModuleType):
    """What is used of huggingface_hub, with a count of what was asked."""

    def __init__(self, *, answers: bool, offline: bool = False) -> None:
        super().__init__("huggingface_hub")
        self.constants = SimpleNamespace(HF_HUB_OFFLINE=offline, ENDPOINT="https://hub.example")
        self.answers = answers
        self.calls = 0

    def get_session(self) -> "Hub":
        return self

    def head(self, url: str, *, timeout: float) -> None:
        assert (url, timeout) == ("https://hub.example", 10)
        self.calls += 1
        if not self.answers:
            raise OSError("Name or service\nnot known")

    def try_to_load_from_cache(self, name: str, file: str) -> str | None:
        assert file == "config.json"
        return "/cache/config.json" if name == CACHED else None


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    hub._unreachable.cache_clear()
    yield
    hub._unreachable.cache_clear()


def use(monkeypatch: pytest.MonkeyPatch, **settings: bool) -> Hub:
    found = Hub(**settings)
    monkeypatch.setitem(sys.modules, "huggingface_hub", found)
    monkeypatch.setitem(sys.modules, "huggingface_hub.constants", found.constants)  # type: ignore[arg-type]
    return found


def test_one_attempt_for_all_models(monkeypatch: pytest.MonkeyPatch) -> None:
    found = use(monkeypatch, answers=False)
    for name in ("a/b", "c/d", "a/b"):
        with pytest.raises(ConfigError) as caught:
            hub.reach_hub(name)
        assert str(caught.value) == (
            f"the model {name!r}: expected a folder, a cached model, or a model hub that answers; got none "
            "from https://hub.example (Name or service not known)"
        )
    assert found.calls == 1


def test_a_cached_model_is_loaded_without_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    found = use(monkeypatch, answers=False)
    hub.reach_hub(CACHED)
    assert found.constants.HF_HUB_OFFLINE  # or the library would ask for each of its files


def test_a_folder_asks_nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = use(monkeypatch, answers=False)
    hub.reach_hub(tmp_path)
    hub.reach_hub(str(tmp_path))
    for path in (
        tmp_path / "missing",
        "./missing",
        "../missing",
        "a/b/c",
    ):  # the library says that it is not there
        hub.reach_hub(path)
    assert found.calls == 0


def test_a_hub_that_answers_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    found = use(monkeypatch, answers=True)
    hub.reach_hub("a/b")
    hub.reach_hub("c/d")
    assert found.calls == 1
    assert not found.constants.HF_HUB_OFFLINE


def test_a_hub_that_is_switched_off_is_left_to_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    found = use(monkeypatch, answers=False, offline=True)
    hub.reach_hub("a/b")
    assert found.calls == 0
