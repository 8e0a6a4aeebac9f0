"""Write what follows from other files: the choices, the map of the packages, the metrics, the reproductions.

`python scripts/docs.py` writes them, between two comments each; `--check` only says whether they are up to date. Names
choose parts: `python scripts/docs.py pairs`. That part takes minutes, so it is written only when it is named.
"""

import ast
import re
import sys
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
CONF = ROOT / "conf"
REPRODUCTIONS = ROOT / "docs" / "reproductions"
PACKAGE = ROOT / "src" / "vaelab"
NOT_TYPED = ("hydra/help", "reporting", "reproduction")  # folders of conf/ that hold no choices
ALONE = ("api", "vae", "hierarchical")  # single files that are boxes of their own
Arrows = dict[str, set[str]]


def choices_table() -> str:
    """Return a table of the groups in `conf/` and their choices, which `--help` explains.

    Groups stand in the order of `conf/train.yaml`. Its own choices are bold; other groups follow.
    """
    entries = yaml.safe_load((CONF / "train.yaml").read_text())["defaults"]
    chosen = {group: name for entry in entries if isinstance(entry, dict) for group, name in entry.items()}
    chosen = {group.removeprefix("override ").lstrip("/"): name for group, name in chosen.items() if "@" not in group}
    groups: dict[str, list[Path]] = {}
    for file in sorted(CONF.rglob("*.yaml")):
        group = str(file.parent.relative_to(CONF))
        if group != "." and not group.startswith(NOT_TYPED) and file.stem != "default":
            groups.setdefault(group, []).append(file)
    order = [group for group in chosen if group in groups]
    lines = ["| group | choices |", "|---|---|"]
    for group in [*order, *sorted(groups.keys() - set(order))]:
        cells = ["**none**"] if group in chosen and chosen[group] is None else []
        for file in groups[group]:
            cells.append(f"**`{file.stem}`**" if file.stem == chosen.get(group) else f"`{file.stem}`")
        name, places = group.removeprefix("runtime/"), explained()
        typed = f"[`{name}`]({places[name]})" if name in places else f"`{name}`"
        lines.append(f"| {typed} | {', '.join(cells)} |")
    return "\n".join(lines)


@cache
def explained() -> dict[str, str]:
    """Return where a page first explains the choices of a group: the heading of a table that begins with `group=`."""
    places = {}
    for page in sorted((ROOT / "docs").glob("*.md")):
        heading = ""
        for line in page.read_text().splitlines():
            heading = line if line.startswith("#") else heading
            if found := re.match(r"\| `([a-z_]+)=` \|", line):
                places.setdefault(found[1], f"{page.relative_to(ROOT)}#{anchor(heading)}")
    return places


def anchor(heading: str) -> str:
    """Return the anchor that GitHub makes of a heading."""
    return re.sub(r"[^\w -]", "", heading.lstrip("#").strip().lower()).replace(" ", "-")


def package_map() -> str:
    """Return the imports between packages as a Mermaid flowchart, from the top down."""
    arrows = imports()
    modules, below, kept = boxes_of_modules(), reach(arrows), reduced(arrows)
    boxes = sorted(modules, key=lambda box: (-len(below[box]), box))  # whatever imports a box stands before it
    nodes = [f'    {_id(box)}["{box}{_listed(modules[box])}"]' for box in boxes]
    edges = [f"    {_id(box)} --> {_id(other)}" for box in boxes for other in boxes if other in kept[box]]
    return "\n".join(["```mermaid", "flowchart TD", *nodes, *edges, "```"])


def _id(box: str) -> str:
    return box.replace(" ", "_")


def _listed(modules: list[str]) -> str:
    return f"<br/>{', '.join(modules)}" if len(modules) > 1 else ""


def boxes_of_modules() -> dict[str, list[str]]:
    """Return the boxes of the map, and the modules in each.

    A package is a box of its own, and so is each of `ALONE`. The entry points share a box, and other single files too.
    """
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    entry_points = [target.removeprefix("vaelab.").split(":")[0] for target in scripts.values()]
    names = sorted(path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists())
    files = [name for name in names if not (PACKAGE / name).is_dir() and not name.startswith("__")]
    boxes = {"entry points": [name for name in files if name in entry_points]}
    boxes |= {name: [name] for name in names if (PACKAGE / name).is_dir() or name in ALONE}
    boxes["the floor"] = [name for name in files if name not in (*ALONE, *entry_points)]
    return boxes


def imports() -> Arrows:
    """Return which other boxes each box imports, at the top of its files or inside of functions."""
    box_of = {module: box for box, modules in boxes_of_modules().items() for module in modules}
    arrows: Arrows = {box: set() for box in box_of.values()}
    for file in PACKAGE.rglob("*.py"):
        own = file.relative_to(PACKAGE).with_suffix("").parts[0]
        for name in imported_names(file):
            other = name.removeprefix("vaelab.").split(".")[0] if name.startswith("vaelab.") else None
            if own in box_of and other in box_of and box_of[own] != box_of[other]:
                arrows[box_of[own]].add(box_of[other])
    return arrows


