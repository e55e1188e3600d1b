"""The checks that are possible with means over each step, under the codes of the checks of samples."""

from collections.abc import Callable
from typing import final

from allmodes.audit.checks import setup_checks, training_checks
from allmodes.audit.checks.findings import Answer, MissingError, NotApplicableError
from allmodes.audit.config import AuditConfig
from allmodes.audit.objective import Objective
from allmodes.audit.scalars.log import ScalarLog
from allmodes.audit.scalars.names import NAMES, Scalar
from allmodes.audit.trainer_options import option
from allmodes.audit.windows import Course, Series, course_of
from allmodes.reports.formatting import plural

_MANY = 0.05  # share of the rows, as in the check of a log of samples
_OF_SERIES: dict[Series, Scalar] = {
    "reward": "reward",
    "entropy": "entropy",
    "different": "distinct",
    "token_entropy": "token_entropy",
    "kl": "kl",
}


@final
class ScalarEvidence:
    """A log of means with its settings. Raises MissingError for missing data."""

    def __init__(self, log: ScalarLog, config: AuditConfig) -> None:
        self.log, self.config = log, config
        longest = log.series.get("longest")
        known = [1] if config.max_tokens == 1 else []
        known += [] if longest is None else [int(longest.values.max())]
        self._objective = Objective(config, max(known, default=None), config.group_size)

    @property
    def objective(self) -> Objective:
        """The objective, as far as the settings and the longest response determine it."""
        return self._objective

    @property
    def needs_samples(self) -> str:
        """The reason why a check is not tested, and what would help."""
        return f"the log holds means, not samples; {option('samples', self.config.trainer)}"

    def mean(self, scalar: Scalar) -> float:
        """The mean of a figure over all of its rows."""
        found = self.log.series.get(scalar)
        if found is None:
            raise MissingError(self.lacks(scalar))
        return float(found.values.mean())

    def course(self, name: Series) -> Course:
        """A figure over training, with one value per row of the log."""
        scalar = _OF_SERIES.get(name)
        if scalar is None:
            raise MissingError(self.needs_samples)
        found = self.log.series.get(scalar)
        if found is None:
            raise MissingError(self.lacks(scalar))
        course = course_of(found.steps, found.values)
        if course is None:
            raise MissingError("the log has too few steps to compare the first with the last")
        return course

    def lacks(self, scalar: Scalar) -> str:
        """The columns that a figure needs, and the hint that samples would do."""
        program = self.log.program
        own = () if program is None else NAMES[program].get(scalar, ())
        names = " or ".join(f"`{name}`" for name in own)
        return f"the log has no {names}; {self.needs_samples}" if names else self.needs_samples


def usable_rows(evidence: ScalarEvidence) -> Answer:
    """How many rows hold a value that cannot be used, and why."""
    log = evidence.log
    share = log.faulty / log.rows
    return Answer(
        state="issue" if share > _MANY else "tip" if log.faulty else "passed",
        summary=(
            f"{log.faulty:,} of {plural(log.rows, 'row')} hold unusable values: {log.describe(log.bad)}."
            if log.faulty
            else f"All {log.rows:,} rows can be used."
        ),
        remedy="Look at what happened at these steps: no figure here includes these values.",
        numbers={
            "rows": log.rows,
            "left_out": log.faulty,
            "kinds": {kind: bad.count for kind, bad in log.bad.items()},
        },
    )


def repeated_steps(evidence: ScalarEvidence) -> Answer:
    """Whether steps go back, for example because a resumed run logs them again."""
    log = evidence.log
    if not log.returns:
        again = f" {plural(log.written_again, 'value')} left out because the same step has a later value."
        return Answer(state="passed", summary=f"The steps never go back.{again if log.written_again else ''}")
    came_from, to = log.returns[0]
    values = sum(len(series.values) for series in log.series.values()) + log.written_again
    return Answer(
        state="issue" if log.written_again > _MANY * values else "tip",
        summary=(
            f"The steps go back {plural(len(log.returns), 'time')}, the first from {came_from:,} to {to:,}. "
            f"{plural(log.written_again, 'value')} logged earlier for the repeated steps are left out."
        ),
        remedy="A resumed run logs steps again. Nothing needs to change, unless the log mixes several runs.",
        numbers={"returns": len(log.returns), "values": log.written_again},
    )


