"""The report on an objective's optimum against numbers worked out by hand or by other routes."""

import io
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from rich.console import Console

from allmodes.cli.samples import SAMPLES
from allmodes.errors import InputError, RunError
from allmodes.methods import IPS, MARA, METHODS, Plain
from allmodes.reports.plotting import distinct_colors
from allmodes.worlds.own_outcomes import report as optimum_report
from allmodes.worlds.own_outcomes.optima import Optimum
from allmodes.worlds.own_outcomes.report import (
    explain_file,
    explain_optimum,
    explain_reference,
    flip_betas,
    print_report,
    report_json,
    without_optimum,
    write_report,
)
from allmodes.worlds.own_outcomes.table import OutcomeTable, read_outcomes
from allmodes.worlds.own_outcomes.warnings import warnings

SAMPLE = SAMPLES / "outcomes.csv"
Q = (0.2, 0.05, 0.01, 0.44, 0.3)
R = (1.0, 1.0, 0.9, 0.5, 0.0)
NAMES = ("a", "b", "c", "d", "e")


def table_of(
    rewards: Sequence[float], probabilities: Sequence[float], names: Sequence[str] | None = None
) -> OutcomeTable:
    ref = torch.log_softmax(torch.tensor(probabilities, dtype=torch.float64).log(), 0)
    return OutcomeTable(
        names=tuple(names or (f"y{i}" for i in range(len(rewards)))),
        rewards=torch.tensor(rewards, dtype=torch.float64),
        ref_logprobs=ref,
    )


TABLE = table_of(R, Q, NAMES)


def explain(
    table: OutcomeTable,
    kl: Literal["reverse", "forward", "both"],
    *betas: float,
    threshold: float | None,
    tolerance: float = 0.1,
) -> list[Optimum]:
    return explain_optimum(table, betas=betas, kl=kl, threshold=threshold, tolerance=tolerance)


def masses(optimum: Optimum) -> list[float]:
    return optimum.logprobs.exp().tolist()


def normalised(values: Sequence[float]) -> list[float]:
    return [value / math.fsum(values) for value in values]


def hill(values: Sequence[float]) -> float:
    """Effective number of modes, as a product of powers."""
    return math.prod(p**-p for p in normalised(values) if p > 0)


def root(function: Any, low: float, high: float) -> float:
    """Where a falling function crosses 1, by bisection of the logarithm."""
    for _ in range(300):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if function(middle) > 1 else (low, middle)
    return low


def forward_by_bisection(rewards: Sequence[float], ref: Sequence[float], beta: float) -> list[float]:
    best = max(rewards)
    gap = root(
        lambda s: math.fsum(beta * q / (s + best - r) for q, r in zip(ref, rewards, strict=True)),
        1e-12,
        10 * beta,
    )
    return [beta * q / (gap + best - r) for q, r in zip(ref, rewards, strict=True)]


def test_the_order_of_the_rows() -> None:
    both = explain(TABLE, "both", 0.5, 0.1, 0.5, threshold=0.9)
    assert [(o.kl, o.beta, o.objective) for o in both] == [
        ("reverse", 0.5, "plain"),
        ("reverse", 0.5, "mara"),
        ("reverse", 0.1, "plain"),
        ("reverse", 0.1, "mara"),
        ("forward", 0.5, "plain"),
        ("forward", 0.5, "mara"),
        ("forward", 0.5, "corrected"),
        ("forward", 0.1, "plain"),
        ("forward", 0.1, "mara"),
        ("forward", 0.1, "corrected"),
    ]
    without = explain(TABLE, "both", 0.5, threshold=None)
    assert [(o.kl, o.objective) for o in without] == [("reverse", "plain"), ("forward", "plain")]


@pytest.mark.parametrize("beta", [0.02, 0.3, 5.0])
def test_reverse_kl_by_enumeration(beta: float) -> None:
    plain, mara = explain(TABLE, "reverse", beta, threshold=0.9)
    assert masses(plain) == pytest.approx(
        normalised([q * math.exp(r / beta) for q, r in zip(Q, R, strict=True)]), rel=1e-12
    )
    level = 0.2 * math.exp(1 / beta)  # the likeliest of a, b and c is a
    below = [0.44 * math.exp(0.5 / beta), 0.3]
    assert masses(mara) == pytest.approx(normalised([level, level, level, *below]), rel=1e-12)


