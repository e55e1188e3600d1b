"""What rl-doctor, rlprobe and rlwatch say of a run of allmodes, and at which step, with their defaults.

    pip install rldoctor rlprobe rlwatch
    python benchmarks/audit_beside_others.py RUN/metrics.jsonl ...

Each gets the same rows of metrics.jsonl, one after the other, under the names that its own TRL callback uses.
"""

import argparse
import json
import logging
import tempfile
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

SCALARS = {  # of rlprobe's TRL callback
    "reward": "reward_mean", "reward_std": "reward_std", "frac_reward_zero_std": "zero_variance_group_frac",
    "kl": "kl_mean", "entropy": "entropy_mean", "clip_ratio/region_mean": "clip_fraction", "loss": "loss",
    "learning_rate": "lr", "grad_norm": "grad_norm", "completions/mean_length": "completion_len_mean",
    "completions/max_length": "completion_len_max", "completions/clipped_ratio": "truncation_rate",
}  # fmt: skip
WATCHED = {  # of rlwatch's
    "entropy": "entropy", "kl": "kl_divergence", "reward": "reward_mean", "reward_std": "reward_std",
    "loss": "loss", "learning_rate": "learning_rate", "grad_norm": "grad_norm",
}  # fmt: skip


def renamed(row: dict[str, Any], names: dict[str, str]) -> dict[str, float]:
    """The figures of a row that a tool takes, by its names."""
    return {theirs: row[ours] for ours, theirs in names.items() if row.get(ours) is not None}


def rl_doctor(rows: list[dict[str, Any]]) -> Iterator[tuple[int, str]]:
    """Its live monitor, as its TRL callback calls it."""
    from rl_doctor.live import LiveMonitor

    monitor = LiveMonitor(on_finding=lambda finding: None)
    for row in rows:
        figures = {name: value for name, value in row.items() if isinstance(value, int | float)}
        for finding in monitor.log(figures, step=row["step"]):
            yield row["step"], f"{finding.severity.label} {finding.title}: {finding.summary}"


def rlprobe(rows: list[dict[str, Any]]) -> Iterator[tuple[int, str]]:
    """Its doctor over the recording so far, every 25 steps, as its TRL callback calls it."""
    from rlprobe.doctor import diagnose
    from rlprobe.recorder import Recorder

    seen: set[str] = set()
    for end in range(25, len(rows) + 1, 25):
        with tempfile.TemporaryDirectory() as folder:
            with Recorder(Path(folder) / "run", algorithm="grpo", capture_env=False) as recorder:
                for row in rows[:end]:
                    recorder.log_step(row["step"], **renamed(row, SCALARS))
            for finding in diagnose(Path(folder) / "run"):
                if finding.signature_id not in seen:
                    seen.add(finding.signature_id)
                    yield (
                        rows[end - 1]["step"],
                        f"{finding.severity} {finding.signature_id}: {finding.explanation}",
                    )


def rlwatch(rows: list[dict[str, Any]]) -> Iterator[tuple[int, str]]:
    """Its monitor; of each detector and severity the first alert, without the panels that it draws."""
    import rlwatch as package

    seen: set[tuple[str, str]] = set()
    with tempfile.TemporaryDirectory() as folder, redirect_stderr(StringIO()), redirect_stdout(StringIO()):
        monitor = package.attach(framework="manual", storage={"log_dir": folder})
        for row in rows:
            for alert in monitor.log_step(row["step"], **renamed(row, WATCHED)):
                if (alert.detector, alert.severity) not in seen:
                    seen.add((alert.detector, alert.severity))
                    yield row["step"], f"{alert.severity} {alert.detector}: {alert.message}"
        monitor.stop()


def main() -> None:
    """Print what each says of each run, in the order of the steps."""
    logging.disable(logging.CRITICAL)
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("metrics", type=Path, nargs="+")
    for path in parser.parse_args().metrics:
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        print(f"# {path}: {len(rows)} steps")
        for tool in (rl_doctor, rlprobe, rlwatch):
            found = list(tool(rows))
            for step, said in found or [(rows[-1]["step"], "nothing")]:
                print(f"{tool.__name__} step {step}: {' '.join(said.split())}")


if __name__ == "__main__":
    main()