def optimum_without_samples(evidence: ScalarEvidence) -> Answer:
    """The finding if no KL acts; if a KL acts, the optimum needs samples."""
    objective, method = evidence.objective, evidence.objective.method()
    needs_kl = objective.is_plain or (method is not None and method.needs_reference)
    if not objective.lacks_kl or not needs_kl:
        raise MissingError(evidence.needs_samples)
    trainer = evidence.config.trainer
    if evidence.config.beta == 0:
        no_kl, give_kl = "β is 0.", f"Set {option('beta', trainer)} above 0"
    else:
        no_kl = "k1 in the loss has no gradient in expectation (AM041), so no KL acts."
        give_kl = f"Take {option('sequence KL', trainer)}"
    return Answer(
        state="tip",
        summary=(
            f"{no_kl} The optimum has only the best responses to a prompt. Any mixture of these is "
            "optimal, also a single one, and nothing brings back one that the policy loses by "
            "chance."
        ),
        remedy=f"{give_kl}, and use {option('mara', trainer)}.",
    )


def groups_without_difference(evidence: ScalarEvidence) -> Answer:
    """The share of groups without a learning signal, since all their rewards are equal."""
    return setup_checks.idle_groups(
        evidence.mean("idle"), f"the groups of {plural(_rows(evidence, 'idle'), 'row')}", evidence
    )


def truncated_responses(evidence: ScalarEvidence) -> Answer:
    """The share of responses that were cut off at the length limit."""
    return setup_checks.cut_off_share(evidence.mean("truncated"), evidence)


def quantile_at_the_minimum(evidence: ScalarEvidence) -> Answer:
    """Cannot be tested with means if τ is a quantile."""
    if evidence.config.threshold_quantile is None:
        raise NotApplicableError("τ is not a quantile")
    raise MissingError(evidence.needs_samples)


def falling_entropy(evidence: ScalarEvidence) -> Answer:
    """Entropy of the outcomes of a group."""
    return training_checks.fallen("entropy", evidence.course("entropy"), evidence)


def falling_different(evidence: ScalarEvidence) -> Answer:
    """Different outcomes of a group."""
    return training_checks.fallen("different", evidence.course("different"), evidence)


def falling_token_entropy(evidence: ScalarEvidence) -> Answer:
    """Entropy of the policy over the next token."""
    return training_checks.fallen("token_entropy", evidence.course("token_entropy"), evidence)


def rising_kl(evidence: ScalarEvidence) -> Answer:
    """Whether the policy still moves away from the reference at the end."""
    if evidence.objective.lacks_kl:
        raise NotApplicableError(training_checks.NO_KL)
    return training_checks.still_rising(evidence.course("kl"))


def quality(evidence: ScalarEvidence) -> Answer:
    """The reward over training; the size of a fall and diversity need samples."""
    course = evidence.course("reward")
    raise MissingError(f"the mean reward {course.describe(course.p_fallen)}; {evidence.needs_samples}")


def _rows(evidence: ScalarEvidence, scalar: Scalar) -> int:
    return len(evidence.log.series[scalar].values)


# Keyed by the codes of the checks of samples. A check without an entry needs samples.
ASK: dict[str, Callable[[ScalarEvidence], Answer]] = {
    "AM001": usable_rows,
    "AM002": repeated_steps,
    "AM010": optimum_without_samples,
    "AM040": setup_checks.scaled_advantages,
    "AM041": setup_checks.which_kl,
    "AM042": groups_without_difference,
    "AM043": truncated_responses,
    "AM044": quantile_at_the_minimum,
    "AM050": falling_entropy,
    "AM051": falling_different,
    "AM054": falling_token_entropy,
    "AM055": rising_kl,
    "AM060": quality,
}
