"""More than two thousand hostile, damaged and odd files: a sentence or a clean photo, never a crash."""

from __future__ import annotations

import importlib.util
import io
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.urls import reverse
from PIL import Image

from diagnosis import pictures
from diagnosis.errors import ClinicError, Duplicate, InvalidInput
from diagnosis.models import Photo
from diagnosis.services.photo import photo_add, photo_original

ROOT = Path(__file__).resolve().parents[3]
_spec = importlib.util.spec_from_file_location("hostile", Path(__file__).with_name("hostile.py"))
assert _spec is not None and _spec.loader is not None
hostile = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(hostile)

SLOWEST = 5.0  # seconds for one file on a busy core; the limit in the code for HEIC is 15
MUTANTS_EACH, HEIC_MUTANTS = 108, 24


@pytest.fixture
def desk(make_user, make_patient, make_case, team):
    user, patient = make_user(team=team), make_patient()
    return user, make_case(patient)


def try_upload(user, case, data: bytes) -> str:
    """What became of one file: "photo", "duplicate", or the sentence of the refusal."""
    started = time.perf_counter()
    try:
        photo = photo_add(user=user, case=case, data=data)
        stored = pictures.read_stored(photo_original(photo))
        assert stored.shape == (photo.height, photo.width, 3) and max(stored.shape) <= 2048
        return "photo"
    except Duplicate:
        return "duplicate"
    except InvalidInput as refused:
        assert str(refused).endswith(".") and "Traceback" not in str(refused)
        return str(refused)
    finally:
        assert time.perf_counter() - started < SLOWEST


def test_thousands_of_files_end_in_a_photo_or_a_sentence(desk, monkeypatch) -> None:
    from diagnosis import jobs

    monkeypatch.setattr(jobs, "wake", lambda kind, job: None)
    user, case = desk
    files = hostile.good_files() | hostile.polyglots()
    heic = {"heic": files.pop("heic")}
    tried = list(hostile.mutants(files, MUTANTS_EACH, seed=1)) + list(
        hostile.mutants(heic, HEIC_MUTANTS, seed=2)
    )
    tried += list(hostile.refused_files().items())
    assert len(tried) >= 2000
    outcomes = Counter("sentence" if len(o := try_upload(user, case, d)) > 10 else o for _, d in tried)
    print(f"{len(tried)} files: {dict(outcomes)}")
    assert outcomes["sentence"] > 500 and outcomes["photo"] + outcomes["duplicate"] > 200
    assert Photo.objects.filter(fingerprint="").count() == 0  # nothing half taken in


@pytest.mark.parametrize("name", hostile.refused_files())
def test_each_hostile_file_is_refused_quickly_and_says_why(name: str) -> None:
    started = time.perf_counter()
    with pytest.raises(InvalidInput) as refused:
        pictures.read_picture(hostile.refused_files()[name])
    assert time.perf_counter() - started < SLOWEST
    assert str(refused.value).count(". ") >= 1, "a refusal names the remedy"


@pytest.mark.parametrize(
    "name", ["svg", "400 MP 1 bit bomb", "scan bomb", "1x1 png", "random", "truncated heic"]
)
def test_the_upload_page_answers_hostile_files_without_an_error(name: str, client, desk) -> None:
    user, case = desk
    client.force_login(user)
    data = hostile.refused_files()[name]
    page = reverse("clinic:photo_new", args=[case.pk])
    answer = client.post(page, {"photos": SimpleUploadedFile("face.jpg", data, "image/jpeg")}, follow=True)
    assert answer.status_code == 200 and Photo.objects.count() == 0


def test_no_more_bytes_than_the_limit() -> None:
    with pytest.raises(InvalidInput, match="larger than 1 MB"):
        pictures.read_picture(bytes(2 << 20), max_bytes=1 << 20)