@pytest.mark.parametrize("beta", [0.02, 0.3, 5.0])
def test_forward_kl_by_bisection(beta: float) -> None:
    plain, mara, corrected = explain(TABLE, "forward", beta, threshold=0.9)
    assert masses(plain) == pytest.approx(forward_by_bisection(R, Q, beta), rel=1e-10)
    augmented = [1 + beta * math.log(0.2 / q) for q in Q[:3]] + [0.5, 0.0]
    assert masses(mara) == pytest.approx(forward_by_bisection(augmented, Q, beta), rel=1e-10)
    # Uniform at u above the threshold: 3u + Σ βq/(R(z) + βq(z)/u − R) = 1 over the rest.
    below = list(zip(Q[3:], R[3:], strict=True))

    def mass_below(u: float) -> list[float]:
        return [beta * q / (1 + beta * 0.2 / u - r) for q, r in below]

    u = root(lambda u: 2 - 3 * u - math.fsum(mass_below(u)), 1e-9, 1.0)
    assert masses(corrected) == pytest.approx([u, u, u, *mass_below(u)], rel=1e-9)


def test_what_is_said_of_an_optimum() -> None:
    (plain, _) = explain(TABLE, "reverse", 0.1, threshold=0.9)
    expected = normalised([q * math.exp(r / 0.1) for q, r in zip(Q, R, strict=True)])
    assert plain.effective_modes == pytest.approx(hill(expected), rel=1e-12)
    assert plain.good_modes == pytest.approx(hill(expected[:3]), rel=1e-12)
    assert plain.good_mass == pytest.approx(sum(expected[:3]), rel=1e-12)
    assert (plain.top, plain.top_share) == (0, pytest.approx(expected[0], rel=1e-12))
    # a over c: 0.2/0.01 · e^((1 − 0.9)/0.1).
    assert plain.good_log_ratio == pytest.approx(math.log(20) + 1, rel=1e-12)
    assert not plain.is_multimodal


def test_the_reference_is_the_limit_of_a_large_beta() -> None:
    reference = explain_reference(TABLE, threshold=0.9, tolerance=0.1)
    assert masses(reference) == pytest.approx(Q, rel=1e-12)
    assert reference.good_mass == pytest.approx(0.26, rel=1e-12)
    assert reference.good_modes == pytest.approx(hill(Q[:3]), rel=1e-12)
    (far,) = explain(TABLE, "reverse", 1e9, threshold=None)
    assert masses(far) == pytest.approx(Q, rel=1e-8)


def test_multimodality_turns_at_the_bound() -> None:
    """d is 2.2 times as likely as the anchor a and 0.5 worse: the bound is 0.5/log 2.2."""
    bound = 0.5 / math.log(2.2)
    inside, outside = 0.999 * bound, 1.001 * bound
    optima = [o for o in explain(TABLE, "reverse", inside, outside, threshold=0.9) if o.objective == "mara"]
    assert [o.is_multimodal for o in optima] == [True, False]
    report = report_json(TABLE, optima, threshold=0.9, tolerance=0.1)
    assert report["mara_beta_bound"] == pytest.approx(bound, rel=1e-12)
    warned = [s for s in report["warnings"] if s.startswith("MARA under")]
    assert warned == [
        f"MARA under reverse KL at beta = {outside:g} is not below its bound, {bound:.4g}: 'd' (reward 0.5) "
        "stays at least as likely as each good outcome. Choose a smaller beta."
    ]


def test_no_bound_where_the_anchor_is_the_likeliest() -> None:
    table = table_of([1, 1, 0], [0.5, 0.1, 0.4])
    optima = explain(table, "reverse", 1e6, threshold=1.0)
    assert optima[1].is_multimodal
    assert "reward-multimodal for every beta." in printed(table, optima, threshold=1.0)
    assert report_json(table, optima, threshold=1.0, tolerance=0.1)["mara_beta_bound"] == "inf"


def test_tolerance_is_how_uneven_good_outcomes_may_be() -> None:
    table = table_of([1, 1, 0], [0.2, 0.1, 0.7])
    for tolerance, expected in ((0.69, False), (0.70, True)):
        (plain, _) = explain(table, "reverse", 0.1, threshold=1.0, tolerance=tolerance)
        assert plain.is_multimodal is expected


def test_without_a_threshold_only_the_best_within_reach_is_good() -> None:
    table = table_of([1, 1, 0.5, 2], [0.6, 0.2, 0.2, 0])
    (plain,) = explain(table, "reverse", 0.1, threshold=None)
    assert plain.good_modes == pytest.approx(hill([0.6, 0.2]), rel=1e-12)
    report = report_json(table, [plain], threshold=None, tolerance=0.1)
    assert (report["threshold"], report["good_threshold"], report["mara_beta_bound"]) == (None, 1.0, None)


