"""IPS, Table 3: REINVENT, GRPO and IPS-GRPO on SYNTH and ALL-AMIDE.

Quick scale has 32 oracle calls. Paper scale has 10,000 and shares table2's folder, so that REINVENT's runs
are done once: see `allmodes.paper.mara_table2`, also for docking instead of the regression.
"""

from dataclasses import replace
from typing import Any

from allmodes.paper import molecule_tables as tables
from allmodes.paper.molecule_tables import holds_in_all, paired
from allmodes.paper.reproduction import Progress, Reproduction, Scale, Verdict, verdict
from allmodes.paper.study_settings import GRPO, IPS_ARMS, IPS_GRPO, REINVENT

SIGMA = 128.0
_LOST = "consistently; the table's numbers are lost"


def reproduce(scale: Scale, progress: Progress) -> Reproduction:
    """Run, measure and judge.

    Raises ConfigError if packages, the receptor or the stand-in for docking are missing, before any run.
    """
    settings = replace(tables.settings_of(scale, IPS_ARMS), sigmas=(SIGMA,))
    study = tables.run_study("ips-table3", settings, scale, progress)
    return Reproduction(
        figure=tables.draw(study),
        numbers=tables.numbers(study, _no_figure),
        verdicts=judge(study),
        notes=[
            *tables.notes(study),
            "The numbers of the paper's Table 3 could not be recovered from its text, so its claims are "
            "judged by order alone. It does not say what an outcome is, how GRPO's loss and KL are set, or "
            "whether REINVENT's replay and augmentation stay: here an outcome is a Murcko scaffold, counted "
            "in each batch before duplicates are merged; the loss is GRPO's over whole sequences, the batch "
            "being one group, with advantages divided by their standard deviation and a penalty of (log π − "
            "log π_ref)²/2σ; everything else is REINVENT's loop. GRPO is not in the paper's table: it shows "
            "the effect of the scaling alone.",
            *tables.markdown(study, _no_figure, with_paper=False),
        ],
    )


def judge(study: Any) -> list[Verdict]:
    """The paper's claims compared with the measurements."""
    return [
        _claim(study, "IPS-GRPO yields more than REINVENT, at each screen of each task", "hits", _LOST),
        _claim(study, "IPS-GRPO finds 100 hits in fewer calls than REINVENT", "ob100", _LOST),
        _claim(
            study, "The scaling helps (ours): IPS-GRPO yields more than GRPO", "hits", "not compared", GRPO
        ),
    ]


def _claim(study: Any, claim: str, metric: str, paper: str, other: Any = REINVENT) -> Verdict:
    contests = paired(study, IPS_GRPO, other, metric, sigma=SIGMA)
    return verdict(
        claim,
        paper=paper,
        measured=tables.said_of(study.settings) + "; ".join(entry.text for entry in contests),
        holds=holds_in_all([entry.better for entry in contests]),
    )


def _no_figure(row: Any, metric: str) -> None:
    """The paper's numbers are lost."""
