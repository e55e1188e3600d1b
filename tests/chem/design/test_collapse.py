import json

from allmodes.chem.design.collapse import CollapseMonitor


def test_collapsed_needs_a_full_window() -> None:
    monitor = CollapseMonitor(window=3, min_new=0.1)
    seen = []
    for share in (0.0, 0.0, 0.0):
        monitor.observe(share)
        seen.append(monitor.collapsed)
    assert seen == [False, False, True]


def test_the_mean_of_the_last_window_counts() -> None:
    monitor = CollapseMonitor(window=2, min_new=0.25)
    seen = []
    for share in (1.0, 0.0, 0.5, 0.0, 0.25, 0.125, 1.0):
        monitor.observe(share)
        seen.append(monitor.collapsed)
    # means:     -    .5    .25    .25  .125  .1875 .56; at the limit itself it has not collapsed
    assert seen == [False, False, False, False, True, True, False]


def test_no_new_molecules_are_asked_for() -> None:
    monitor = CollapseMonitor(window=1, min_new=0.0)
    monitor.observe(0.0)
    assert not monitor.collapsed


def test_state_survives_json() -> None:
    monitor = CollapseMonitor(window=3, min_new=0.5)
    for share in (0.9, 0.9, 0.1, 0.4):
        monitor.observe(share)
    other = CollapseMonitor(window=3, min_new=0.5)
    other.restore(json.loads(json.dumps(monitor.state())))
    for share in (0.9, 0.1, 0.9, 0.2, 0.3):
        assert other.collapsed == monitor.collapsed
        monitor.observe(share)
        other.observe(share)
    assert other.collapsed is monitor.collapsed is True
