"""Say in sentences which setting of a group is best, and how sure that is."""

from collections.abc import Sequence

from vaelab.reporting.differences import OF_BOUNDS, Comparison, Outcome
from vaelab.reporting.groups import ENDED_BADLY, Group, Setting
from vaelab.reporting.reading import Entry
from vaelab.reporting.settings import label_of

MOST_NAMED = 3  # in one sentence


def headline(group: Group, comparisons: Sequence[Comparison]) -> list[str]:
    """Return sentences on the best setting of a group, if there is one; the first sentence can be quoted alone.

    Args:
        comparisons: of the best setting to each other one, in the order of their ranks.
    """
    if not group.settings:
        return []
    best, *others = group.settings
    kind = f"best of {len(group.settings)} settings by validation" if others else "only setting with a result"
    found = [f"the {kind} is {best.label}: {on_score(group, best)}{on_next(comparisons)}"]
    if len(comparisons) > 1:
        found.append(on_others(group, comparisons))
    if any(each.outcome == "worse" for each in comparisons):
        found.append(
            "keep to the choice of validation, because a setting that is chosen by its test score looks too good"
        )
    if missing := [each.reason for each in comparisons if each.outcome == "missing"]:
        found.append(f"what is missing for a comparison: {missing[0]}")
    advised = next((each for each in comparisons if each.advice), None)
    if advised is not None:
        found.append(f"as for {advised.worse.name}, {advised.advice}")
    found.append(f"its score is {best.meaning}")
    if others and any(setting.bounds for setting in group.settings):
        found.append(OF_BOUNDS)
    if failed := [f"{setting.failed} of {setting.name}" for setting in group.settings if setting.failed]:
        found.append(f"seeds that failed, and are missing from the means: {first_few(failed)}")
    return found


def on_score(group: Group, setting: Setting) -> str:
    """Say the score of a setting, with its standard error over seeds unless it is only a lower bound."""
    name, over = group.score_name, f"mean of {len(setting.jobs)} seeds" if len(setting.jobs) > 1 else "one seed"
    score = f"{setting.score:.2f}"
    if setting.bounds:
        name = f"lower bound of {name}"
    elif setting.error is not None:
        score, over = f"{score} ± {setting.error:.2f}", f"{over} ± standard error"
    return f"its {name} on the {group.split} split is {score} nats per example ({over})"


def on_next(comparisons: Sequence[Comparison]) -> str:
    """Say the lead over the setting that validation ranks second, as the end of a sentence; empty without one."""
    if not comparisons:
        return ""
    first = comparisons[0]
    size, name = first.size, first.worse.name
    models = first.difference is not None and first.difference.variances is None
    interval = "95 % interval over examples, not over seeds" if models else "95 % interval"
    return {
        "better": f", better than the next one, {name}, by {size} ({interval})",
        "worse": f", worse than the next one, {name}, by {size} ({interval})",
        "open": f"; the next one, {name}, is {first.size} {first.direction} ({interval}), so they cannot be told apart",
        "missing": f"; it is not compared with the next one, {name}",
    }[first.outcome]


def on_others(group: Group, comparisons: Sequence[Comparison]) -> str:
    """Say how many settings the best one is better than, and name those that are not worse, with the differences."""
    of: dict[Outcome, list[Comparison]] = {"better": [], "worse": [], "open": [], "missing": []}
    for each in comparisons:
        of[each.outcome].append(each)
    named = {
        outcome: first_few([f"{each.worse.name} ({each.size} {each.direction})" for each in found])
        for outcome, found in of.items()
    }
    if len(of["better"]) == len(comparisons):
        said = [f"is better than all {len(comparisons)} others"]
    else:
        said = [f"is better than {len(of['better'])} of the {len(comparisons)} others"] if of["better"] else []
    said += [f"is worse than {named['worse']}"] if of["worse"] else []
    said += [f"cannot be told apart from {named['open']}"] if of["open"] else []
    said += [f"is not compared with {len(of['missing'])}"] if of["missing"] else []
    listed = ", and ".join(filter(None, [", ".join(said[:-1]), said[-1]]))
    return f"on the {group.split} split it {listed}; each 95 % interval holds for its own pair"


def on_jobs(entries: Sequence[Entry]) -> list[str]:
    """Return sentences on jobs that are not done yet, and on settings of which no job has a result."""
    left = [entry for entry in entries if entry.state not in ("done", *ENDED_BADLY)]
    found = [f"{len(left)} of {len(entries)} jobs are not done yet, so the ranking may change"] if left else []
    by_setting: dict[str, list[Entry]] = {}
    for entry in entries:
        by_setting.setdefault(label_of(entry.settings), []).append(entry)
    lost = [label for label, jobs in by_setting.items() if all(job.state in ENDED_BADLY for job in jobs)]
    return found + ([f"all jobs of these settings failed: {first_few(lost)}"] if lost else [])


def first_few(names: Sequence[str]) -> str:
    """Join names; count those beyond the first few."""
    more = [f"{len(names) - MOST_NAMED} more"] if len(names) > MOST_NAMED else []
    return "; ".join([*names[:MOST_NAMED], *more])