def test_good_outcomes_out_of_reach() -> None:
    """Definition 3.5 is judged where samples come from; forward KL puts mass elsewhere all the same."""
    table = table_of([1, 1, 0, 1.6], [0.3, 0.2, 0.5, 0])
    optima = explain(table, "both", 0.4, threshold=1.0)
    reverse, mara, plain, _, corrected = optima
    assert masses(reverse)[3] == masses(mara)[3] == 0
    assert mara.is_multimodal
    assert mara.good_modes == pytest.approx(2, rel=1e-12)
    # Λ = 1.6, the reward out of reach: 1 − Σ 0.4 q/(1.6 − R) is left for it.
    inside = [0.4 * 0.3 / 0.6, 0.4 * 0.2 / 0.6, 0.4 * 0.5 / 1.6]
    assert masses(plain) == pytest.approx([*inside, 1 - sum(inside)], rel=1e-12)
    assert masses(corrected)[3] == 0
    assert corrected.good_log_ratio == pytest.approx(0, abs=1e-9)
    (lost,) = [s for s in warnings(table, optima, threshold=1.0, tolerance=0.1) if "never reached" in s]
    share = 100 * max(masses(o)[3] for o in optima)
    assert lost == (
        "1 outcome with reward >= 1 and reference probability 0 ('y3'): never reached under reverse KL, with "
        f"MARA or without. The forward-KL optimum gives them up to {share:.1f}% (at beta = 0.4), yet no "
        "sample of the reference shows them."
    )


def test_corrected_rewards_stay_uniform_beside_a_large_reward() -> None:
    table = table_of([1000, 1000, 1000, 0.2], [1e-9, 2e-13, 1e-13, 1])
    *_, corrected = explain(table, "forward", 1e-3, threshold=1000.0)
    assert corrected.good_log_ratio < 1e-3


def test_betas_so_small_that_ratios_overflow() -> None:
    table = table_of([1, 0.9, 0], [0.5, 0.3, 0.2])
    plain, mara = explain(table, "reverse", 1e-5, threshold=0.9)
    assert plain.good_log_ratio == pytest.approx(math.log(5 / 3) + 1e4, rel=1e-9)
    assert plain.good_modes == 1
    assert mara.good_modes == pytest.approx(2, rel=1e-12)
    sink = io.StringIO()
    optima = [plain, mara]
    print_report(table, optima, threshold=0.9, tolerance=0.1, console=Console(file=sink, width=100))
    assert "e+4343" in sink.getvalue()  # e^10000.5 is 10^4343.1
    json.dumps(report_json(table, optima, threshold=0.9, tolerance=0.1), allow_nan=False)


def test_flip_betas_make_pairs_equal() -> None:
    flips = flip_betas(TABLE, threshold=0.9)
    # Among a, b and c the better is the likelier; d and e are there as the rest of the five best.
    expected = {
        ("a", "d"): 0.5 / math.log(2.2),
        ("a", "e"): 1 / math.log(1.5),
        ("b", "d"): 0.5 / math.log(8.8),
        ("b", "e"): 1 / math.log(6),
        ("c", "d"): 0.4 / math.log(44),
        ("c", "e"): 0.9 / math.log(30),
    }
    assert {(NAMES[f.better], NAMES[f.likelier]): f.beta for f in flips} == pytest.approx(expected, rel=1e-12)
    assert [f.beta for f in flips] == pytest.approx(sorted(expected.values(), reverse=True), rel=1e-12)
    for flip in flips:
        better, likelier = (Q[i] * math.exp(R[i] / flip.beta) for i in (flip.better, flip.likelier))
        assert better == pytest.approx(likelier, rel=1e-10)


def test_flip_betas_are_those_of_a_few_outcomes() -> None:
    """Of 40 outcomes, each likelier than every better one, the best 5 and the likeliest good 5 (15 to 19)."""
    table = table_of([1 - 0.01 * i for i in range(40)], [1.1**i for i in range(40)])
    flips = flip_betas(table, threshold=0.805)
    assert {i for f in flips for i in (f.better, f.likelier)} == {*range(5), *range(15, 20)}
    assert len(flips) == 45
    assert [f.beta for f in flips] == pytest.approx([0.01 / math.log(1.1)] * 45, rel=1e-9)


