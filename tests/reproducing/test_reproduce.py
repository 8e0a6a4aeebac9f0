"""`python -m vaelab.reproduce`: each reproduction runs at its smallest budget, and again in no time."""

import pytest
import yaml

from tests.helpers.commands import ROOT, assert_one_line, run_main
from vaelab import reproduce
from vaelab.reproducing import Results

NAMES = sorted(file.stem for file in (ROOT / "conf" / "reproduction").glob("*.yaml"))


@pytest.mark.slow
@pytest.mark.usefixtures("data_dir")
@pytest.mark.parametrize("name", NAMES)
def test_each_runs_at_the_smallest_budget(name, tmp_path):
    out = run_main(reproduce.main, tmp_path, name, "budget=smoke").out
    file = tmp_path / "reproductions" / f"{name}-smoke.json"
    found = Results.read(file)
    assert found.as_markdown() in out
    assert file.with_suffix(".md").read_text() == found.as_markdown()
    assert any(row.values for row in found.rows)
    assert all((file.parent / figure).stat().st_size for figure in found.figures.values())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], ("a name is missing", "vaelab.reproduce NAME")),
        (["iwae_table"], ("iwae_table_1",)),
        (["aevb", "figure=7"], ("aevb_figure_7", "aevb_figure_2")),
        (["aevb", "figure=2", "budget=gpu"], ("budget", "cpu", "smoke")),
        (["aevb", "figure=2", "trainer.max_epochs=3"], ("trainer.max_epochs",)),
    ],
)
def test_a_wrong_line_is_refused(words, said, tmp_path):
    assert_one_line(run_main(reproduce.main, tmp_path, *words, code=2), *said)
    assert not (tmp_path / "logs").exists()


@pytest.mark.parametrize("name", NAMES)
def test_budgets_have_a_cost_and_settings_that_exist(name):
    content = yaml.safe_load((ROOT / "conf" / "reproduction" / f"{name}.yaml").read_text())
    for budget in content["budgets"].values():
        assert budget["cost"]
        assert set(budget.get("settings", ())) <= set(content.get("settings", ()))
