"""Published costs come from calls times each paper's constants; every figure stands once."""

from collections import Counter

import pytest

from ar_net_jax.compare.published import (
    COSTS,
    POINTS,
    published_curve,
    published_point,
)
from ar_net_jax.compare.studies import STUDIES

# By method and data set: the calls of one video, the published GFLOPs, and how far off they may
# be: half of the last digit, or more where it says why.
SIXTEEN = 16.0
LITE = {"coarse": 25, "coarse step": 25, "fine step": 25}
LOOKS = {"look": 13.0, "step": 13.0}
CASES = {
    "Uniform": ({"frame": SIXTEEN}, 65.76, 0.005),
    "LSTM": ({"frame": SIXTEEN, "step": SIXTEEN}, 65.89, 0.005),
    "Multi-Scale": (
        dict.fromkeys(("224", "168", "112", "84", "step"), SIXTEEN),
        110.43,
        0.005,
    ),
    # Learnt: the policy looks at 13 frames; 6 at 224, 3 at 168, 2.7 at 112, the rest lower or not.
    "AR-Net": ({**LOOKS, "224": 6, "168": 3, "112": 2.733}, 33.47, 0.005),
    "SCSampler": ({"frame": 10, "sampled": SIXTEEN}, 41.95, 0.005),
    # Learnt: 9.91 of at most 10 steps, and 9.39 on FCVID.
    "AdaFrame": ({"remembered": 16, "frame": 9.912, "step 1024": 9.912}, 78.97, 0.005),
    "AdaFrame, FCVID": ({"remembered": 16, "frame": 9.391, "step 2048": 9.391}, 75.13, 0.005),
    # Learnt: the fine network on 11.8 of 25 frames.
    "LiteEval": ({**LITE, "fine": 11.778}, 95.10, 0.005),
    "LiteEval, FCVID": ({**LITE, "fine": 11.676}, 94.30, 0.005),
    "LiteEval, Mini-Kinetics": ({**LITE, "fine": 12.277}, 99.00, 0.005),
    # Read off a figure, to half a pixel.
    "ListenToLook (image)": ({"previewed": 10, "frame": 10}, 81.36, 0.4),
    "ListenToLook (image), 5": ({"previewed": 10, "frame": 5}, 42.24, 0.4),
    "ListenToLook (image), 3": ({"previewed": 10, "frame": 3}, 26.60, 0.4),
    "MultiAgent": ({"frame": 5}, 39.0, 0.005),
    "FrameExit": ({"frame": 10}, 41.2, 0.05),
    # Learnt: it exits after 6.3 frames.
    "FrameExit, exits": ({"frame": 6.335}, 26.1, 0.05),
    "OCSampler": ({"frame": 5, "skimmed": 10}, 21.62, 0.005),
    "OCSampler, 4": ({"frame": 4, "skimmed": 10}, 17.50, 0.005),
    "AdaFocusV2, 96": ({"96": 16}, 17.6, 0.05),
    "AdaFocusV2": ({"128": 16}, 27.0, 0.05),
    "AdaFocusV2, 160": ({"160": 16}, 39.0, 0.05),
    "Uni-AdaFocus": (
        {
            "glance": 16,
            "crop 128": 16,
            "temporal policy": 1,
            "spatial policy": 1,
            "head": 1,
        },
        27.23,
        0.005,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_costs_follow_from_stated_calls(name: str) -> None:
    calls, published, tolerance = CASES[name]
    cost = COSTS[name.partition(",")[0]]
    assert cost.gflops(calls) == pytest.approx(published, abs=tolerance)


def test_every_cost_is_tried() -> None:
    assert {name.partition(",")[0] for name in CASES} == set(COSTS)


def test_recurrent_steps_are_what_the_sizes_say() -> None:
    """4 h (inputs + h) multiply-adds of an LSTM, from the sizes in the methods' code."""
    adaframe, lite = COSTS["AdaFrame"].constants, COSTS["LiteEval"].constants
    for units in (1024, 2048):
        assert adaframe[f"step {units}"] == pytest.approx(4e-9 * units * (3328 + units), abs=5e-5)
    assert lite["fine step"] == pytest.approx(4e-9 * 2048 * (2560 + 2048), abs=1e-4)
    assert lite["coarse step"] == pytest.approx(4e-9 * 512 * (512 + 512), abs=1e-4)


def test_points_are_one_each_and_rows_of_studies_find_theirs() -> None:
    mains = Counter((p.method, p.data) for p in POINTS if p.main)
    assert set(mains.values()) == {1}
    assert len({(p.method, p.data, p.gflops) for p in POINTS}) == len(POINTS)
    methods = {p.method for p in POINTS}
    for study in STUDIES.values():
        for row in study.rows:
            assert row.published in methods, row.name


def test_look_up() -> None:
    found = published_point("SCSampler", "fcvid")
    assert found is not None and (found.score, found.gflops) == (81.0, 41.95)
    assert published_point("MultiAgent", "activitynet") is None
    costs = [p.gflops for p in published_curve("SCSampler", "activitynet")]
    assert costs == [4.5335, 16.8644, 33.7288, 41.95, 51.0164]
    # The curve's costs are k of T frames each.
    cost = COSTS["SCSampler"]
    for (k, length), expected in zip(((1, 8), (4, 8), (8, 16), (12, 32)), [*costs[:3], costs[4]]):
        assert cost.gflops({"frame": k, "sampled": length}) == pytest.approx(expected, abs=1e-3)
