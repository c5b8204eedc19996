from __future__ import annotations

import numpy as np
import torch
from PIL import Image, ImageOps

from diagnosis.phenotype.embed.views import ALL_VIEWS, View, grey_pixels, view_batch, view_pixels


def pillow_view(pixels, view):
    image = Image.fromarray(pixels)
    image = image.convert("L").convert("RGB") if view.grey else image
    return np.array(ImageOps.mirror(image) if view.flip else image)


def test_views_are_pillows_bit_for_bit(faces):
    for view in ALL_VIEWS:
        assert np.array_equal(view_pixels(faces[0], view), pillow_view(faces[0], view))


def test_grey_is_the_rounded_bt601_luma_of_every_colour():
    levels = np.array([0, 1, 127, 128, 254, 255], dtype=np.uint8)
    colours = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(-1, 3)
    exact = colours @ np.array([0.299, 0.587, 0.114])
    grey = grey_pixels(colours)
    assert np.abs(grey - exact[:, None]).max() <= 0.5 + 1e-2  # weights are rounded to 1/65536
    assert (grey[:, 0] == grey[:, 1]).all() and (grey[:, 0] == grey[:, 2]).all()


def test_order_is_original_grey_mirrored_mirrored_grey():
    assert [(view.flip, view.grey) for view in ALL_VIEWS] == [(0, 0), (0, 1), (1, 0), (1, 1)]


def test_a_batch_holds_the_views_of_each_face_together(faces):
    batch = view_batch(faces, ALL_VIEWS)
    assert batch.shape == (12, 3, 112, 112) and batch.dtype == torch.float32
    for i, face in enumerate(faces):
        for j, view in enumerate(ALL_VIEWS):
            pixels = pillow_view(face, view).astype(np.float32)
            expected = ((pixels / 255 - 0.5) / 0.5).transpose(2, 0, 1)
            assert np.allclose(batch[4 * i + j], expected, atol=1e-6)


def test_views_do_not_change_the_photo(faces):
    before = faces.copy()
    view_batch(faces, [View(flip=True, grey=True)])
    assert np.array_equal(faces, before)