# --- what survives ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", hostile.good_files())
def test_every_accepted_shape_becomes_plain_rgb(name: str) -> None:
    found = pictures.read_picture(hostile.good_files()[name])
    assert found.pixels.shape == (90, 120, 3) and found.pixels.dtype == np.uint8


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "HEIF"])
def test_all_orientations_stand_upright(kind: str, orientation: int) -> None:
    """Row and column of the corners as EXIF 2.32 defines tag 274, undone by the slow obvious way."""
    upright = np.zeros((96, 128, 3), dtype=np.uint8)
    upright[:32, :32], upright[:32, -32:], upright[-32:, :32] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    as_stored = {
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1],
        5: upright.transpose(1, 0, 2), 6: np.rot90(upright, 1), 7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]  # fmt: skip
    image = Image.fromarray(np.ascontiguousarray(as_stored))
    options = {"exif": hostile.exif(orientation)}
    data = hostile.heif(image, **options) if kind == "HEIF" else hostile.saved(image, kind, **options)
    found = pictures.read_picture(data).pixels
    assert found.shape == upright.shape and np.abs(found.astype(int) - upright).mean() < 6


@pytest.mark.parametrize("quarter_turns, orientation", [(0, 1), (1, 8), (2, 3), (3, 6)])
@pytest.mark.parametrize("also_exif", [False, True])
def test_a_heic_that_its_camera_turned_is_turned_once(quarter_turns, orientation, also_exif) -> None:
    """Phones write irot and repeat it in EXIF; only the first counts (ISO/IEC 23008-12 section 6.5)."""
    stored = np.zeros((96, 128, 3), dtype=np.uint8)
    stored[:32, :32], stored[:32, -32:] = (255, 0, 0), (0, 255, 0)
    options = {"exif": hostile.exif(orientation)} if also_exif else {}
    data = hostile.turned_heic(hostile.heif(Image.fromarray(stored), **options), quarter_turns)
    found = pictures.read_picture(data).pixels.astype(int)
    upright = np.rot90(stored, quarter_turns)
    assert found.shape == upright.shape and np.abs(found - upright).mean() < 6


def test_position_camera_owner_and_payload_are_gone(desk) -> None:
    user, case = desk
    files = hostile.good_files() | hostile.polyglots()
    for name, data in files.items():
        stored = pictures.encode_picture(pictures.read_picture(data).pixels)
        assert b"Canary" not in stored and b"Exif" not in stored and b"ICC_PROFILE" not in stored, name
        with Image.open(io.BytesIO(stored)) as image:
            assert dict(image.getexif()) == {} and not image.getexif().get_ifd(0x8825)
            assert set(image.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}, name


def test_sixteen_bits_transparency_and_cmyk_keep_their_look() -> None:
    files = hostile.good_files()
    grey = pictures.read_picture(files["png 16 bit grey"]).pixels
    expected = np.arange(90 * 120).reshape(90, 120) * 6 / 257
    assert np.abs(grey[:, :, 0] - expected).max() <= 0.51
    clear = Image.new("RGBA", (100, 100), (0, 0, 0, 0))
    assert (pictures.read_picture(hostile.saved(clear, "PNG")).pixels == 255).all()
    cmyk = pictures.read_picture(files["jpeg cmyk"]).pixels.astype(int)
    assert np.abs(cmyk - hostile.scene()).mean() < 8


def test_a_colour_profile_is_applied_and_a_damaged_one_dropped() -> None:
    from PIL import ImageCms

    pixels = Image.new("RGB", (100, 100), (200, 60, 60))
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    plain = pictures.read_picture(hostile.saved(pixels, "PNG", icc_profile=lab)).pixels
    assert (plain == (200, 60, 60)).all()
    for size in (40, 200, 400):
        broken = pictures.read_picture(hostile.saved(pixels, "PNG", icc_profile=lab[:size])).pixels
        assert (broken == (200, 60, 60)).all()
    wide = wide_gamut_profile(lab)
    turned = pictures.read_picture(hostile.saved(pixels, "PNG", icc_profile=wide)).pixels
    assert turned[0, 0, 0] != 200, "a profile with other primaries changes the numbers"