def test_a_collapse_is_told_in_numbers() -> None:
    table = table_of([1.0, 0.9, 0.9, 0.9, 0], [0.1, 0.1, 0.1, 0.1, 0.6], ["x", "p", "q", "r", "s"])
    optima = explain(table, "reverse", 0.015, 0.5, threshold=0.8)
    rest = 3 * math.exp(-0.1 / 0.015)
    others = [s for s in warnings(table, optima, threshold=0.8, tolerance=0.1) if "CONSTRUCTION" in s]
    assert others == [
        "UNIMODAL BY CONSTRUCTION: at beta = 0.015 under reverse KL one outcome, 'x' (reward 1), has "
        f"{100 / (1 + rest):.1f}% of the mass; 3 others with reward >= 0.8 share "
        f"{100 * rest / (1 + rest):.1f}%. No optimiser can undo this."
    ]


def test_a_collapse_among_few_good_samples() -> None:
    """At β = 5 good outcomes have little mass; what they have is on one of them."""
    table = table_of([1, 1, 1, 1, 1, 0], [0.1, 1e-3, 1e-3, 1e-3, 1e-3, 0.896])
    optima = explain(table, "reverse", 5.0, 4.0, threshold=1.0)
    weight = 0.104 * math.exp(1 / 5)
    share, inside = weight / (weight + 0.896), 0.1 / 0.104
    collapse, outweighed, tied, bound = warnings(table, optima, threshold=1.0, tolerance=0.1)
    assert collapse == (
        f"UNEVEN AMONG GOOD OUTCOMES BY CONSTRUCTION: at beta = 5 under reverse KL one outcome, 'y0' "
        f"(reward 1), "
        f"has {100 * inside:.1f}% of the {100 * share:.1f}% on good outcomes; 4 others with reward >= 1 "
        f"share "
        f"{100 - 100 * inside:.1f}%. No optimiser can undo this. It is also uneven at beta = 4 "
        f"({hill([0.1] + [1e-3] * 4):.1f}); in parentheses: how many of the 5 good outcomes are left, as an "
        "effective number."
    )
    assert outweighed == (
        "The reference outweighs the reward under reverse KL at beta = 5, 4: outcomes with reward >= 1 have "
        f"only {100 * share:.1f}% of the mass at beta = 5."
    )
    assert tied == (
        "5 good outcomes have the same reward, 1, and under the reference 'y0' is 100 times as likely as "
        "'y1': without MARA lowering beta will not change this ratio."
    )
    assert f"beta = 5, 4 is not below its bound, {1 / math.log(8.96):.4g}: 'y5' (reward 0) stays" in bound


def test_lowering_beta_does_not_change_the_ratio_of_equal_rewards() -> None:
    table = table_of([1, 1, 0], [0.6, 0.03, 0.37])
    for optimum in explain(table, "both", 1e-4, 0.1, 10, threshold=None):
        assert optimum.good_log_ratio == pytest.approx(math.log(20), rel=1e-9)


def test_forward_mara_is_said_not_to_be_uniform() -> None:
    """Measured elsewhere: MARA (.028, .971, .001) at β = 1e-3."""
    table = table_of([1, 1, 0], [0.02, 0.01, 0.97])
    optima = explain(table, "forward", 1e-3, threshold=1.0)
    _, mara, corrected = optima
    assert masses(mara) == pytest.approx([0.028, 0.971, 0.001], abs=5e-4)
    assert masses(corrected)[0] == pytest.approx(masses(corrected)[1], rel=1e-9)
    assert (mara.is_multimodal, corrected.is_multimodal) == (False, True)
    (said,) = [s for s in warnings(table, optima, threshold=1.0, tolerance=0.1) if "forward-KL" in s]
    ratio = masses(mara)[1] / masses(mara)[0]
    assert said == (
        f"MARA's rewards do not make the forward-KL optimum uniform: at beta = 0.001 'y1' is {ratio:.3g} "
        "times as likely as 'y0', though both are good. Rows called corrected show rewards that do."
    )
    late = warnings(table, explain(table, "forward", 1.0, threshold=1.0), threshold=1.0, tolerance=0.1)
    assert any("beta = 1 is uniform over good outcomes, yet 'y2' (reward 0) stays" in s for s in late)


def test_a_healthy_objective_has_no_warning() -> None:
    table = table_of([1, 1, 0], [0.3, 0.3, 0.4])
    optima = explain(table, "both", 0.05, threshold=1.0)
    assert warnings(table, optima, threshold=1.0, tolerance=0.1) == []
    assert all(o.is_multimodal for o in optima)


def test_close_rewards_collapse_without_a_threshold_and_a_large_beta_does_not() -> None:
    table = table_of([1, 0.99, 0.98, 0.2], [0.25] * 4)
    small, large = (
        warnings(table, explain(table, "reverse", beta, threshold=None), threshold=None, tolerance=0.1)
        for beta in (0.001, 10.0)
    )
    assert any("UNIMODAL" in sentence for sentence in small)
    assert not any("UNIMODAL" in sentence for sentence in large)


