"""From single examples to the numbers of a split, and from those to sentences."""

import math

import pytest
import torch

from tests.helpers.linear_gaussian import draw_data, linear_gaussian
from vaelab.data import Digits
from vaelab.estimators import (
    AnnealedImportanceSampling,
    HarmonicMean,
    ImportanceSampling,
    RefinedImportanceSampling,
)
from vaelab.evaluation.advice import on_bound, on_estimate, verdicts
from vaelab.evaluation.latent_usage import spread_of_mean
from vaelab.evaluation.metrics import bound_summary, estimate_summary, summary
from vaelab.evaluation.per_example import Records
from vaelab.evaluation.predictive import NUM_RANKS, OUTSIDE, RANK_HISTOGRAM
from vaelab.heads import Bernoulli, Logistic
from vaelab.networks import Network
from vaelab.objectives import ELBO

NETWORK = Network((2,), (1, 8, 8), (2,))
BERNOULLI = Bernoulli(NETWORK)
IMPORTANCE = ImportanceSampling(5000)
FINE = {"log_likelihood": -90.0, "standard_error": 0.01, "bias": -0.001, "mutual_information": 2.0}
FINE |= {"mutual_information_limit": 9.2, "active_units": 10, "latent_dim": 10, "num_samples": 5000}
FINE |= {"elbo": -95.0, "gain": 5.0, "gain_error": 0.5, "num_examples": 100, "effective_sample_size": 900.0}
FINE |= {"pareto_k": 0.3, "pareto_k_bad": 0.0}
FINE |= {"coverage_50": 0.52, "coverage_90": 0.88, "above_median": 0.48, "outside_range": 0.01}
FINE |= dict.fromkeys(("coverage_50_error", "coverage_90_error", "above_median_error", "outside_range_error"), 0.004)


def records(n=5, **more):
    found = Records()
    elbo = torch.tensor([-100.0, -90.0, -95.0, -105.0, -110.0])[:n]
    zeros = torch.zeros(n)
    latent = {"log_posterior": zeros, "log_aggregate": zeros, "log_prior": zeros}
    latent |= {RANK_HISTOGRAM: torch.full((n, NUM_RANKS), 1 / NUM_RANKS), OUTSIDE: torch.zeros(n)}
    found.add((0, 0), {"elbo": elbo, "reconstruction": elbo + 20, "kl": zeros + 20.0, **latent, **more})
    return found


def test_the_bound_in_bits_has_the_jacobian_of_its_levels():
    found = Records()
    found.add((0, 0), dict.fromkeys(("elbo", "reconstruction", "kl"), torch.zeros(3)))
    assert bound_summary(found, Digits(), Logistic(NETWORK))["bits_per_dim"] == pytest.approx(math.log2(17))


def test_binary_pixels_have_no_bits():
    found = summary(records(log_likelihood=torch.zeros(5)), {"": IMPORTANCE}, Digits(), BERNOULLI)
    assert not [name for name in found if "bits" in name]


def test_rate_distortion_and_how_far_another_split_may_lie():
    found = summary(records(), {}, Digits(), BERNOULLI)
    assert (found["elbo"], found["rate"], found["distortion"]) == (-100, 20, 80)
    assert found["sampling_error"] == pytest.approx(math.sqrt(62.5 / 5))
    assert found["num_examples"] == 5


def test_one_example_and_one_sample_give_no_error_metrics():
    nothing = torch.full((1,), math.nan)
    values = records(1, log_likelihood=torch.ones(1), standard_error=nothing, bias=nothing)
    found = summary(values, {"": ImportanceSampling(1)}, Digits(), BERNOULLI)
    assert (found["log_likelihood"], found["num_samples"]) == (1, 1)
    assert not {"sampling_error", "marginal_kl_error", "standard_error", "bias"} & found.keys()
    assert all(math.isfinite(value) for value in found.values())


def test_the_error_of_the_gaps_difference_is_that_of_each_examples():
    estimate, fitted = torch.tensor([-90.0, -80, -86, -94, -99]), torch.tensor([-97.0, -83, -93, -98, -104])
    gap = fitted - records().column("elbo")
    values = records(log_likelihood=estimate, fitted_elbo=fitted, fitted_rate=gap, amortization_gap=gap)
    found = summary(values, {"": IMPORTANCE}, Digits(), BERNOULLI)
    expected = torch.std(estimate - fitted - gap) / math.sqrt(5)
    assert found["gap_difference_error"] == pytest.approx(expected.item())
    assert found["gap_difference_error"] > math.hypot(found["amortization_gap_error"], found["approximation_gap_error"])


