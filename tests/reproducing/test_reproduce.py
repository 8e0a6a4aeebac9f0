"""`python -m vaelab.reproduce`: each reproduction runs at its smallest budget, and again in no time."""

import pytest
import yaml

from tests.helpers.commands import ROOT, assert_one_line, run_main
from vaelab import reproduce
from vaelab.reproducing import Reproduction, Results
from vaelab.runs.calling import GOES_ON

CONF = ROOT / "conf" / "reproduction"
CONTENTS = {file.stem: yaml.safe_load(file.read_text()) for file in sorted(CONF.glob("*.yaml"))}
FIRST = {content["_target_"]: name for name, content in reversed(CONTENTS.items())}  # the first one of each class


@pytest.mark.slow
@pytest.mark.usefixtures("data_dir")
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in FIRST.values() else pytest.mark.exhaustive) for name in CONTENTS]
)
def test_each_runs_at_the_smallest_budget_and_nothing_twice(name, tmp_path):
    out = run_main(reproduce.main, tmp_path, name, "budget=smoke").out
    file = tmp_path / "reproductions" / f"{name}-smoke.json"
    found = Results.read(file)
    assert found.as_markdown() in out
    assert file.with_suffix(".md").read_text() == found.as_markdown()
    assert any(row.values for row in found.rows)
    assert all((file.parent / page).stat().st_size for page in (*found.figures.values(), *found.pages.values()))
    computed = [*tmp_path.rglob("*.ckpt"), *tmp_path.rglob("evaluations/*.safetensors")]
    before = [made.stat().st_mtime_ns for made in computed]
    run_main(reproduce.main, tmp_path, name, "budget=smoke")
    assert [made.stat().st_mtime_ns for made in computed] == before
    assert Results.read(file) == found


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], ("a name is missing", "vaelab.reproduce NAME")),
        (["iwae_table"], ("iwae_table_1",)),
        (["aevb", "figure=7"], ("aevb_figure_7", "aevb_figure_2")),
        (["aevb", "figure=2", "budget=gpu"], ("budget", "cpu", "smoke")),
        (["aevb", "figure=2", "trainer.max_epochs=3"], ("trainer.max_epochs",)),
        (["iwae_table_1", "aevb"], ("expected key=value, found aevb",)),
        (["iwae_table_1", "reproduction.budgets.cpu.seeds=1"], ("another experiment", "budgets.cpu.seeds=1")),
        (["iwae_table_1", "++reproduction.title=a"], ("another experiment",)),
        (["iwae_table_1", "hydra.sweeper.max_batch_size=1"], ("hydra.sweeper",)),
    ],
)
def test_a_wrong_line_is_refused(words, said, tmp_path):
    assert_one_line(run_main(reproduce.main, tmp_path, *words, code=2), *said)
    assert not (tmp_path / "logs").exists()


@pytest.mark.parametrize("name", CONTENTS)
def test_budgets_have_a_cost_and_settings_that_exist(name):
    content = CONTENTS[name]
    for budget in content["budgets"].values():
        assert budget["cost"]
        for key in ("settings", "quantities"):
            assert set(budget.get(key, ())) <= set(content.get(key, ()))


def test_a_folder_that_cannot_be_written_to_is_refused_before_any_work(tmp_path):
    (tmp_path / "taken").write_text("")
    assert_one_line(
        run_main(reproduce.main, tmp_path, "aevb_figure_4", "budget=smoke", "output=taken", code=1), "taken"
    )
    assert not (tmp_path / "logs").exists()


def test_an_interruption_is_told_in_one_line(tmp_path, monkeypatch):
    def interrupted(self, lab):
        raise KeyboardInterrupt(GOES_ON)

    monkeypatch.setattr(Reproduction, "results", interrupted)
    assert_one_line(
        run_main(reproduce.main, tmp_path, "aevb_figure_4", "budget=smoke", code=130), "the same call goes on"
    )
