"""Compare two folders of results, and fail if something became slower than the noise explains.

    python benchmarks/compare.py OLD NEW

Each script writes its measurements as ratios, such as the time of a step to that of the plain loop's in the same round,
because ratios depend little on the machine. A ratio became worse if each new measurement is above each old one.
"""

import argparse
import json
import statistics
import sys
from pathlib import Path

from report import line

Ratios = dict[str, list[float]]


def read(folder: Path) -> Ratios:
    """Return name → measured ratios, from all JSON files in a folder."""
    files = sorted(folder.glob("*.json"))
    return {name: values for file in files for name, values in json.loads(file.read_text())["ratios"].items()}


def verdict(old: list[float], new: list[float]) -> str:
    if min(new) > max(old):
        return "worse"
    return "better" if max(new) < min(old) else "the same"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    options = parser.parse_args()
    old, new = read(options.old), read(options.new)
    both = [name for name in old if name in new]
    if not both:
        parser.error(f"{options.old} and {options.new} have no result in common")
    print("\n".join([line(["", "old", "new", ""]), line(["---", "---:", "---:", "---"])]))
    for name in both:
        medians = [f"{statistics.median(values):.2f}" for values in (old[name], new[name])]
        print(line([name, *medians, verdict(old[name], new[name])]))
    sys.exit(any(verdict(old[name], new[name]) == "worse" for name in both))


if __name__ == "__main__":
    main()
