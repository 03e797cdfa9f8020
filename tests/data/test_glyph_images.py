"""Rendering of glyphs: each factor changes the image as its description says."""
import numpy as np
import pytest
from scipy import ndimage

from scaling.data.glyphs import render

PLAIN = {"size": render.ONE, "shift_x": 0, "shift_y": 0, "shear": 0, "rotation": 0, "stroke": 0,
         "contrast": render.ONE, "master": 0}


def picture(letters, pixels=64, channels=1, ground=0, ink=255, **changes):
    factors = {name: np.array([value], np.int32) for name, value in (PLAIN | changes).items()}
    factors |= {name: np.full((1, channels), level, np.int32)
                for name, level in (("ground", ground), ("ink", ink))}
    return render.render_images(letters.pictures.fields, factors, pixels)[0].astype(float)


def master(letters, character, font="DejaVu Sans Bold"):
    pictures = letters.pictures
    wanted = pictures.classes("font").index(font)
    (found,) = np.flatnonzero((pictures._code == ord(character)) & (pictures._ids["font"] == wanted))
    return int(found)


def moments(image):
    """The mass, and the centre and covariance in (x, y), y downwards."""
    weight = image[..., 0] / image.sum()
    grid = np.stack(np.meshgrid(*[np.arange(len(image))] * 2), -1).astype(float)
    centre = np.einsum("yx,yxd->d", weight, grid)
    return image.sum(), centre, np.einsum("yx,yxd,yxe->de", weight, grid - centre, grid - centre)


def test_untransformed_images_equal_their_master(letters, drawn):
    for character in "aQfW":
        place = next(i for i, g in enumerate(drawn.glyphs)
                     if chr(g.character) == character and drawn.fonts[g.font].name == "DejaVu Sans Bold")
        expected = drawn.pictures[place].astype(float)
        found = picture(letters, master=master(letters, character))[..., 0]
        assert np.abs(found - expected).mean() < 4
        assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.98
        small = picture(letters, 16, master=master(letters, character))[..., 0]
        area = expected.reshape(16, 4, 16, 4).mean((1, 3))
        assert np.corrcoef(small.ravel(), area.ravel())[0, 1] > 0.98


@pytest.mark.parametrize("pixels", [16, 32, 64])
def test_each_factor_changes_the_image_as_it_says(letters, pixels):
    bar = dict(master=master(letters, "l", "DejaVu Sans Bold"), size=int(0.75 * render.ONE))
    mass, centre, spread = moments(picture(letters, pixels, **bar))
    scale = pixels / 64
    _, moved, _ = moments(picture(letters, pixels, **bar, shift_x=3 << 8, shift_y=-2 << 8))
    np.testing.assert_allclose(moved - centre, [3 * scale, -2 * scale], atol=0.12)
    grown, _, wider = moments(picture(letters, pixels, **bar | {"size": render.ONE}))
    np.testing.assert_allclose(wider[1, 1] / spread[1, 1], (4 / 3) ** 2, rtol=0.08)
    assert grown > 1.5 * mass
    for name in ("rotation", "shear"):                           # the top goes left, and right
        _, _, turned = moments(picture(letters, pixels, **bar, **{name: int(0.2 * render.ONE)}))
        slope = -turned[0, 1] / turned[1, 1]                     # x of the bar as it goes up
        np.testing.assert_allclose(slope, -np.tan(0.2) if name == "rotation" else 0.2, atol=0.04)
    bold = moments(picture(letters, pixels, **bar, stroke=256))[0]
    light = moments(picture(letters, pixels, **bar, stroke=-128))[0]
    assert light < mass < bold
    image = picture(letters, pixels, ground=200, ink=50, **bar)
    assert image[0, 0, 0] == 200 and 50 <= image.min() < 80


def test_described_factors_draw_the_image_again(letters):
    """Floating-point rendering from the described units gives the same image, up to rounding."""
    source, found = letters.pictures, letters.factors("iid", 40)
    images = letters.evaluation("iid", 40)["image"].astype(float)
    rows = source.draw(np.arange(40), "iid")["master"]
    centre = (np.arange(16) + 0.5) / 16 - 0.5
    for k in range(40):
        f = {name: value[k] for name, value in found.items()}
        x, y = np.meshgrid(centre - f["shift_x"], centre - f["shift_y"])
        c, s = np.cos(f["rotation"]), np.sin(f["rotation"])
        x, y = c * x - s * y, s * x + c * y                      # undo the rotation, then shear, then size
        x, y = (x + f["shear"] * y) / f["size"], y / f["size"]
        field = (source.fields[rows[k]].astype(float) - 128) / 16
        at = np.stack([64 * y + 31.5, 64 * x + 31.5])
        inside = np.clip(at, 0, 63)
        distance = ndimage.map_coordinates(field, inside, order=1) - np.abs(at - inside).sum(0)
        coverage = np.clip((distance + 64 * f["stroke"]) * f["size"] / 4 + 0.5, 0, 1)
        expected = f["ground"] + (f["ink"] - f["ground"]) * coverage
        assert np.abs(images[k, ..., 0] - expected).max() < 4


def test_colours_of_ink_and_ground_differ_by_the_contrast_in_every_channel(load_glyphs):
    source = load_glyphs(channels=3)
    found = source.factors("train", 500)
    steps = np.abs(found["ink"] - found["ground"])
    np.testing.assert_allclose(steps, 255 * found["contrast"].reshape(-1, 1) + np.zeros(3), atol=1)
    assert {tuple(row) for row in found["ink"] > found["ground"]} == {
        (r, g, b) for r in (False, True) for g in (False, True) for b in (False, True)}
    grey = load_glyphs().factors("train", 500)
    assert (grey["ink"] > grey["ground"]).all()
    np.testing.assert_array_equal(grey["character"], found["character"])    # colour changes nothing else