def test_one_good_outcome_is_named_as_such() -> None:
    table = table_of([1, 0.5], [0.3, 0.7])
    for threshold, hint in ((0.9, "a lower threshold shows more"), (None, "MARA needs a threshold")):
        alone, said = warnings(
            table, explain(table, "reverse", 0.1, threshold=threshold), threshold=threshold, tolerance=0.1
        )
        share = 0.3 / (0.3 + 0.7 * math.exp(-5))
        assert alone.startswith("UNIMODAL BY CONSTRUCTION: under reverse KL at beta = 0.1 one outcome, 'y0'")
        assert f"has {100 * share:.1f}% of the mass" in alone
        assert said.startswith("Only one outcome that the reference reaches has reward >= ")
        assert hint in said


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"betas": []}, "`betas` must hold at least one number; got none"),
        ({"betas": [0.1, -0.5]}, "`beta` must be a finite number above 0; got -0.5"),
        ({"betas": [0.0]}, "`beta` must be a finite number above 0; got 0.0"),
        ({"betas": [math.nan]}, "`beta` must be a finite number above 0; got nan"),
        ({"betas": [1e308]}, "`beta` must lie between 1e-30 and 1e+30; got 1e+308"),
        ({"betas": [1e-320]}, "`beta` must lie between 1e-30 and 1e+30; got 9.99989e-321"),
        ({"betas": [math.inf]}, "`beta` must be a finite number above 0; got inf"),
        ({"threshold": 1.7}, "`threshold` must not exceed the best reward, 1.6; got 1.7"),
        ({"threshold": math.nan}, "`threshold` must not exceed the best reward, 1.6; got nan"),
        (
            {"threshold": 1.2},
            "`threshold` must not exceed the best reward that has reference probability above 0, 1; got 1.2",
        ),
        ({"tolerance": -0.1}, "`tolerance` must not be negative; got -0.1"),
        ({"tolerance": math.nan}, "`tolerance` must not be negative; got nan"),
        ({"kl": "sideways"}, "`kl` must be one of ('reverse', 'forward', 'both'); got 'sideways'"),
    ],
)
def test_wrong_values_are_named(change: dict[str, Any], message: str) -> None:
    table = table_of([1, 0, 1.6], [0.3, 0.7, 0])
    arguments: dict[str, Any] = {
        "betas": [0.1], "kl": "reverse", "threshold": 1.0, "tolerance": 0.1, **change,
    }  # fmt: skip
    with pytest.raises(InputError) as caught:
        explain_optimum(table, **arguments)
    assert str(caught.value) == message


def printed(table: OutcomeTable, optima: list[Optimum], *, threshold: float | None, width: int = 100) -> str:
    sink = io.StringIO()
    console = Console(file=sink, width=width)
    print_report(table, optima, threshold=threshold, tolerance=0.1, console=console)
    return sink.getvalue()


def test_print_shows_the_numbers() -> None:
    text = printed(TABLE, explain(TABLE, "both", 0.1, threshold=0.9), threshold=0.9)
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert lines[0] == "Outcomes: 5; good: 3 (reward >= 0.9)"
    assert f"reference {hill(Q):.1f} {hill(Q[:3]):.1f} of 3 26.0% d 44.0% 20 no" in lines
    # a : b : c = 0.2 : 0.05 : 0.01/e, and d and e have 0.44/e^5 and 0.3/e^10.
    good = [0.2, 0.05, 0.01 / math.e]
    total = sum(good) + 0.44 * math.exp(-5) + 0.3 * math.exp(-10)
    assert (
        f"0.1 vanilla {hill([*good, 0.44 * math.exp(-5), 0.3 * math.exp(-10)]):.1f} {hill(good):.1f} of 3 "
        f"{100 * sum(good) / total:.1f}% a {100 * 0.2 / total:.1f}% {20 * math.e:.3g} no"
    ) in lines
    assert f"{1 / math.log(1.5):.4g} a 1 e 0" in lines
    assert f"MARA under reverse KL is reward-multimodal for beta < {0.5 / math.log(2.2):.4g}." in lines


