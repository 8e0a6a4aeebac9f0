"""Build the table of a group's settings: for the page, and as Markdown and LaTeX to paste."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from vaelab.reporting.differences import Comparison, Outcome, compare
from vaelab.reporting.groups import Group, Setting
from vaelab.reporting.settings import label_of, setting_text

VERDICTS: Mapping[Outcome, str] = {
    "better": "worse than the best",
    "worse": "better than the best",
    "open": "cannot be told apart",
    "missing": "not compared",
}
NOTE = (
    "Settings in the order of their validation ELBO. Scores in nats per example, mean ± standard error over seeds; "
    "≥ marks a lower bound. Difference from the first setting on the same examples, ± half of its 95 % interval."
)
IN_LATEX = str.maketrans(
    {char: f"\\{char}" for char in "&%$#_{}"}
    | {
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "\\": r"\textbackslash{}",
        "<": "$<$",
        "|": r"\textbar{}",
        ">": "$>$",
        "[": "{[}",
    }
    | {"±": r"$\pm$", "≥": r"$\geq$", "−": "$-$", "–": "--", "·": r"$\cdot$", "\n": " "}
)
IN_MARKDOWN = str.maketrans({char: f"\\{char}" for char in "\\|`*"} | {"<": "&lt;", "\n": " "})


@dataclass(frozen=True)
class SettingRow:
    """A row of the table."""

    setting: Setting
    comparison: Comparison | None  # of the best setting with this one; None for the best setting itself

    @property
    def difference(self) -> str:
        """The score less that of the best setting, with half of its 95 % interval; empty if there is none."""
        if self.comparison is None or (found := self.comparison.difference) is None:
            return ""
        return f"{number(-found.mean, '+.2f')} ± {found.half_width:.2f}"

    @property
    def verdict(self) -> str:
        """How the setting compares with the best one, in words."""
        if self.comparison is None:
            return "chosen by validation"
        found = self.comparison.difference
        models = " (as trained models)" if found and found.variances is None else ""
        return VERDICTS[self.comparison.outcome] + models

    @property
    def seeds(self) -> str:
        """The number of seeds with a result, and of failed ones."""
        failed = f" ({self.setting.failed} failed)" if self.setting.failed else ""
        return f"{len(self.setting.jobs)}{failed}"

    @property
    def error(self) -> str:
        """What follows the score: its standard error over seeds, unless the score is only a lower bound."""
        if self.setting.bounds:
            return "lower bound"
        return "" if self.setting.error is None else f"± {self.setting.error:.2f}"

    @property
    def score(self) -> str:
        """The score as pasted tables show it."""
        value = number(self.setting.score)
        return f"≥ {value}" if self.setting.bounds else f"{value} {self.error}".strip()


@dataclass(frozen=True)
class SettingsTable:
    """The settings of a group, the best first."""

    group: Group
    columns: Sequence[str]  # the names of the values that differ within the group
    shared: str  # the others as text; empty if all differ
    rows: Sequence[SettingRow]

    @property
    def comparisons(self) -> list[Comparison]:
        """The best setting compared with each other one."""
        return [row.comparison for row in self.rows if row.comparison is not None]

    @property
    def cells(self) -> list[list[str]]:
        """The table as text, its header first."""
        header = [*self.columns, "seeds", "validation ELBO", self.group.score_name, "difference"]
        rows = [
            [
                *(setting_text("", row.setting.values[name]) for name in self.columns),
                *(row.seeds, number(row.setting.validation), row.score, row.difference or "–"),
            ]
            for row in self.rows
        ]
        return [header, *rows]

    @property
    def title(self) -> str:
        """Names what is compared, and the settings that all rows share."""
        return self.group.title + (f" · {self.shared}" if self.shared else "")

    @property
    def markdown(self) -> str:
        """The table as Markdown."""
        cells = [[text.translate(IN_MARKDOWN) for text in row] for row in self.cells]
        lines = markdown_lines(cells, len(self.columns))
        return "\n".join([f"**{self.title.translate(IN_MARKDOWN)}**", "", *lines, "", NOTE, ""])

    @property
    def latex(self) -> str:
        """The table as LaTeX, for a document that uses booktabs."""
        header, *rows = ["    " + " & ".join(text.translate(IN_LATEX) for text in row) + r" \\" for row in self.cells]
        lines = [
            *("\\begin{table}", "  \\centering", f"  \\caption{{{f'{self.title}. {NOTE}'.translate(IN_LATEX)}}}"),
            f"  \\begin{{tabular}}{{{'l' * len(self.columns)}rrrr}}",
            *("    \\toprule", header, "    \\midrule", *rows, "    \\bottomrule"),
            *("  \\end{tabular}", "\\end{table}", ""),
        ]
        return "\n".join(lines)


def table_of(group: Group) -> SettingsTable:
    """Return the table of a group's settings, each compared with the best one."""
    if not group.settings:
        return SettingsTable(group, (), "", ())
    best, *others = group.settings
    rows = [SettingRow(best, None), *(SettingRow(other, compare(best, other, group.by)) for other in others)]
    shared = {name: value for name, value in best.values.items() if name not in best.columns}
    return SettingsTable(group, best.columns, label_of(shared) if shared else "", rows)


def markdown_lines(rows: Sequence[Sequence[str]], texts: int) -> list[str]:
    """Return the lines of a Markdown table, its header first; the columns after the first `texts` hold numbers."""
    header, *others = aligned(rows, range(texts, len(rows[0])))
    rule = ["-" * len(cell) if i < texts else "-" * (len(cell) - 1) + ":" for i, cell in enumerate(header)]
    return [f"| {' | '.join(row)} |" for row in (header, rule, *others)]


def aligned(rows: Sequence[Sequence[str]], right: Collection[int]) -> list[list[str]]:
    """Fill cells with spaces, so that each column has one width; the columns in `right` are aligned to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [[f"{cell:{'>' if i in right else '<'}{widths[i]}}" for i, cell in enumerate(row)] for row in rows]


def number(value: float | None, form: str = ".2f") -> str:
    """Format a number with a true minus sign; None becomes an empty text."""
    return "" if value is None else format(value, form).replace("-", "−")
