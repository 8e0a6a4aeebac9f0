"""The command that writes the page of a run's latent: what it writes, and what it refuses."""

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.helpers.commands import FAILURE, USAGE, assert_one_line, run_main, status
from tests.helpers.distributions import without_mean
from vaelab import explore
from vaelab.data import Digits
from vaelab.distributions import bernoullis
from vaelab.errors import ConfigError, RunFolderError
from vaelab.exploring import page
from vaelab.exploring.latent import gather, group_size
from vaelab.exploring.pictures import Pictures
from vaelab.runs.build import build


def content_of(text: str) -> dict[str, Any]:
    """Return the data of a page."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, flags=re.DOTALL)
    assert found
    return json.loads(found[1])


def test_the_page_is_written_into_the_run_folder(copied: Path) -> None:
    before = status(copied)
    outcome = run_main(explore.main, copied.parent, f"run_dir={copied.name}")
    assert f"written: {copied.name}/explore.html" in outcome.out
    text = (copied / "explore.html").read_text()
    content = content_of(text)
    assert set(content["plane"]["contours"]) == {"50", "90", "99"}
    assert set(content["controls"][0]) == {"first", "size", "low", "high", "whole", "positions"}
    assert content["program"]["steps"]
    assert len(content["labels"]) == 179  # the test split of the digits
    for words in (copied.name, 'aria-label="Dimensions of z"', "one binarised draw", "The lines hold 50 %, 90 %, 99 %"):
        assert words in text
    assert status(copied) == before


@pytest.mark.slow
def test_the_page_names_no_other_file(copied: Path) -> None:
    run_main(explore.main, copied.parent, f"run_dir={copied.name}", "out=new/mine.html", "checkpoint=best")
    text = (copied.parent / "new/mine.html").read_text()
    assert not (copied / "explore.html").exists()
    assert not re.search(r"https?://|\b(src|href)=\"(?!data:)|@import|url\(|fetch\(|XMLHttp|WebSocket", text)


def test_a_planted_link_is_not_followed(copied: Path) -> None:
    victim = copied.parent / "victim"
    victim.write_text("precious")
    for name in ("explore.html", ".explore.html.partial"):
        (copied / name).symlink_to(victim)
    run_main(explore.main, copied.parent, f"run_dir={copied.name}")
    assert victim.read_text() == "precious"
    assert not (copied / "explore.html").is_symlink()


def test_a_hostile_name_is_escaped(copied: Path) -> None:
    hostile = copied.rename(copied.with_name("<script>alert(1)<!--"))
    run_main(explore.main, hostile.parent, f"run_dir='{hostile.name}'")
    text = (hostile / "explore.html").read_text()
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)&lt;!--" in text


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        ("run_dir=nowhere", FAILURE, ("nowhere", "not a run folder")),
        ("run_dir=run checkpoint=first", USAGE, ("checkpoint", "last or best")),
        ("", USAGE, ("run_dir is missing", "run_dir=")),
        ("run_dir=nowhere out=.", USAGE, ("out must be a file", "out=latent.html")),
    ],
)
def test_a_bad_line_is_refused_in_one_line(line: str, code: int, words: tuple[str, ...], tmp_path: Path) -> None:
    assert_one_line(run_main(explore.main, tmp_path, *line.split(), code=code), *words)


def test_an_impossible_file_is_refused_before_the_work(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "make_page", pytest.fail)
    (copied.parent / "taken").touch()
    for out in ("taken/mine.html", "logs/runs"):
        (copied.parent / "logs/runs").mkdir(parents=True, exist_ok=True)
        outcome = run_main(explore.main, copied.parent, f"run_dir={copied.name}", f"out={out}", code=None)
        assert_one_line(outcome, out.split("/")[0])
        assert outcome.code


@pytest.mark.slow
def test_a_strangers_class_is_refused(copied: Path) -> None:
    config = copied / "config.yaml"
    config.write_text(config.read_text().replace("vaelab.heads.Bernoulli", "evil.Head"))
    outcome = run_main(explore.main, copied.parent, f"run_dir={copied.name}", code=FAILURE)
    assert_one_line(outcome, "evil.Head", "trust=")


def latent_of(composed: Any, *overrides: str) -> Any:
    """Return the latent of an untrained model."""
    data, module = build(composed("data=digits", "hidden_features=8", "estimator=importance", *overrides))
    assert isinstance(data, Digits)
    vae = module.vae.eval()
    with torch.no_grad():
        return vae, data, gather(vae, data, Pictures(vae))


def test_dimensions_are_ordered_by_kl_and_inactive_ones_known(composed: Any) -> None:
    vae, data, _ = latent_of(composed, "latent_dim=3")
    with torch.no_grad():
        for layer, gains in ((vae.encoder.head.loc.linear, (0.0, 2.0, 1.0)),):
            layer.weight.mul_(torch.tensor(gains)[:, None])
            layer.bias.zero_()
        vae.encoder.head.scale.layer.linear.weight.zero_()
        vae.encoder.head.scale.layer.linear.bias.zero_()  # unit variances
        latent = gather(vae, data, Pictures(vae))
    assert [control.first for control in latent.controls] == [1, 2, 0]
    assert [control.active for control in latent.controls] == [True, True, False]
    expected = (latent.z**2).mean(0) / 2
    for control in latent.controls:
        assert control.use == pytest.approx(expected[control.first].item(), abs=1e-4)


def test_layers_that_the_decoder_does_not_see_are_inactive(composed: Any) -> None:
    _, _, latent = latent_of(composed, "latent_dim=2", "model=hierarchical", "model.upper_dims=3")
    assert not latent.have_kl
    assert {control.first for control in latent.controls if control.active} == {0, 1}
    assert [control.use for control in latent.controls[2:]] == [0, 0, 0]


def test_a_discrete_z_has_a_control_for_each_choice(composed: Any) -> None:
    choices = ("encoder=relaxed_categorical", "prior=categorical", "latent_dim=20")
    _, _, latent = latent_of(composed, *choices)
    assert sorted((c.first, c.size, c.positions) for c in latent.controls) == [(0, 10, 10), (10, 10, 10)]
    assert torch.equal(latent.z.unflatten(-1, (2, 10)).sum(-1), torch.ones(179, 2))
    _, _, latent = latent_of(composed, "encoder=relaxed_bernoulli", "prior=bernoulli", "latent_dim=4")
    assert {(c.size, c.low, c.high, c.positions) for c in latent.controls} == {(1, 0, 1, 2)}
    assert latent.z.unique().tolist() == [0, 1]


def test_the_mean_of_a_bit_decides_whether_it_is_active(composed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    bits = ("encoder=relaxed_bernoulli", "prior=bernoulli", "latent_dim=2")
    vae, data, _ = latent_of(composed, *bits)
    means = torch.tensor([[0.51, 0.6], [0.49, 0.99]])  # the first ones differ more if rounded

    def encode(x: Tensor) -> torch.distributions.Distribution:
        return bernoullis(means.repeat(len(x), 1)[: len(x)].logit(), 1, relaxed=False)

    monkeypatch.setattr(vae, "encode", encode)
    latent = gather(vae, data, Pictures(vae))
    assert {control.first: control.active for control in latent.controls} == {0: False, 1: True}
    assert latent.z[:2].tolist() == [[1, 1], [0, 1]]


def test_weights_that_are_not_finite_are_refused(composed: Any) -> None:
    vae, data, _ = latent_of(composed, "latent_dim=2")
    with torch.no_grad():
        vae.encoder.head.loc.linear.bias.fill_(math.nan)
        with pytest.raises(RunFolderError, match="not finite: type checkpoint=best"):
            gather(vae, data, Pictures(vae))


def test_a_page_leaves_data_and_the_generator_alone(composed: Any) -> None:
    vae, data, _ = latent_of(composed, "latent_dim=2")
    tested, state = data.tested, torch.get_rng_state()
    page.make_page("a run", vae, data, "")
    assert data.tested is tested
    assert torch.equal(torch.get_rng_state(), state)


def test_a_program_is_compared_at_the_ends_of_sliders(composed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    vae, data, latent = latent_of(composed, "latent_dim=5")
    compared = []
    monkeypatch.setattr(Pictures, "program", lambda self, z: compared.append(z) or (None, "no reason"))
    page.make_page("a run", vae, data, "")
    for control in latent.controls:
        assert {control.low, control.high} <= set(compared[0][:, control.first].tolist())
    assert len(page.corners(latent).unique(dim=0)) == 16


def test_other_discrete_latents_are_refused() -> None:
    counts = torch.distributions.Poisson(torch.ones(2, 3))
    with pytest.raises(ConfigError, match="real numbers, bits or one-hot vectors"):
        group_size(counts)


def test_a_program_that_is_not_exact_is_not_used(composed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    vae, _, latent = latent_of(composed, "latent_dim=3")
    pictures = Pictures(vae)
    with torch.no_grad():
        assert pictures.program(latent.z[:4])[0] is not None
        mean = type(pictures).__call__

        def noisy(self: Pictures, z: Tensor) -> Tensor:
            return mean(self, z) + (2 if len(z) > 1 else 0)

        monkeypatch.setattr(Pictures, "__call__", noisy)
        assert pictures.program(latent.z[:4]) == (None, "a page cannot repeat its numbers")


def test_samples_of_a_decoder_without_a_mean_share_their_noise(composed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    vae, _, latent = latent_of(composed, "latent_dim=3", "decoder=gaussian")
    means = Pictures(vae)(latent.z[:2])
    without_mean(monkeypatch, vae)
    pictures = Pictures(vae)
    drawn = pictures(latent.z[[0, 1, 0]])
    assert not pictures.are_means
    assert torch.equal(drawn[0], drawn[2])
    assert (drawn[0] - means[0]).abs().mean() > 1