def test_print_fits_and_leaves_markup_alone() -> None:
    names = ["[bold]b[/bold]", "[/red]", "x\ny\x1b[31m", "\\[link=z]", "[" * 90]
    table = table_of(R, Q, names)
    text = printed(table, explain(table, "both", 1e-9, 0.123456789, 1e9, threshold=0.9), threshold=0.9)
    assert "[" * 90 in text  # in a pipe no name is cut or wrapped
    assert "[bold]b[/bold]" in text
    assert "[/red]" in text
    assert "x y?[31m" in text
    assert "\x1b" not in text
    assert "corrected" in text
    assert "multimodal" in text


def test_json_holds_everything_and_reads_back(tmp_path: Path) -> None:
    table = table_of([1, 1, 0, 2], [0.3, 0.2, 0.5, 0], ["a", "b", "c", "d"])
    optima = explain(table, "both", 0.1, 1.0, threshold=1.0)
    report = json.loads(json.dumps(report_json(table, optima, threshold=1.0, tolerance=0.1), allow_nan=False))
    assert len(report["optima"]) == len(optima) == 10
    for shown, optimum in zip(report["optima"], optima, strict=True):
        assert shown["probabilities"] == masses(optimum)
        assert [float(value) for value in shown["logprobs"]] == optimum.logprobs.tolist()
        assert shown["top_outcome"] == table.names[optimum.top]
        for field in (
            "kl",
            "beta",
            "objective",
            "good_modes",
            "good_mass",
            "is_multimodal",
            "good_log_ratio",
        ):
            assert shown[field] == getattr(optimum, field)
    assert report["good_outcomes_in_reach"] == 2
    assert report["flip_betas"] == [
        {"better": "a", "likelier": "c", "beta": pytest.approx(1 / math.log(5 / 3))},
        {"better": "b", "likelier": "c", "beta": pytest.approx(1 / math.log(5 / 2))},
    ]
    assert report["warnings"] == warnings(table, optima, threshold=1.0, tolerance=0.1)
    file = tmp_path / "outcomes.json"
    file.write_text(json.dumps(report["outcomes"]))
    again = read_outcomes(file)
    assert again.names == table.names
    torch.testing.assert_close(again.ref_logprobs, table.ref_logprobs, rtol=1e-14, atol=0)


def bars(axes: Any) -> dict[str, list[float]]:
    """Widths of the bars by colour, from the top of the panel down."""
    from matplotlib.colors import to_hex

    found: dict[str, list[tuple[float, float]]] = {}
    for patch in axes.patches:
        if patch.get_height() < 1:
            middle = patch.get_y() + patch.get_height() / 2
            found.setdefault(to_hex(patch.get_facecolor()), []).append((middle, patch.get_width()))
    return {colour: [width for _, width in sorted(pairs)] for colour, pairs in found.items()}


def test_the_figure_of_a_few_shows_probabilities_by_name() -> None:
    pytest.importorskip("matplotlib")
    from allmodes.worlds.own_outcomes.figure import draw_report

    shuffled = [3, 1, 4, 0, 2]
    table = table_of([R[i] for i in shuffled], [Q[i] for i in shuffled], [NAMES[i] for i in shuffled])
    optima = explain(table, "both", 0.1, threshold=0.9)
    figure = draw_report(table, optima, threshold=0.9)
    rewards, reverse, _, forward = figure.axes
    assert [label.get_text() for label in rewards.get_yticklabels()] == list(NAMES)
    assert reverse.get_title("left") == "reverse KL, β = 0.1"
    assert forward.get_title("left") == "forward KL, β = 0.1"
    assert list(bars(rewards).values()) == [pytest.approx(R)]
    back = [shuffled.index(i) for i in range(5)]
    colours = distinct_colors({"plain": Plain.color, "mara": MARA.color, "corrected": MARA.color}).values()
    by_colour = {colour.upper(): index for index, colour in enumerate(colours)}
    for axes, first, count in ((reverse, 0, 2), (forward, 2, 3)):
        shown = bars(axes)
        assert len(shown) == count
        for colour, widths in shown.items():
            expected = masses(optima[first + by_colour[colour.upper()]])
            assert widths == pytest.approx([100 * expected[i] for i in back], rel=1e-12)