def wide_gamut_profile(srgb: bytes) -> bytes:
    """sRGB with its red and green primaries exchanged, under another name."""
    swapped = srgb.replace(b"rXYZ", b"tmp!").replace(b"gXYZ", b"rXYZ").replace(b"tmp!", b"gXYZ")
    return swapped.replace("sRGB".encode("utf-16be"), "wide".encode("utf-16be")).replace(b"sRGB", b"wide")


def test_large_pictures_are_stored_at_two_thousand_pixels() -> None:
    big = Image.fromarray(hostile.scene(3000, 1800))
    for kind in ("JPEG", "PNG"):
        assert pictures.read_picture(hostile.saved(big, kind)).pixels.shape == (1229, 2048, 3)


def test_the_largest_accepted_picture_stays_within_a_gigabyte(tmp_path) -> None:
    """67 million pixels with transparency, in a process of its own whose memory is measured."""
    body = b"".join(b"\0" + bytes(4 * 8192) for _ in range(8192))
    path = tmp_path / "large.png"
    path.write_bytes(hostile.png_of(8192, 8192, colour=6, body=body))
    code = (
        "import sys\nfrom diagnosis import pictures\n"
        "pictures.read_picture(open(sys.argv[1], 'rb').read())\n"
        # VmHWM and not getrusage: after exec the latter still holds the parent's size.
        "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    )
    started = time.perf_counter()
    environment = os.environ | {"PYTHONPATH": str(ROOT), "DJANGO_SETTINGS_MODULE": "gestaltweb.settings.test"}
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, cwd=ROOT, env=environment
    )
    kilobytes, seconds = int(done.stdout), time.perf_counter() - started
    print(f"largest picture: {kilobytes >> 10} MB, {seconds:.1f} s")
    assert kilobytes < 1 << 20 and seconds < 30


def test_the_same_picture_is_noticed_whatever_its_metadata_say(desk, monkeypatch) -> None:
    user, case = desk
    image = Image.fromarray(hostile.scene())
    first = photo_add(user=user, case=case, data=hostile.saved(image, "PNG"))
    with pytest.raises(Duplicate, match=f"photo {first.pk}"):
        photo_add(user=user, case=case, data=hostile.saved(image, "PNG", exif=hostile.exif()))
    assert Photo.objects.count() == 1
    other = photo_add(user=user, case=case, data=hostile.saved(image.rotate(90), "PNG"))
    assert other.fingerprint != first.fingerprint


def test_the_same_picture_of_two_patients_has_two_fingerprints(desk, make_patient, make_case) -> None:
    user, case = desk
    data = hostile.saved(Image.fromarray(hostile.scene()), "PNG")
    other = make_case(make_patient(team=case.team))
    prints = {photo_add(user=user, case=c, data=data).fingerprint for c in (case, other)}
    assert len(prints) == 2


def test_a_refused_or_failed_upload_leaves_nothing_behind(
    desk, site_home, monkeypatch, django_capture_on_commit_callbacks
) -> None:
    from diagnosis import vault

    user, case = desk
    data = hostile.saved(Image.fromarray(hostile.scene()), "PNG")

    def full_disk(*args, **kwargs):
        raise OSError("no space left on device")

    monkeypatch.setattr(vault, "blob_write", full_disk)
    with django_capture_on_commit_callbacks(execute=True), pytest.raises(OSError):
        photo_add(user=user, case=case, data=data)
    assert Photo.objects.count() == 0
    keys = [path.name for path in (site_home / "keys" / "data").rglob("*") if path.is_file()]
    assert keys == [case.patient.key.hex]


def test_nobody_uploads_without_role_team_or_consent(make_user, make_patient, make_case, team, sign) -> None:
    patient = make_patient()
    case, data = make_case(patient), hostile.saved(Image.fromarray(hostile.scene()), "PNG")
    strangers = [
        make_user(),
        make_user(roles=("intake",), team=team),
        make_user(roles=("site_admin",), team=team),
    ]
    for user in strangers:
        with pytest.raises(ClinicError):
            photo_add(user=user, case=case, data=data)
    sign(patient, set())
    with pytest.raises(ClinicError, match="Take consent"):
        photo_add(user=make_user(team=team), case=case, data=data)
    assert Photo.objects.count() == 0