def imported_names(file: Path) -> Iterator[str]:
    """Yield the full names of everything that a file imports."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def reach(arrows: Arrows) -> Arrows:
    """Return all boxes that each box imports, directly or through others.

    Raises:
        graphlib.CycleError: packages import each other.
    """
    below: Arrows = {}
    for box in TopologicalSorter(arrows).static_order():  # whatever is imported comes first
        below[box] = arrows[box].union(*(below[other] for other in arrows[box]))
    return below


def reduced(arrows: Arrows) -> Arrows:
    """Return the transitive reduction: without each arrow that a path of other arrows replaces."""
    below = reach(arrows)
    return {box: found - set().union(*(below[other] for other in found)) for box, found in arrows.items()}


def metrics_table() -> str:
    """Return a table of the metrics of a validation and a test, as `vaelab.evaluation.declared` has them."""
    from vaelab.evaluation.declared import OF_BOUND, OF_ESTIMATE, OF_LATENT, OF_PREDICTIONS, OF_TRAINING

    groups = {"bound": OF_BOUND, "latent": OF_LATENT, "predictive check": OF_PREDICTIONS}
    groups |= {"estimate of log p(x)": OF_ESTIMATE, "training": OF_TRAINING}
    lines = ["| of the | name | unit | better | meaning |", "|---|---|---|---|---|"]
    for group, metrics in groups.items():
        for metric in metrics:
            cells = [group, f"`{metric.name}`", metric.unit, metric.better or "", metric.meaning]
            lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
            group = ""
    return "\n".join(lines)


def pairs_table() -> str:
    """Return a table of the pairs of choices that are refused."""
    import combinations  # imports PyTorch

    return combinations.refused_table()


def reproductions_table() -> str:
    """Return a table of the reproductions, with the verdicts of those that were run."""
    from vaelab.reproducing import Results

    lines = ["| `NAME` | what | results | verdicts |", "|---|---|---|---|"]
    for file in sorted((CONF / "reproduction").glob("*.yaml")):
        title = yaml.safe_load(file.read_text())["title"]
        found = [Results.read(path) for path in sorted(REPRODUCTIONS.glob(f"{file.stem}-*.json"))]
        pages = ", ".join(f"[{each.budget}]({each.name}-{each.budget}.md)" for each in found) or "not run yet"
        verdicts = Counter(row.verdict.partition(" by ")[0].partition(",")[0] for each in found for row in each.rows)
        told = ", ".join(f"{verdict}: {count}" for verdict, count in verdicts.items() if verdict)
        lines.append(f"| `{file.stem}` | {title} | {pages} | {told} |")
    return "\n".join(lines)


def pages_of_results() -> dict[Path, str]:
    """Return the page that each file of results makes."""
    from vaelab.reproducing import Results

    return {path.with_suffix(".md"): Results.read(path).as_markdown() for path in REPRODUCTIONS.glob("*.json")}


SLOW = "pairs"
PARTS: dict[str, tuple[str, Callable[[], str]]] = {
    "choices": ("README.md", choices_table),
    "map": ("CONTRIBUTING.md", package_map),
    "metrics": ("docs/numbers.md", metrics_table),
    "reproductions": ("docs/reproductions/README.md", reproductions_table),
    SLOW: ("docs/components.md", pairs_table),
}


def updated(name: str) -> tuple[Path, str, str]:
    """Return the page of a part, its text now, and its text as it ought to be.

    Raises:
        ValueError: the page lacks the two comments.
    """
    page, make = ROOT / PARTS[name][0], PARTS[name][1]
    text = page.read_text()
    typed = f"python scripts/docs.py {name}" if name == SLOW else "python scripts/docs.py"
    begin, end = f"<!-- {name}: {typed} writes this -->", f"<!-- end of {name} -->"
    if text.count(begin) != 1 or text.count(end) != 1:
        raise ValueError(f"{page.name} must have the lines {begin} and {end} once each")
    before, _, rest = text.partition(begin)
    return page, text, f"{before}{begin}\n\n{make()}\n\n{end}{rest.partition(end)[2]}"


def main() -> None:
    """Write parts, or check them."""
    check = "--check" in sys.argv[1:]
    named = [argument for argument in sys.argv[1:] if not argument.startswith("--")]
    for name in named or [name for name in PARTS if name != SLOW]:
        page, text, wanted = updated(name)
        if text != wanted and check:
            sys.exit(f"{page.name}: the part '{name}' is out of date: type python scripts/docs.py {name}")
        if text != wanted:
            page.write_text(wanted)
            print(f"{page.name}: {name} written")
    for page, wanted in pages_of_results().items():
        same = page.exists() and page.read_text() == wanted
        if not same and check:
            sys.exit(f"{page.name} does not follow from its JSON: type python scripts/docs.py")
        if not same:
            page.write_text(wanted)
            print(f"{page.name}: written")


if __name__ == "__main__":
    main()