def test_the_figure_of_many_shows_every_probability_once() -> None:
    """As a dot at its decade, or where it is too small for that as a tick in the strip below."""
    pytest.importorskip("matplotlib")
    from matplotlib.colors import to_hex

    from allmodes.worlds.own_outcomes.figure import draw_report

    table = table_of([1 - i / 60 for i in range(60)], [1 + i % 7 for i in range(60)])
    optima = explain(table, "reverse", 0.03, threshold=0.8)
    _, axes = draw_report(table, optima, threshold=0.8).axes
    for optimum, colour in zip(optima, (Plain.color.upper(), MARA.color), strict=True):
        mine = [c for c in axes.collections if to_hex(c.get_facecolor()[0] if len(c.get_facecolor()) else
                c.get_edgecolor()[0]).upper() == colour]  # fmt: skip
        dots = {
            round(float(x)): float(y)
            for c in mine
            for x, y in c.get_offsets()
            if len(c.get_facecolor()) and len(c.get_offsets())
        }
        ticks = {
            round(float(segment[0][0]))
            for c in mine
            if not len(c.get_facecolor())
            for segment in c.get_segments()
        }
        expected = {i + 1: math.log10(p) for i, p in enumerate(masses(optimum))}
        floor = min(dots.values())
        assert dots == pytest.approx({rank: y for rank, y in expected.items() if y >= math.floor(floor)})
        assert ticks == set(expected) - set(dots)
        assert ticks


@pytest.mark.parametrize(
    "table",
    [
        table_of([0.0], [1.0]),
        table_of([-3, -1, -1], [0.5, 0.3, 0.2], ["日本語", "$\\frac{$", "x" * 500]),
        table_of([0.0] * 30, [1.0] * 30),
        table_of([math.sin(i) for i in range(300)], [math.exp(5 * math.cos(3 * i)) for i in range(300)]),
        table_of([1.0, 2.0, 0.5], [0.5, 0.0, 0.5]),
    ],
)
def test_files_are_written_for_any_table(tmp_path: Path, table: OutcomeTable) -> None:
    pytest.importorskip("matplotlib")
    threshold = float(table.rewards[~table.ref_logprobs.isneginf()].max())
    optima = explain(table, "both", 0.01, 1.0, threshold=threshold)
    written = write_report(table, optima, threshold=threshold, tolerance=0.1, out=tmp_path / "new" / "out")
    assert [path.name for path in written] == ["target.json", "target.png", "target.svg"]
    assert sorted(path.name for path in (tmp_path / "new" / "out").iterdir()) == sorted(
        path.name for path in written
    )
    assert json.loads(written[0].read_text())["threshold"] == threshold
    assert written[1].read_bytes().startswith(b"\x89PNG")
    assert "<svg" in written[2].read_text()


def test_many_betas_are_thinned_in_the_figure_alone() -> None:
    pytest.importorskip("matplotlib")
    from allmodes.worlds.own_outcomes.figure import draw_report

    betas = [0.01 * 1.2**i for i in range(40)]
    optima = explain(TABLE, "reverse", *betas, threshold=0.9)
    titles = [axes.get_title("left") for axes in draw_report(TABLE, optima, threshold=0.9).axes]
    shown = [title for title in titles if title != "reward"]
    assert len(shown) == 15
    assert shown[0] == "reverse KL, β = 0.01"
    assert shown[-1] == f"reverse KL, β = {betas[-1]:g}"