def test_the_error_of_a_mean_is_that_of_independent_estimates():
    columns = {"log_likelihood": torch.tensor([-1.0, -3.0]), "standard_error": torch.tensor([0.3, 0.4])}
    found = estimate_summary(columns, IMPORTANCE)
    assert found.pop("log_likelihood_sampling_error") == pytest.approx(1)
    assert found == {"log_likelihood": -2, "standard_error": pytest.approx(0.25), "num_samples": 5000}


def test_examples_without_an_estimate_are_counted_and_left_out():
    columns = {"log_likelihood": torch.tensor([-1.0, math.nan, -3.0]), "standard_error": torch.ones(3) * 0.2}
    columns |= {"r_hat": torch.tensor([1.0, math.nan, 1.2]), "simulated_lower": torch.zeros(2)}
    columns |= {"simulated_upper": torch.ones(2)}
    found = estimate_summary(columns, HarmonicMean())
    assert (found["log_likelihood"], found["undefined"], found["simulated_gap"]) == (-2, 1, 1)
    assert found["r_hat"] == pytest.approx(1.2)
    assert "it gives no estimate for 1 examples" in said(undefined=1)
    nothing = dict.fromkeys(("log_likelihood", "r_hat", "standard_error"), torch.full((5,), math.nan))
    found = summary(records(**nothing), {"": HarmonicMean()}, Digits(), BERNOULLI)
    assert found["undefined"] == 5
    assert not nothing.keys() & found.keys()


def test_estimate_summary_has_worst_r_hat_bad_tails_and_gap():
    columns = {"log_likelihood": torch.zeros(4), "r_hat": torch.tensor([1.0, 1.4, 1.1, 1.2])}
    columns |= {"pareto_k": torch.tensor([0.1, 0.71, 0.2, 0.9])}
    columns |= {"simulated_lower": torch.tensor([1.0, 2.0, 3.0]), "simulated_upper": torch.tensor([1.5, 2.1, 3.3])}
    found = estimate_summary(columns, IMPORTANCE)
    assert found["r_hat"] == pytest.approx(1.4)
    assert found["pareto_k_bad"] == 0.5
    assert found["simulated_gap"] == pytest.approx(0.3)
    assert found["simulated_gap_error"] == pytest.approx(0.2 / math.sqrt(3))


def said(estimators=None, **changed):
    return " / ".join(verdicts(FINE | changed, estimators or {"": IMPORTANCE}))


def test_nothing_to_complain_of():
    assert said() == (
        "importance sampling: the proposal is good for every example (Pareto k below 0.70) / "
        "no posterior collapse: all 10 latent dimensions are active"
    )


