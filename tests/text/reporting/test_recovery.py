"""Results of a task whose prompts have sets of good answers: figures by hand, view, picture."""

from collections.abc import Sequence
from pathlib import Path

import pytest

pytest.importorskip("matplotlib")

from allmodes.metrics import bootstrap_sem, cumulative_recovery
from allmodes.runs.config import build_config, read_config_file
from allmodes.tasks import Boolean, OneTwo
from allmodes.text.config import TextConfig
from allmodes.text.reporting import report
from allmodes.text.reporting.figures import draw_recovery
from allmodes.text.reporting.results import Arm, TextResult, has_answer_sets, load_result, result_of
from allmodes.text.reporting.views import view_of

TASK = Boolean()
FIRST, SECOND = TASK.prompts[0], TASK.prompts[1]  # y = 0, x = 0: 0 and 1


def responses(prompt: str, ranks: Sequence[int | None]) -> list[str]:
    """Answers by their place among the known ones, None for a broken format."""
    known = TASK.known_answers(prompt)
    return ["no" if rank is None else TASK.write(prompt, known[rank]) for rank in ranks]


def result(ranks: Sequence[Sequence[int | None]], *, arm: Arm | None = None, seed: int = 0) -> TextResult:
    texts = [responses(prompt, row) for prompt, row in zip((FIRST, SECOND), ranks, strict=True)]
    return result_of(TASK, (FIRST, SECOND), texts, arm=arm, seed=seed)[0]


def test_rates_recovery_and_errors_by_hand() -> None:
    sizes = [len(TASK.known_answers(prompt)) for prompt in (FIRST, SECOND)]
    found = result([[0, 0, 1, None], [2, None, None, None]])
    assert found.answers == {}
    assert found.metrics["valid_rate"] == (3 / 4 + 1 / 4) / 2
    assert found.metrics["uniqueness"] == (2 / 3 + 1) / 2
    rates = [2 / sizes[0], 1 / sizes[1]]
    assert found.metrics["recovery_rate"] == pytest.approx(sum(rates) / 2)
    assert found.errors["recovery_rate"] == bootstrap_sem(rates)
    assert [k for k, _, _ in found.recovery] == [1, 2, 3, 4]
    curves = [
        cumulative_recovery(row, TASK.known_answers(prompt))
        for prompt, row in (
            (FIRST, [*[TASK.known_answers(FIRST)[rank] for rank in (0, 0, 1)], None]),
            (SECOND, [TASK.known_answers(SECOND)[2], None, None, None]),
        )
    ]
    for (_, mean, error), values in zip(found.recovery, zip(*curves, strict=True), strict=True):
        assert mean == pytest.approx(sum(values) / 2)
        assert error == bootstrap_sem(values)


def test_uniqueness_leaves_out_prompts_without_a_good_answer() -> None:
    found = result([[0, 0], [None, None]])
    assert found.metrics["uniqueness"] == 1 / 2
    assert found.errors["uniqueness"] == 0
    nothing = result([[None], [None]])
    assert "uniqueness" not in nothing.metrics
    assert [cell(nothing) for cell in view_of(nothing).own.values()][:2] == ["0.000 ± 0.000", "–"]


def test_a_result_with_recovery_survives_its_file(tmp_path: Path) -> None:
    found = result(
        [[0, 1, 2], [0, None, None]], arm=Arm(trainer="rloo", kl="reverse", method="ips", beta=0.1)
    )
    found.save(tmp_path / "result.json")
    assert load_result(tmp_path / "result.json") == found


def test_many_samples_are_shown_at_few_points_that_end_with_all() -> None:
    found = result([[0] * 999 + [1], [0] * 1000])
    points = [k for k, _, _ in found.recovery]
    assert points[0] == 1
    assert points[-1] == 1000
    assert len(points) <= 32
    assert sorted(set(points)) == points


def test_sets_are_known_answers_that_differ_between_prompts() -> None:
    assert has_answer_sets(TASK, TASK.prompts)
    assert has_answer_sets(TASK, [FIRST])  # of one prompt, and too many to count one by one
    assert not has_answer_sets(OneTwo(), OneTwo.prompts)


def test_many_answers_to_one_prompt_are_a_set_and_those_of_some_prompts_alone_are_not_counted() -> None:
    class Letters(OneTwo):  # type: ignore[misc]
        """As many right answers as are asked for, or none that is known."""

        def known_answers(self, prompt: str) -> tuple[str, ...] | None:  # type: ignore[override]
            return tuple("abcdefghijklmnop"[: int(prompt)]) or None

        def parse(self, response: str) -> str | None:
            return response or None

    assert not has_answer_sets(Letters(), ["12"])
    assert has_answer_sets(Letters(), ["13"])
    assert not has_answer_sets(Letters(), ["2", "0"])
    one, _ = result_of(Letters(), ["13"], [["a", "b", "z"]], arm=None, seed=0)
    assert (one.answers, one.metrics["recovery_rate"]) == ({}, pytest.approx(2 / 13))
    mixed, rows = result_of(Letters(), ["2", "0"], [["a", "z"], ["a", "b"]], arm=None, seed=0)
    assert (mixed.answers, mixed.recovery) == ({}, ())
    assert [row.get("correct") for row in rows] == [True, False, None, None]


def test_the_view_tests_the_three_rates() -> None:
    view = view_of(result([[0], [1]]))
    assert view.headings == ["valid rate", "uniqueness", "recovery rate"]
    assert not view.answers


def test_trainers_share_a_panel_and_are_named() -> None:
    arms = [Arm(trainer=t, kl="reverse", method="vanilla", beta=0.1) for t in ("grpo", "flowrl")]
    figure = draw_recovery([result([[0, 1], [2, 2]], arm=arm) for arm in arms], base=result([[0, 0], [0, 0]]))
    [axes] = figure.axes
    labels = [line.get_label() for line in axes.get_lines()]
    assert labels == ["base", "GRPO, reverse KL, vanilla", "FlowRL, reverse KL, vanilla"]
    assert [line.is_dashed() for line in axes.get_lines()] == [True, False, True]


def test_the_picture_has_a_line_for_each_method_and_the_base() -> None:
    arms = [
        Arm(trainer="grpo", kl="reverse", method=m, beta=b) for m in ("vanilla", "ips") for b in (0.1, 1.0)
    ]
    results = [
        result([[0, 1, 2, 3], [0, 0, seed, None]], arm=arm, seed=seed) for arm in arms for seed in (0, 1)
    ]
    base = result([[None, 0, 0, 0], [None, None, None, 0]])
    figure = draw_recovery(results, base=base)
    assert len(figure.axes) == 2  # one for each β
    for axes in figure.axes:
        lines = {line.get_label(): line for line in axes.get_lines()}
        assert list(lines) == ["base", "vanilla", "IPS"]
        means = [[point[1] for point in each.recovery] for each in results if each.arm == arms[0]]
        assert list(lines["vanilla"].get_ydata()) == pytest.approx(
            [sum(v) / 2 for v in zip(*means, strict=True)]
        )
        assert list(lines["base"].get_ydata()) == [point[1] for point in base.recovery]


def test_a_stand_in_says_that_it_has_seen_the_test_prompts() -> None:
    recipe = Path(__file__).parents[3] / "recipes" / "hypospace-boolean.toml"
    config = build_config(TextConfig, read_config_file(recipe), source="recipe")
    [remark] = report._test_remarks(config, {"used": 39, "test": 39})
    assert "including test prompts" in remark
    assert report._test_remarks(config, {"used": 39, "test": 0}) == []
    assert report._test_remarks(config.model_copy(update={"model": "a/b"}), {"test": 39}) == []
