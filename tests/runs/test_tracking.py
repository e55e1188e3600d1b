"""Trackers: what they are given, and that one which fails is named and left out."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from PIL import Image

from allmodes.errors import ConfigError
from allmodes.runs.tracking import Trackers, check_trackers

ROWS = [
    {"step": 1, "mean_reward": 0.25, "hits": 0, "collapsed": False, "unknown": None, "name": "text"},
    {"step": 2, "mean_reward": 0.5, "hits": 3, "collapsed": True, "unknown": None, "name": "text"},
]
NUMBERS = [
    ({"mean_reward": 0.25, "hits": 0.0, "collapsed": 0.0}, 1),
    ({"mean_reward": 0.5, "hits": 3.0, "collapsed": 1.0}, 2),
]


class Service(ModuleType):
    """The functions that Trackio and W&B have in common; keeps what it is given."""

    def __init__(self, name: str, *, fails_at: int | None = None, start: Exception | None = None) -> None:
        super().__init__(name)
        self.settings: dict[str, Any] = {}
        self.logged: list[tuple[Any, int]] = []
        self.finished = False
        self._fails_at, self._start = fails_at, start

    def init(self, **settings: Any) -> "Service":
        if self._start is not None:
            raise self._start
        self.settings = settings
        return self

    def Image(self, picture: Any) -> tuple[str, Any]:
        return "image", picture.size

    def log(self, values: Any, *, step: int) -> None:
        if step == self._fails_at:
            raise ConnectionError("no route\nto host")
        self.logged.append((values, step))

    def finish(self) -> None:
        self.finished = True


def track(
    monkeypatch: pytest.MonkeyPatch, folder: Path, *services: Service, first_step: int = 1
) -> list[str]:
    """Show both rows and a picture; the lines that were said."""
    said: list[str] = []
    names: Any = [service.__name__ for service in services]
    for service in services:
        monkeypatch.setitem(sys.modules, service.__name__, service)
    folder.mkdir(parents=True, exist_ok=True)
    with Trackers(names, folder, settings={"sigma": 128}, first_step=first_step, say=said.append) as trackers:
        for row in ROWS:
            trackers.log(row)
        trackers.image("best", lambda: Image.new("RGB", (8, 4)), step=2)
    return said


@pytest.mark.parametrize("name", ["trackio", "wandb"])
def test_a_service_gets_settings_numbers_and_pictures(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = Service(name)
    assert track(monkeypatch, tmp_path / "demo" / "mara-0", service) == []
    assert service.settings["config"] == {"sigma": 128}
    assert service.settings["name"] == "demo/mara-0"
    assert service.logged == [*NUMBERS, ({"best": ("image", (8, 4))}, 2)]
    assert service.finished


def test_a_resumed_run_is_the_same_run_and_another_folder_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = []
    for folder in ("one/mara-0", "one/mara-0", "one/mara-1", "two/mara-0"):
        service = Service("wandb")
        track(monkeypatch, tmp_path / folder, service)
        ids.append(service.settings["id"])
        assert service.settings["resume"] == "allow"
    assert ids[0] == ids[1]
    assert len(set(ids)) == 3


def test_a_tracker_that_cannot_start_is_one_line_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken, working = Service("wandb", start=OSError("No API key\nconfigured")), Service("trackio")
    said = track(monkeypatch, tmp_path / "mara-0", broken, working)
    assert said == [
        "`track`: the run continues without wandb: No API key configured; "
        "WANDB_MODE=offline writes to the run folder"
    ]
    assert len(working.logged) == 3


def test_a_tracker_that_fails_later_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service("trackio", fails_at=1)
    said = track(monkeypatch, tmp_path / "mara-0", service)
    assert said == ["`track`: the run continues without trackio: no route to host"]
    assert service.logged == []


def test_no_picture_is_drawn_where_nobody_looks(tmp_path: Path) -> None:
    with Trackers([], tmp_path, settings={}, first_step=1) as trackers:
        trackers.image("best", lambda: pytest.fail("drawn"), step=1)


@pytest.mark.parametrize(
    ("name", "command"), [("tensorboard", r"\[tensorboard\]"), ("wandb", "wandb"), ("trackio", "trackio")]
)
def test_a_tracker_that_is_not_installed_is_refused(
    name: Any, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("allmodes.runs.tracking.is_installed", lambda module: module != name)
    with pytest.raises(ConfigError, match=f"`track`: '{name}' needs `.* install .*{command}.*not installed"):
        check_trackers(["tensorboard", "trackio", "wandb"])


def test_tensorboard_has_curves_settings_and_pictures_and_a_resumed_run_drops_repeated_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = tmp_path / "demo" / "mara-0"
    said: list[str] = []
    for first_step, factor in ((1, 1.0), (2, 10.0)):  # killed after step 2, its checkpoint was step 1's
        with Trackers(
            ["tensorboard"], folder, settings={"sigma": 128}, first_step=first_step, say=said.append
        ) as trackers:
            for row in ROWS[first_step - 1 :]:
                trackers.log({**row, "mean_reward": row["mean_reward"] * factor})
            trackers.image("best", lambda: Image.new("RGB", (8, 4)), step=2)
    assert said == []
    events = EventAccumulator(str(tmp_path / "demo" / "tensorboard" / "mara-0"), size_guidance={"images": 0})
    events.Reload()
    points = [(point.step, point.value) for point in events.Scalars("mean_reward")]
    assert points == [(1, 0.25), (2, 5.0)]
    assert sorted(events.Tags()["scalars"]) == ["collapsed", "hits", "mean_reward"]
    assert events.Images("best")[-1].width == 8
    (settings,) = events.Tensors("settings/text_summary")[-1:]
    assert b'"sigma": 128' in settings.tensor_proto.string_val[0]