GAPS = {"amortization_gap": 3.0, "approximation_gap": 2.0, "fitted_elbo": -92.0, "fitted_rate": 9.0, "rate": 10.0}
GAPS |= dict.fromkeys(("amortization_gap_error", "approximation_gap_error", "gap_difference_error"), 0.1)
COLLAPSED = {"active_units": 0, "rate": 0.01}
GAP = {"simulated_gap": 0.05, "simulated_gap_error": 0.01}
NARROW, HEAVY = {"coverage_50": 0.3, "coverage_90": 0.71}, {"coverage_50": 0.6, "coverage_90": 0.84}
COMPLAINTS = {
    "the proposal is poor for 20% of the examples (Pareto k above 0.70) / importance": {"pareto_k_bad": 0.2},
    "at least 0.001 nats, and its samples cannot tell by how much more: log p(x) is at least -90.02;": {
        "pareto_k_bad": 0.2
    },
    "the proposal is poor for only 1.00% of the examples": {"pareto_k_bad": 0.01},
    "too low by about 0.05 nats, so log p(x) is -90.02 to -89.88; use": {"bias": -0.05},
    "the proposal is not checked, because that needs num_samples=25 or more": {"num_samples": 24},
    "only 1.1 effective draws of the noise, which cannot tell how loose this lower bound is": {
        "log_mass_effective_sample_size": 1.1
    },
    "importance sampling is looser than the ELBO, by 2.000 +- 0.500 nats: do not use": {"gain": -2.0},
    "have not mixed (R-hat up to 1.30)": {"r_hat": 1.3},
    "0.050 +- 0.010 nats apart: tight": GAP,
    "0.050 +- 0.100 nats apart: there are too few examples": GAP | {"simulated_gap_error": 0.1},
    "nats apart: the lower bound is above the upper bound": GAP | {"simulated_gap": -0.5},
    "apart: loose, use a larger estimator.num_temp": GAP | {"simulated_gap": 0.5},
    "posterior collapse: none of 10 latent dimensions is active": {"active_units": 0},
    "active, because the encoder lags: the best q(z|x) has a rate of 9.00 nats, the encoder's 0.01": GAPS | COLLAPSED,
    "active, because the decoder ignores z: the best q(z|x) has a rate of 0.02 nats, the": GAPS
    | COLLAPSED
    | {"fitted_rate": 0.02, "amortization_gap": 0.001},
    "3.00 +- 0.10 nats of the ELBO (amortisation gap), and the family of q(z|x) 2.00 +- 0.10 (approximation gap): "
    "a larger encoder, or one trained longer, would help more": GAPS,
    "a richer posterior would help more than a larger encoder": GAPS | {"amortization_gap": 1.0},
    "a better encoder and a richer posterior would help about as much": GAPS | {"amortization_gap": 2.1},
    "both are too small to matter": GAPS | {"amortization_gap": 0.2, "approximation_gap": 0.1},
    "is unknown, because the estimate of log p(x) is too loose": GAPS | {"approximation_gap": -1.0},
    "partial posterior collapse: 3 of 10": {"active_units": 3},
    "the mutual information is saturated": {"mutual_information": 9.0},
    "intervals are too narrow: 50% intervals hold 30% of the pixels, 90% intervals 71%": NARROW,
    "the predictive intervals are too wide: 50% intervals hold 60%": {"coverage_50": 0.6},
    "the tails of p(x|z) are too light: 50% intervals hold 60% of the pixels, 90% intervals 84%": HEAVY,
    "the tails of p(x|z) are too heavy: 50% intervals hold 40%": {"coverage_50": 0.4, "coverage_90": 0.96},
    "p(x|z) are too low: 58% of the pixels lie above their median": {"above_median": 0.58},
    "p(x|z) are too high: 42% of the pixels lie above their median": {"above_median": 0.42},
    "30% of the mass of p(x|z) lies at values that no pixel has": {"outside_range": 0.3},
}


def test_no_estimator_is_advised_that_was_used():
    low = {"bias": -0.05}
    assert "; use a larger num_samples=, or estimator=refined or ais /" in said(**low)
    assert "; use a larger num_samples=, or estimator=ais /" in said({"": RefinedImportanceSampling()}, **low)


def test_advice_names_the_key_that_can_be_typed():
    chains = {"bias": -0.05, "effective_sample_size": 20.0, "log_likelihood": -90.0, "standard_error": 0.01}
    assert on_estimate(chains, "", ())[-1].endswith("; use a larger estimator.num_chains=")
    assert on_estimate(chains, "ais/", ())[-1].endswith("; use a larger estimator.ais.num_chains=")
    assert on_estimate(chains | {"r_hat": 1.3}, "hmc/", ())[-1].endswith(
        "estimator.hmc.num_burn_in or estimator.hmc.num_draws"
    )
    samples = chains | {"num_samples": 100, "pareto_k_bad": 0.0}
    assert "; use a larger estimator.num_samples=, or" in on_estimate(samples, "", ())[-1]
    assert on_estimate(samples, "refined/", ("refined", "ais"))[-1].endswith(
        "; use a larger estimator.refined.num_samples="
    )


def test_nothing_is_advised_that_the_model_refuses():
    few = {"log_mass_effective_sample_size": 1.1}
    assert "type measure=mass, which draws no noise" in said(**few)
    said_here = " / ".join(verdicts(FINE | few | {"bias": -0.05}, {"": IMPORTANCE}, {"refined", "ais", "mass"}))
    assert "type a larger dequantizations=" in said_here
    assert "; use a larger num_samples= /" in said_here


@pytest.mark.parametrize("expected", COMPLAINTS)
def test_each_complaint(expected):
    assert expected in said(**COMPLAINTS[expected])
    assert expected not in said()


