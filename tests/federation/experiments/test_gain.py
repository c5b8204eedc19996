"""The gain experiment on made-up features: from end to end, the same again, and on after a stop."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from learning_cases import hospital, tiny_net

from federation.experiments import gain
from federation.experiments.gain import GainOptions, divide, measure_cohort, measure_gain
from federation.experiments.gain_figures import draw_gallery, summarise
from federation.experiments.gain_report import accuracy_table, interval_table, render_html, render_markdown
from federation.experiments.partition import Spread
from federation.experiments.plans import RoundOptions
from federation.experiments.ranking import (
    Groups,
    draw_weights,
    known_queries,
    macro,
    rank_queries,
    weighted_macro,
)
from federation.experiments.student import student_interval, t_quantile
from federation.learning.config import AnalyticOptions, LocalTraining
from federation.learning.validate import validate

LOCAL = LocalTraining(epochs=1, batch_photos=32)
LOWERED = AnalyticOptions(shrinkage=0.5, minimum_patients=1, diagonal_minimum_patients=1)
OPTIONS = GainOptions(
    cohorts=(0, 1),
    strategies=(
        RoundOptions("fedprox", rounds=2, local=replace(LOCAL, proximal_mu=0.1)),
        RoundOptions("analytic", analytic=LOWERED),
    ),
    rivals=(("one round", RoundOptions("fedavg", rounds=1, local=LOCAL)),),
    sites=("A", "B", "C"),
    spread=Spread("near-uniform"),
    holdout_share=0.5,
    minimum_held_out=10,
    draws=40,
)


def source(cohort: int):
    return hospital(dict.fromkeys("abcd", 36), name=f"cohort{cohort}", photos=1, noise=1.0)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parts")
    parts = measure_gain(OPTIONS, tiny_net(), source, folder, lambda _: None)
    return folder, parts, summarise(OPTIONS, tiny_net(), parts)


def test_every_model_ranks_every_held_out_photo_in_both_galleries(measured) -> None:
    _, parts, _ = measured
    names = {"base", "rival/one round"} | {
        f"{kind}/{name}" for kind in ("global", "alone", "pooled") for name in ("fedprox", "analytic")
    }
    assert [part["cohort"] for part in parts] == [0, 1]
    for part in parts:
        assert part["sites"].keys() == {"A", "B", "C"}
        for site in part["sites"].values():
            for stored in site["galleries"].values():
                assert stored["ranks"].keys() == names
                assert {len(ranks) for ranks in stored["ranks"].values()} == {len(stored["patients"])}
    assert parts[0]["secure_sums"] == 2 * 3 + 3  # presence, counts and the update or the statistics


def test_the_same_again(measured) -> None:
    _, parts, _ = measured
    again = json.loads(json.dumps(measure_cohort(OPTIONS, tiny_net(), source(0), 0, lambda _: None)))
    del parts[0]["seconds"]
    assert again == parts[0]
    parts[0]["seconds"] = 0.0


def test_goes_on_after_a_stop_and_measures_nothing_twice(tmp_path, monkeypatch) -> None:
    asked: list[int] = []

    def counting(cohort: int):
        asked.append(cohort)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return source(cohort)

    short = replace(OPTIONS, strategies=OPTIONS.strategies[1:], rivals=())
    with pytest.raises(KeyboardInterrupt):
        measure_gain(short, tiny_net(), counting, tmp_path, lambda _: None)
    assert len(list(tmp_path.glob("gain-*"))) == 1
    parts = measure_gain(short, tiny_net(), counting, tmp_path, lambda _: None)
    assert (asked, len(parts)) == ([0, 1, 1], 2)
    measure_gain(replace(short, draws=7), tiny_net(), counting, tmp_path, lambda _: None)
    assert asked == [0, 1, 1]
    measure_gain(
        replace(short, cohorts=(0,), holdout_share=0.4), tiny_net(), counting, tmp_path, lambda _: None
    )
    assert asked == [0, 1, 1, 0]


def test_ranks_are_those_of_the_site_s_own_validation() -> None:
    silos = divide(OPTIONS, source(0), 0)
    training, held_out = silos.training["A"], silos.held_out["A"]
    now, candidate = tiny_net(0), tiny_net(1)
    queries = known_queries(held_out, training)
    found = validate(now.neck, candidate.neck, held_out=held_out, gallery=training)
    for net, accuracy in ((now, found.before), (candidate, found.after)):
        ranks = rank_queries(net.neck, queries, training)
        assert [macro(ranks, Groups.of(queries), k) for k in (1, 5)] == [accuracy.macro[k] for k in (1, 5)]


def test_training_and_held_out_share_no_patient_and_sites_none() -> None:
    silos = divide(OPTIONS, source(0), 0)
    groups = [set(part.patients) for half in (silos.training, silos.held_out) for part in half.values()]
    assert sum(map(len, groups)) == len(set().union(*groups)) == 4 * 36
    with pytest.raises(ValueError, match="holds out"):
        divide(replace(OPTIONS, minimum_held_out=1000), source(0), 0)


def test_a_draw_of_patients_weighs_photos_as_if_they_were_copied() -> None:
    queries = hospital({"a": 5, "b": 3}, name="h", photos=2)
    groups, ranks = Groups.of(queries), np.array([1, 2, 1, 1, 3, 1, 1, 1, 2, 2, 1, 1, 5, 1, 1, 1])
    weights = draw_weights(groups, np.random.default_rng(0), 30)
    for row, value in zip(weights, weighted_macro(ranks, groups, 1, weights), strict=True):
        copied = np.repeat(np.arange(16), row)
        again = replace(groups, syndromes=groups.syndromes[copied], patients=groups.patients[copied])
        assert value == pytest.approx(macro(ranks[copied], again, 1))
        assert row.sum() == 16  # every patient has two photos here
        assert row[:10].sum() == 10  # and five of the patients have the first syndrome


def test_draws_by_syndrome_centre_on_the_value_and_others_lose_rare_syndromes() -> None:
    queries = hospital({"a": 40, "b": 1}, name="h", photos=1)
    groups, ranks = Groups.of(queries), np.array([1] * 20 + [9] * 20 + [1])
    drawn = {
        by: weighted_macro(
            ranks, groups, 1, draw_weights(groups, np.random.default_rng(1), 4000, by_syndrome=by)
        )
        for by in (True, False)
    }
    assert macro(ranks, groups, 1) == 0.75
    assert drawn[True].mean() == pytest.approx(0.75, abs=0.005)
    assert drawn[False].mean() < 0.7


@pytest.mark.parametrize(
    ("share", "freedom", "printed"),
    [(0.975, 1, 12.706), (0.975, 5, 2.571), (0.975, 7, 2.365), (0.95, 10, 1.812), (0.975, 120, 1.980)],
)
def test_quantiles_are_those_of_printed_tables(share, freedom, printed) -> None:
    assert t_quantile(share, freedom) == pytest.approx(printed, abs=6e-4)


def test_student_s_interval_is_the_textbook_s() -> None:
    found = student_interval([1.0, 2.0, 3.0])
    assert (found.value, found.n) == (2.0, 3)
    assert found.high - 2.0 == pytest.approx(4.302653 / 3**0.5, rel=1e-5)  # t(0.975, 2) · s / √n, s = 1


def test_intervals_hold_their_value_and_a_model_gains_nothing_over_itself(measured) -> None:
    _, parts, result = measured
    drawn = draw_gallery(parts, "own", 200)
    same = drawn.gain("base", "base", 1)
    assert (same.value, same.low, same.high, same.n) == (0.0, 0.0, 0.0, 2)
    for figure in result["figures"]:
        for estimate in figure["gain"].values():
            assert estimate["low"] - 0.05 <= estimate["value"] <= estimate["high"] + 0.05
        shown = figure["global"] - figure["accuracy"]["alone"]
        assert figure["gain"]["alone"]["value"] == pytest.approx(shown)
        assert np.mean(figure["gain_by_seed"]) == pytest.approx(shown)


def test_more_seeds_that_differ_widen_the_interval() -> None:
    def part(hits: int) -> dict:
        stored = {
            "syndromes": [0] * 50 + [1] * 50,
            "patients": list(range(100)),
            "ranks": {"global/x": [1] * hits + [9] * (100 - hits), "base": [9] * 100},
        }
        return {"sites": {"A": {"galleries": {"own": stored}}}}

    alike = draw_gallery([part(50)] * 4, "own", 500).gain("global/x", "base", 1)
    apart = draw_gallery([part(n) for n in (10, 90, 20, 80)], "own", 500).gain("global/x", "base", 1)
    assert alike.value == apart.value == 0.5
    assert apart.high - apart.low > 2 * (alike.high - alike.low)


def test_the_gate_of_the_plan_is_reported_as_it_answers(measured) -> None:
    _, parts, result = measured
    gate = parts[0]["gate"]
    assert gate["minimum_patients"] == AnalyticOptions().minimum_patients == 5000
    assert gate["patients_left"] < 5000 and "patients are certain" in gate["answer"]
    assert "would be refused" in render_markdown(result)


def test_the_pages_show_the_figures(measured) -> None:
    _, _, result = measured
    markdown, page = render_markdown(result), render_html(result)
    for row in [*accuracy_table(result, "own")[1:], *interval_table(result, "joint")[1:]]:
        assert "| " + " | ".join(row) + " |" in markdown
        assert all(f"<td>{cell}</td>" in page for cell in row)
    assert "<svg" in page and "http" not in page.replace("http://www.w3.org/2000/svg", "")
    assert "<svg" not in markdown


def test_a_part_says_what_it_depends_on() -> None:
    names = {
        gain.part_name(options, net, 3)
        for options in (OPTIONS, replace(OPTIONS, holdout_share=0.4), replace(OPTIONS, rivals=()))
        for net in (tiny_net(0), tiny_net(1))
    }
    assert len(names) == 6
    assert gain.part_name(OPTIONS, tiny_net(), 3) == gain.part_name(
        replace(OPTIONS, draws=9, cohorts=(3,)), tiny_net(), 3
    )