def test_nothing_is_written_when_the_figure_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures = pytest.importorskip("matplotlib.figure")

    def draw(*arguments: Any, **options: Any) -> Any:
        figure = figures.Figure()
        figure.suptitle("$\\frac{$")  # fails when it is laid out, not before
        return figure

    monkeypatch.setattr(optimum_report, "draw_report", draw)
    optima = explain(TABLE, "reverse", 0.1, threshold=0.9)
    with pytest.raises(ValueError, match="frac"):
        write_report(TABLE, optima, threshold=0.9, tolerance=0.1, out=tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_a_file_is_one_line(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    (tmp_path / "out").write_text("")
    optima = explain(TABLE, "reverse", 0.1, threshold=0.9)
    with pytest.raises(RunError, match=r"cannot write .*: File exists"):
        write_report(TABLE, optima, threshold=0.9, tolerance=0.1, out=tmp_path / "out")


def explain_sample(out: Path | None, console: Console) -> None:
    explain_file(
        SAMPLE,
        betas=[0.01, 0.1],
        kl="both",
        threshold=0.9,
        tolerance=0.1,
        normalise=False,
        out=out,
        console=console,
    )


def test_a_file_is_explained_from_end_to_end(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    sink = io.StringIO()
    explain_sample(tmp_path / "out", Console(file=sink, width=100))
    text = sink.getvalue()
    assert "Outcomes: 8; good: 4 (reward >= 0.9)" in text
    # 0.08 e^100, 0.01 e^100, 0.0004 e^100, 0.02 e^90 and specks: 0.08/0.0904 of the mass.
    assert f"0.01  vanilla      {hill([0.08, 0.01, 0.0004]):.1f}" in text
    assert "88.5%" in text
    for name in ("target.json", "target.png", "target.svg"):
        assert f"written: {tmp_path / 'out' / name}" in text
    report = json.loads((tmp_path / "out" / "target.json").read_text())
    assert [o["objective"] for o in report["optima"]] == ["plain", "mara"] * 2 + [
        "plain",
        "mara",
        "corrected",
    ] * 2


def test_matplotlib_is_wanted_for_files_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    sink = io.StringIO()
    explain_sample(None, Console(file=sink, width=100))
    assert "reward-multimodal" in sink.getvalue()
    with pytest.raises(InputError, match="matplotlib is not installed"):
        explain_sample(tmp_path / "out", Console(file=sink, width=100))
    assert not (tmp_path / "out").exists()


# Methods by their names.


def compare(
    *methods: str, kl: Literal["reverse", "forward"] = "reverse", threshold: float | None = 0.9
) -> Any:
    return explain_optimum(TABLE, betas=[0.3], kl=kl, threshold=threshold, methods=methods)


def test_the_optimum_of_a_method_is_the_one_that_it_states() -> None:
    plain, ips, both = compare("vanilla", "ips", "mara+entropy")
    assert (plain.objective, ips.objective, both.objective) == ("plain", "ips", "mara+entropy")
    assert (ips.source.label, ips.source.method) == (IPS.label, IPS())
    assert both.source.label == "MARA + entropy bonus"
    expected = IPS().optimum(TABLE.ref_logprobs, TABLE.rewards, beta=0.3)
    assert expected is not None
    assert masses(ips) == expected.exp().tolist()
    # An entropy bonus of .01 tempers MARA's optimum by .3/.31, which changes nothing between good outcomes.
    (mara,) = compare("mara")
    assert masses(both) == pytest.approx(normalised([p ** (0.3 / 0.31) for p in masses(mara)]), rel=1e-9)


def test_each_method_is_shown_or_left_out_with_a_reason() -> None:
    for kl in ("reverse", "forward"):
        shown = {o.objective for o in compare("all", kl=kl)} - {"plain", "corrected"}
        sentences = without_optimum(TABLE, betas=[0.3], kl=kl, threshold=0.9, methods=["all"])
        left_out = {
            name
            for name, method in METHODS.items()
            if any(s.startswith(method.label + " ") for s in sentences)
        }
        assert shown | left_out == set(METHODS) - {"vanilla"}
        assert not shown & left_out
        assert {"mara", "ips"} <= shown
        assert "unlikeliness" in left_out


def test_without_a_threshold_all_are_those_that_need_none() -> None:
    shown = {o.objective for o in compare("all", threshold=None)}
    assert "mara" not in shown
    assert {"plain", "ips"} <= shown
    with pytest.raises(InputError, match="MARA needs a threshold: give --threshold; got none"):
        compare("mara+entropy", threshold=None)
    with pytest.raises(InputError, match="method must be one of vanilla, mara, "):
        compare("mora")


def test_a_method_that_refuses_these_rewards_is_named() -> None:
    table = table_of([1, -0.5], [0.5, 0.5])
    chosen = ["vanilla", "ips"]
    shown = explain_optimum(table, betas=[0.1], kl="reverse", threshold=None, methods=chosen)
    assert [o.objective for o in shown] == ["plain"]
    (sentence,) = without_optimum(table, betas=[0.1], kl="reverse", threshold=None, methods=chosen)
    assert sentence.startswith("IPS under reverse KL is left out: ")
    assert "negative" in sentence


def test_the_figure_has_every_method_in_its_colour() -> None:
    pytest.importorskip("matplotlib")
    from allmodes.worlds.own_outcomes.figure import draw_report

    optima = compare("all")
    figure = draw_report(TABLE, optima, threshold=0.9)
    assert set(bars(figure.axes[1])) == {METHODS[o.source.method.name].color.lower() for o in optima}
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert [o.source.label for o in optima] == labels[1 : len(optima) + 1]


def test_two_objectives_of_one_method_have_two_shades_of_its_colour() -> None:
    pytest.importorskip("matplotlib")
    from allmodes.worlds.own_outcomes.figure import draw_report

    optima = explain_optimum(TABLE, betas=[0.3], kl="both", threshold=0.9, methods=["mara", "mara+entropy"])
    figure = draw_report(TABLE, optima, threshold=0.9)
    reverse, forward = (list(bars(figure.axes[at])) for at in (1, 3))
    assert len(reverse) == len(forward) == 2
    assert reverse[0] == forward[0] == MARA.color.lower()
    assert len({*reverse, *forward}) == 3  # MARA, with an entropy bonus, and with its corrected rewards