def test_a_misfit_within_chance_or_of_one_example_is_not_told():
    assert "too narrow" in said(coverage_90=0.83, num_examples=10)
    assert "too narrow" not in said(coverage_90=0.83, coverage_90_error=0.02, num_examples=10)
    assert "too narrow" not in said(coverage_90=0.83, num_examples=3)  # whose error is hardly known
    assert "too narrow" not in without("coverage_90_error", "gain_error", coverage_90=0.0, num_examples=1)


def without(*names, estimator=IMPORTANCE, **changed):
    kept = {name: value for name, value in (FINE | changed).items() if name not in names}
    return " / ".join(verdicts(kept, {"": estimator}))


def test_few_or_unmixed_chains_only_bound_their_bias():
    ais, few = AnnealedImportanceSampling(), {"effective_sample_size": 5.0, "bias": -0.05}
    assert "too low by at least 0.05 nats" in without("pareto_k_bad", "num_samples", estimator=ais, **few)
    many = few | {"effective_sample_size": 12.0}
    assert "too low by about 0.05 nats" in without("pareto_k_bad", "num_samples", estimator=ais, **many)
    hmc = without("pareto_k_bad", "num_samples", estimator=HarmonicMean(), r_hat=1.3, bias=0.05)
    assert "too high by at least 0.05 nats, and its samples cannot tell by how much more: log p(x) is at most" in hmc


def test_one_example_or_one_sample_is_not_checked_in_words():
    assert "not checked against the ELBO, because that needs several examples" in without("gain_error", num_examples=1)
    one = without("standard_error", "bias", "pareto_k_bad", num_samples=1)
    assert "the proposal is not checked" in one
    assert "too low" not in one


@pytest.mark.parametrize("num_samples", [1, 10])
def test_chance_rarely_calls_an_estimate_looser_than_the_elbo(num_samples):
    vae, _ = linear_gaussian(5, detune=0.05)
    x = draw_data(vae, 20 * 100)
    with torch.no_grad():
        elbo = ELBO()(vae, x, torch.tensor(0)).metrics["elbo"]
    gains = (ImportanceSampling(num_samples)(vae, x).log_likelihood - elbo).split(20)  # of 100 evaluations
    said = [on_bound({**errors_of(gain), "num_examples": 20}, {"": IMPORTANCE}) for gain in gains]
    assert sum(map(len, said)) <= 2


def errors_of(gain):
    return {"gain": gain.mean().item(), "gain_error": spread_of_mean(gain)}


def test_an_estimate_far_below_the_elbo_is_called_looser():
    values = records(log_likelihood=torch.tensor([-110, -99, -106, -114, -121.0]))
    found = summary(values, {"": IMPORTANCE}, Digits(), BERNOULLI)
    assert (found["gain"], found["elbo"]) == (-10, -100)
    (sentence,) = on_bound(found, {"": IMPORTANCE})
    assert sentence.startswith("importance sampling is looser than the ELBO, by 10.000 +- 0.447 nats")


def both(difference, other=AnnealedImportanceSampling, **changed):
    estimators = {"importance/": IMPORTANCE, "other/": other()}
    metrics = {f"importance/{name}": value for name, value in FINE.items()} | FINE
    metrics |= {"other/log_likelihood": -90.0 + difference, "other/standard_error": 0.01} | changed
    return " / ".join(verdicts(metrics, estimators))


def test_estimators_within_their_errors_agree():
    assert "importance sampling and annealed importance sampling agree: +0.010 +- 0.014 nats" in both(-0.01)


def test_the_lower_of_two_lower_bounds_is_called_loose():
    loose = both(-1.0, **{"other/simulated_gap": 0.9})
    assert "annealed importance sampling is the looser one, by 0.900 nats on examples drawn from the model" in loose
    loose = both(1.0, **{"importance/pareto_k_bad": 0.3})
    assert "importance sampling is the looser one, with a proposal that fails 30.0% of the examples" in loose
    assert "is the looser one, with a bias of about -0.001 nats" in both(1.0)


def test_what_cannot_be_compared_is_not_ranked():
    assert "are not compared: their means are over different examples" in both(1.0, **{"other/undefined": 3})
    assert "a single sample has no standard error" in both(1.0, **{"other/standard_error": math.nan})
    assert "is not a bound: trust the former" in both(1.0, HarmonicMean)
