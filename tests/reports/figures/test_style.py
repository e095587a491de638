import numpy as np
import pytest
from matplotlib.colors import to_rgb

from haepo_jax.reports.colours import DARK_GROUND, IN_THE_DARK
from haepo_jax.reports.figures.style import NEUTRAL, PALETTE, Style, assign_styles

NAMES = ("Alpha, slow", "Alpha", "Beta", "Gamma rays")
FAMILIES = dict(zip(("alpha", "ALPHA slow", "Beta", "gamma-rays"), PALETTE, strict=False))
SPARE = assign_styles([f"setting {number}" for number in range(18)])
COLOURS = [style.colour for style in SPARE.values()]


def test_labels_take_the_palette_in_their_order():
    assert tuple(assign_styles("abcdefghijk").values()) == PALETTE
    assert assign_styles("ba") == dict(zip("ba", PALETTE, strict=False))


def test_a_label_of_a_family_has_its_style_in_every_figure():
    expected = dict(zip(NAMES, (PALETTE[1], PALETTE[0], *PALETTE[2:4]), strict=True))
    assert assign_styles(NAMES, FAMILIES) == expected
    assert assign_styles(reversed(NAMES), FAMILIES) == expected
    assert assign_styles(["x", "Beta, no clipping", "Beta"], FAMILIES)["Beta"] == PALETTE[2]
    assert assign_styles(["Betamax"], FAMILIES)["Betamax"] not in FAMILIES.values()


def test_variants_of_a_family_differ_in_dash_and_marker_but_not_in_colour():
    found = assign_styles(["Beta", "Beta, a", "Beta, b"], FAMILIES)
    assert len({style.colour for style in found.values()}) == 1
    for one, other in zip(found["Beta, a"][1:], found["Beta"][1:], strict=True):
        assert one != other
    assert found["Beta, a"] != found["Beta, b"]


def test_no_label_beside_families_looks_like_one_of_a_family():
    unnamed = assign_styles([f"setting {number}" for number in range(14)], FAMILIES).values()
    assert not {style.colour for style in unnamed} & {style.colour for style in FAMILIES.values()}


def test_styles_differ_as_long_as_there_are_any_left():
    labels = [f"setting {number}" for number in range(300)]
    assert len(set(assign_styles(labels).values())) == 300
    assert len({style.marker for style in PALETTE}) == len(PALETTE)
    assert len(assign_styles([f"setting {number}" for number in range(3000)])) == 3000


def test_a_style_of_ones_own_is_taken_as_it_is():
    mine = Style("#123456", (0, ()), "o")
    assert assign_styles(["Beta"], {"beta": mine}) == {"Beta": mine}


def linear(colour):
    return np.array([((c + 0.055) / 1.055) ** 2.4 if c > 0.04045 else c / 12.92 for c in to_rgb(colour)])


@pytest.mark.parametrize("colour", [*COLOURS, NEUTRAL.colour])
def test_every_colour_stands_out_on_white(colour):
    assert 1.05 / (linear(colour) @ [0.2126, 0.7152, 0.0722] + 0.05) >= 3


@pytest.mark.parametrize("colour", [*COLOURS, NEUTRAL.colour])
def test_every_colour_has_another_that_stands_out_in_the_dark(colour):
    shares = [linear(part) @ [0.2126, 0.7152, 0.0722] for part in (IN_THE_DARK[colour.lower()], DARK_GROUND)]
    assert (shares[0] + 0.05) / (shares[1] + 0.05) >= 3


@pytest.mark.parametrize("ground", ["white", "dark"])
@pytest.mark.parametrize(
    "matrix",
    [
        np.eye(3),
        # Vienot, Brettel and Mollon (1999): protanopia and deuteranopia, on linear RGB.
        np.array([[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]]),
        np.array([[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]]),
    ],
)
def test_the_palette_is_distinct_to_colour_blind_readers(matrix, ground):
    shown = [style.colour if ground == "white" else IN_THE_DARK[style.colour.lower()] for style in PALETTE]
    colours = [np.cbrt(np.clip(matrix @ linear(colour), 0, 1)) for colour in shown]
    for number, one in enumerate(colours):
        for other in colours[number + 1 :]:
            assert np.linalg.norm(one - other) > 0.07
