"""Which patients stand in which sum: consent at use, the k rule, the same people through a round."""

from __future__ import annotations

import numpy as np
import pytest

from diagnosis.errors import ConsentMissing

MIX = {"SYN:0001": 12, "SYN:0002": 9, "SYN:0003": 4}
OTHERS = {"SYN:0001": 10, "SYN:0002": 10, "SYN:0003": 10}  # so that all three are open
CLASSES = ("SYN:0001", "SYN:0002", "SYN:0003")


def pks(patients) -> set[int]:
    return {patient.pk for patient in patients}


def everybody(found) -> set[int]:
    return {pk for some in found.patients.values() for pk in some}


def rows_of(words: np.ndarray, classes: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Update words → bias (C,), rows (C, 512), neck: the layout is in order of the tensors' names."""
    bias, weight, neck = np.split(words, [classes, classes * 513])
    return bias, weight.reshape(classes, 512), neck


def withdraw(hospital, patient) -> None:
    hospital.sign(patient, ("analysis", "gallery"))


@pytest.fixture
def round_(hospital, story):
    """A counted round of a hospital with k patients of two of three open syndromes."""
    hospital.admit_all(MIX)
    made = story.begin()
    story.count(made, OTHERS)
    return made


@pytest.fixture
def centroid_sum(story):
    """centroid_sum(round_) → the sum of class sums, with a candidate that everybody accepted."""

    def make(round_):
        from federation.services.candidates import candidate_make

        story.vote(round_, candidate_make(round_))
        return story.sum(round_, "centroids", 3 * (1 + 4 * 512))

    return make


# --- the k rule ----------------------------------------------------------------------------------------


def test_presence_is_a_random_word_at_k_patients_and_nothing_below(hospital, story) -> None:
    from federation.services.contributions import input_words

    hospital.admit_all(MIX)
    total = story.sum(story.begin(), "presence", len(hospital.VOCABULARY))
    first, second = input_words(total).words, input_words(total).words
    assert first.dtype == np.uint64
    assert list(first != 0) == [True, True, False, False] == list(second != 0)
    assert not (first[:2] == second[:2]).any()


def test_another_catalogue_is_refused(hospital, story) -> None:
    from diagnosis.models import Syndrome
    from federation.errors import FederationError
    from federation.services.contributions import input_words

    total = story.sum(story.begin(), "presence", len(hospital.VOCABULARY))
    Syndrome.objects.create(identifier="SYN:9999", name="own")
    with pytest.raises(FederationError, match="catalogue"):
        input_words(total)


def test_a_sum_of_another_length_is_refused(hospital, story, round_) -> None:
    from federation.errors import FederationError
    from federation.services.contributions import input_words

    with pytest.raises(FederationError, match="length"):
        input_words(story.sum(round_, "counts", 4, attempt=2))


def test_one_round_sums_the_same_patients_and_held_out_ones_never(
    hospital, story, round_, centroid_sum
) -> None:
    from federation.models import Contribution
    from federation.services.population import split_now

    split = split_now(5)
    held_out = {entrant.patient for entrant in split.held_out}
    assert held_out, "the test needs somebody held out"
    counts = Contribution.objects.get(purpose="counts").patients
    update = story.train(round_)
    centroids = story.contribute(centroid_sum(round_))
    assert counts == centroids.patients == {name: update.patients[name] for name in ("SYN:0001", "SYN:0002")}
    assert counts == {name: sorted(split.patients()[name]) for name in counts}
    assert not held_out & (everybody(update) | everybody(centroids))
    from diagnosis.models import Photo

    assert set(Photo.objects.filter(pk__in=update.photos).values_list("patient_id", flat=True)) == everybody(
        update
    )
    assert set(
        Photo.objects.filter(pk__in=centroids.photos).values_list("patient_id", flat=True)
    ) == everybody(centroids)


def test_below_k_the_words_are_exact_zeros(hospital, story, round_, centroid_sum) -> None:
    counts = story.sum(round_, "counts", 3, attempt=2)
    assert story.contribute(counts).words[2] == 0
    update = story.train(round_)
    bias, rows, neck = rows_of(update.words)
    assert not rows[2].any() and bias[2] == 0
    assert np.count_nonzero(rows[0]) > 500 and np.count_nonzero(rows[1]) > 500 and neck.any()
    assert 0 < len(update.patients["SYN:0003"]) < 5  # they trained the neck, and stand in the evidence
    words = story.contribute(centroid_sum(round_)).words
    assert words[2] == 0 and words[:2].all()
    sums = words[3:].reshape(3, 4, 512)
    assert not sums[2].any() and np.count_nonzero(sums[:2]) > 4000


def test_class_sums_are_those_of_the_clinics_own_embeddings(hospital, story, round_, centroid_sum) -> None:
    """The slow twin: patient by patient, photo by photo, with the candidate as an installed extractor."""
    from diagnosis import engine, pictures, vault
    from diagnosis.models import Photo
    from diagnosis.phenotype.types import AlignedFace
    from federation.secagg.quantize import StatisticsQuantiser
    from federation.services.adoption import model_adopt
    from federation.services.candidates import candidate_make

    story.train(round_)
    found = story.contribute(centroid_sum(round_))
    extractor = model_adopt(story.publish(round_, candidate_make(round_)))
    values = StatisticsQuantiser(3).decode(found.words)
    for index, name in enumerate(CLASSES):
        people = found.patients.get(name, [])
        assert values[index] == len(people)
        total = np.zeros((4, 512))
        for patient in people:
            rows = []
            for photo in Photo.objects.filter(patient=patient):
                pixels = pictures.read_stored(vault.blob_read(photo.key, photo.crop, purpose="crop"))
                face = AlignedFace(pixels, np.asarray(photo.landmarks, dtype=np.float32))
                rows.append(engine.embed(extractor, face).rows.astype(np.float64))
            total += np.mean(rows, axis=0)
        start = 3 + index * 2048
        np.testing.assert_allclose(values[start : start + 2048].reshape(4, 512), total, atol=1e-11)


# --- the k rule over time ------------------------------------------------------------------------------


def next_count(story):
    """Begin another round and count: the class sizes that this hospital says."""
    found = story.count(story.begin(), OTHERS)
    return {name: len(found.patients.get(name, [])) for name in CLASSES}, found


def test_a_few_newcomers_wait_until_they_are_k(hospital, story, round_) -> None:
    from federation.models import Contribution

    before = Contribution.objects.get(purpose="counts").patients
    hospital.admit_all({"SYN:0001": 2})
    _, found = next_count(story)
    assert found.patients == before
    hospital.admit_all({"SYN:0001": 20})
    sizes, found = next_count(story)
    joined = set(found.patients["SYN:0001"]) - set(before["SYN:0001"])
    assert set(before["SYN:0001"]) <= set(found.patients["SYN:0001"]) and len(joined) >= 5
    assert found.patients["SYN:0002"] == before["SYN:0002"]


def test_after_one_withdrawal_a_syndrome_waits_and_comes_back_with_k_changes(hospital, story, round_) -> None:
    from diagnosis.models import Patient
    from federation.models import Contribution

    before = Contribution.objects.get(purpose="counts").patients
    withdraw(hospital, Patient.objects.get(pk=before["SYN:0001"][0]))
    sizes, found = next_count(story)
    assert sizes["SYN:0001"] == 0 and found.patients["SYN:0002"] == before["SYN:0002"]
    for pk in before["SYN:0001"][1:5]:  # five in all have left
        withdraw(hospital, Patient.objects.get(pk=pk))
    hospital.admit_all({"SYN:0001": 12})
    sizes, found = next_count(story)
    assert sizes["SYN:0001"] >= 5
    kept = set(found.patients["SYN:0001"])
    assert len(set(before["SYN:0001"]) - kept) == 5 and len(kept - set(before["SYN:0001"])) >= 5


def test_who_was_contributed_is_never_held_out_later(hospital, story) -> None:
    from federation.services.population import split_now

    hospital.admit_all({"SYN:0001": 5, "SYN:0002": 5})  # all five are needed, so nobody is held out
    found = story.count(story.begin())
    hospital.admit_all({"SYN:0001": 30})
    split = split_now(5)
    assert set(found.patients["SYN:0001"]) <= split.patients()["SYN:0001"]
    assert {e.syndrome for e in split.held_out} == {"SYN:0001"}


def test_another_extractor_and_another_strategy_change_nothing_in_the_rule(hospital, story, round_) -> None:
    from federation.models import Contribution

    before = Contribution.objects.get(purpose="counts").patients
    hospital.admit_all({"SYN:0002": 1})
    found = story.count(story.begin(strategy="fedadam", seed=99), OTHERS)
    assert found.patients == before


# --- withdrawal inside a round -------------------------------------------------------------------------


def test_a_withdrawal_after_counting_takes_its_whole_syndrome_out(
    hospital, story, round_, centroid_sum
) -> None:
    from diagnosis.models import Patient
    from federation.models import Contribution

    counts = Contribution.objects.get(purpose="counts").patients
    gone = counts["SYN:0002"][0]
    withdraw(hospital, Patient.objects.get(pk=gone))
    update = story.train(round_)
    bias, rows, _ = rows_of(update.words)
    assert not rows[1].any() and bias[1] == 0 and rows[0].any()
    assert update.patients["SYN:0001"] == counts["SYN:0001"] and "SYN:0002" not in update.patients
    centroids = story.contribute(centroid_sum(round_))
    assert centroids.words[1] == 0 and not centroids.words[3 + 2048 : 3 + 2 * 2048].any()
    assert centroids.patients == {"SYN:0001": counts["SYN:0001"]}


def test_consent_is_read_again_before_masking(hospital, story, round_) -> None:
    from diagnosis.models import LedgerEntry, Patient
    from federation.models import Contribution
    from federation.services.contributions import contribution_record, input_words, still_allowed

    total = story.update_sum(round_)
    found = input_words(total)
    assert still_allowed(found.patients, found.photos)
    few = Patient.objects.get(pk=found.patients["SYN:0003"][0])  # not even one of those in a row
    withdraw(hospital, few)
    assert not still_allowed(found.patients, found.photos)
    noted = LedgerEntry.objects.count()
    with pytest.raises(ConsentMissing):
        contribution_record(total, patients=found.patients, photos=found.photos)
    assert not Contribution.objects.filter(sum=total.name).exists() and LedgerEntry.objects.count() == noted
    again = input_words(total)
    assert few.pk not in everybody(again)
    contribution_record(total, patients=again.patients, photos=again.photos)


@pytest.mark.parametrize("change", ["photo", "diagnosis", "analysis again"])
def test_whatever_else_changed_before_masking_counts_too(hospital, story, round_, change) -> None:
    from diagnosis.models import Diagnosis, Photo, Syndrome
    from federation.services.contributions import input_words, still_allowed

    found = input_words(story.update_sum(round_))
    if change == "photo":
        Photo.objects.get(pk=found.photos[0]).delete()
    elif change == "analysis again":
        Photo.objects.filter(pk=found.photos[0]).update(state="analysing")
    else:
        other = Syndrome.objects.get(identifier="SYN:0004")
        Diagnosis.objects.filter(patient=found.patients["SYN:0001"][0]).update(syndrome=other)
    assert not still_allowed(found.patients, found.photos)


def test_counted_patients_are_checked_without_photos(hospital, story, round_) -> None:
    from diagnosis.models import Patient
    from federation.services.contributions import input_words, still_allowed

    found = input_words(story.sum(round_, "counts", 3, attempt=2))
    assert found.photos == [] and still_allowed(found.patients, [])
    withdraw(hospital, Patient.objects.get(pk=found.patients["SYN:0001"][0]))
    assert not still_allowed(found.patients, [])


# --- training ------------------------------------------------------------------------------------------


def test_an_update_is_the_same_in_every_attempt_and_curves_are_kept_per_attempt(story, round_) -> None:
    from federation.models import Curve
    from federation.services.contributions import input_words

    words = [input_words(story.update_sum(round_, attempt)).words for attempt in (1, 2)]
    np.testing.assert_array_equal(words[0], words[1])
    curves = list(Curve.objects.values_list("attempt", "epoch").order_by("attempt", "epoch"))
    assert curves == [(attempt, epoch) for attempt in (1, 2) for epoch in (1, 2, 3)]
    losses = Curve.objects.filter(attempt=1).order_by("epoch").values_list("loss", flat=True)
    assert losses[0] > losses[2] > 0
    assert all(0 <= share <= 1 for share in Curve.objects.values_list("top_1", flat=True))


def test_words_are_the_weighted_update_of_exactly_these_photos(hospital, story, round_) -> None:
    """By hand from `learning`: features of the recorded photos, then the training loop, then the words."""
    from federation.learning.heads import build_head, initial_vector, layout_of
    from federation.learning.loop import train_local
    from federation.learning.words import encode_update
    from federation.plans import parse_plan, training_plan
    from federation.services.contributions import input_words
    from federation.services.features import features_of
    from federation.services.local_training import site_seed
    from federation.services.results import open_counts

    found = input_words(story.update_sum(round_))
    base, plan = hospital.network(), parse_plan(round_.plan)
    samples = {"a": 100, "b": 100, "c": 100}
    training = training_plan(plan, samples=samples, counts=open_counts(round_))
    result = train_local(
        training, training.members[0], base, initial_vector(base, CLASSES, plan.seed),
        features_of(found.photos, base), site_seed=site_seed(plan.sha256, "tiny"),
    )  # fmt: skip
    words = encode_update(
        training, training.members[0], layout_of(build_head(base, 3)), result.update, site="a",
        class_patients={name: len(found.patients[name]) for name in CLASSES},
    )  # fmt: skip
    np.testing.assert_array_equal(found.words, words)


def test_no_more_photos_than_the_answer_said(hospital, story, round_) -> None:
    from federation.errors import FederationError
    from federation.models import Participation
    from federation.services.contributions import input_words

    total = story.update_sum(round_)
    everything = input_words(total)
    own = Participation.objects.get(round=round_, peer__name="a")
    Participation.objects.filter(pk=own.pk).update(samples=30)
    fewer = input_words(total)
    assert len(fewer.photos) == 30 < len(everything.photos) and fewer.patients == everything.patients
    Participation.objects.filter(pk=own.pk).update(samples=10)
    with pytest.raises(FederationError, match="at most 10 photos"):
        input_words(total)


@pytest.fixture
def rare_rows(hospital, story, round_):
    """rare_rows(entrants) → the rows that the next round would start from; and the entrants now."""
    from federation.plans import parse_plan
    from federation.services.local_rows import rows_kept
    from federation.services.population import training_now

    story.train(round_)
    following = parse_plan(story.begin(previous_round=round_.sha256).plan)

    def kept(entrants=None):
        return rows_kept(
            plan=following, member="tiny", entrants=training_now() if entrants is None else entrants
        )

    return kept


def test_rows_of_rare_syndromes_stay_sealed_at_the_site(rare_rows, site_home) -> None:
    from diagnosis import vault
    from diagnosis.models import Photo
    from federation.services.population import training_now

    kept = rare_rows()
    assert list(kept) == ["SYN:0003"] and kept["SYN:0003"].shape == (513,)
    files = list((site_home / "federation" / "local_rows").glob("*/*.json"))
    assert len(files) == 1 and kept["SYN:0003"].tobytes()[:32] not in files[0].read_bytes()
    everybody = training_now()
    rare = [entrant for entrant in everybody if entrant.syndrome == "SYN:0003"]
    assert rare_rows([entrant for entrant in everybody if entrant.photo != rare[0].photo]) == {}
    vault.destroy_key(Photo.objects.get(pk=rare[-1].photo).key)  # and nobody asked the database
    assert rare_rows(everybody) == {}


def test_a_round_starts_from_the_rows_of_the_round_before_only(
    hospital, story, round_, rare_rows, site_home
) -> None:
    from federation.plans import parse_plan
    from federation.services.local_rows import rows_keep, rows_kept
    from federation.services.population import training_now

    row = {"SYN:0003": np.ones(513, dtype=np.float32)}
    plan, facts = parse_plan(round_.plan), {"member": "tiny", "entrants": training_now()}
    assert rare_rows() and rows_kept(plan=plan, **facts) == {}
    second = story.begin(previous_round=round_.sha256, seed=2)
    rows_keep(plan=parse_plan(second.plan), rows=row, **facts)
    assert rare_rows()  # another attempt of the second round finds the same as before
    third = story.begin(previous_round=second.sha256, seed=3)
    np.testing.assert_array_equal(
        rows_kept(plan=parse_plan(third.plan), **facts)["SYN:0003"], row["SYN:0003"]
    )
    rows_keep(plan=parse_plan(third.plan), rows=row, **facts)
    assert rare_rows() == {} and len(list((site_home / "federation" / "local_rows").iterdir())) == 2


def test_consent_to_training_alone_taken_back_discards_what_was_derived(
    hospital, rare_rows, site_home
) -> None:
    from diagnosis import outbox
    from diagnosis.models import Patient
    from federation.models import PhotoFeatures
    from federation.services.consent_follow import consent_follow
    from federation.services.population import training_now

    rare = next(entrant for entrant in training_now() if entrant.syndrome == "SYN:0003")
    consent_follow()
    assert not consent_follow()
    before = PhotoFeatures.objects.count()
    withdraw(hospital, Patient.objects.get(pk=rare.patient))
    outbox.publish("consent.changed", f"patient:{rare.patient}")
    assert consent_follow() and not consent_follow()
    assert PhotoFeatures.objects.count() == before - 2
    (file,) = (site_home / "federation" / "local_rows").glob("*/*.json")
    assert file.read_bytes() == b"{}"


def test_a_site_without_an_open_syndrome_cannot_train(hospital, story) -> None:
    from federation.errors import FederationError
    from federation.services.contributions import input_words

    hospital.admit_all({"SYN:0004": 2})
    round_ = story.begin()
    story.count(round_)
    with pytest.raises(FederationError, match="no consented photo"):
        input_words(story.update_sum(round_))


def test_without_the_base_model_the_sentence_says_what_to_do(hospital, story, round_) -> None:
    from diagnosis import engine
    from diagnosis.errors import NotReady
    from federation.services.contributions import input_words

    engine.weights_path(hospital.base_sha256()).unlink()
    with pytest.raises(NotReady, match="Adopt the federation's last model"):
        input_words(story.update_sum(round_))


# --- before anybody says yes ---------------------------------------------------------------------------


def test_dry_run_counts_what_would_take_part(hospital, story) -> None:
    from federation.models import PhotoFeatures
    from federation.plans import parse_plan, update_words
    from federation.services.contributions import dry_run, samples_now
    from federation.services.features import features_of
    from federation.services.population import split_now

    hospital.admit_all(MIX)
    hospital.admit_all({"SYN:0001": 3}, tiers=("analysis", "gallery"))
    hospital.admit_all({"SYN:0001": 1}, state="refused")
    plan = parse_plan(story.begin().plan)
    split = split_now(5)
    found = dry_run(plan)
    assert (found.photos, found.without_consent, found.syndromes) == (len(split.training), 6, 2)
    assert found.patients + found.held_out == sum(MIX.values()) and found.held_out > 0
    assert samples_now(5) == -(-len(split.training) // 10) * 10
    (member,) = found.members
    assert member.update_bytes == 4 * update_words(plan.members[0], 2) and member.cached == 0
    assert found.total_bytes == member.update_bytes + 8 * (4 + 2 + 2 * (1 + 4 * 512))
    features_of([split.training[0].photo], hospital.network())
    again = dry_run(plan)
    assert again.members[0].cached == 1 == PhotoFeatures.objects.count()
    assert 0 < again.seconds < found.seconds < 60
