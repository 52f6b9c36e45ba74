"""What papers report, each figure once with its source, and how their costs come about.

Three ways to count a cost stand side by side. `macs` and `paper` count what a model computes here
(`ar_net_jax.costs`). `published` is for rows of tables alone: each paper's own constants for what a
call costs, times the calls, as `PublishedCost`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

ACTIVITYNET, FCVID, MINI_KINETICS = "activitynet", "fcvid", "mini_kinetics"
"""Names of the data sets. Scores are mAP on the first two, top-1 accuracy on the third."""

_AR_NET = "AR-Net (Meng et al. 2020)"
_PLOT = "the plot file of AR-Net's authors"
_DIGITISED = f"{_PLOT}, read off a figure: a multiple of .782 GFLOPs, a pixel of it"
_FRAMEEXIT = "FrameExit's repository"
_V2 = "AdaFocusV2's repository"
_UNI = "Uni-AdaFocus' repository"


@dataclass(frozen=True)
class Point:
    """A reported score.

    Attributes:
        method: name that rows of studies give as `published`.
        data: name of the data set.
        score: mAP or top-1 accuracy in percent.
        gflops: multiply-adds per video in 1e9, as its source counts them.
        source: where it stands.
        main: whether it is the method's row in a table; the others are points of its curve.
    """

    method: str
    data: str
    score: float
    gflops: float
    source: str
    main: bool = True


def _table(source: str, method: str, **figures: tuple[float, float]) -> list[Point]:
    """A row of a table: (score, GFLOPs per video) by data set."""
    return [Point(method, data, score, cost, source) for data, (score, cost) in figures.items()]


def _curve(source: str, method: str, *points: tuple[float, float]) -> list[Point]:
    """Points (GFLOPs per video, mAP) of a curve on ActivityNet."""
    return [Point(method, ACTIVITYNET, score, cost, source, main=False) for cost, score in points]


_T1, _T2, _T4, _T5, _T6 = (f"{_AR_NET}, Table {i}" for i in (1, "2 and 3", 4, 5, 6))

POINTS: tuple[Point, ...] = (
    *_table(_T1, "Uniform", activitynet=(72.5, 65.76), fcvid=(81.0, 65.76)),
    *_table(_T1, "LSTM", activitynet=(71.2, 65.89), fcvid=(81.1, 65.89)),
    *_table(_T1, "Random policy", activitynet=(65.0, 16.57), fcvid=(75.3, 16.49)),
    *_table(_T1, "Multi-Scale", activitynet=(73.5, 110.43), fcvid=(81.3, 110.43)),
    *_table(
        _T1,
        "AR-Net",
        activitynet=(73.8, 33.47),
        fcvid=(81.3, 35.12),
        mini_kinetics=(71.7, 32.0),
    ),
    *_table(_T1, "Uniform (EfficientNet)", activitynet=(78.8, 28.80), fcvid=(83.5, 28.80)),
    *_table(_T1, "LSTM (EfficientNet)", activitynet=(78.0, 28.88), fcvid=(83.7, 28.88)),
    *_table(_T1, "Random policy (EfficientNet)", activitynet=(72.5, 6.11), fcvid=(79.7, 6.11)),
    *_table(_T1, "Multi-Scale (EfficientNet)", activitynet=(79.5, 37.56), fcvid=(84.2, 37.56)),
    *_table(
        _T1,
        "AR-Net (EfficientNet)",
        activitynet=(79.7, 15.29),
        fcvid=(84.4, 14.06),
        mini_kinetics=(74.8, 16.32),
    ),
    *_table(_T2, "AdaFrame", activitynet=(71.5, 78.97), fcvid=(80.2, 75.13)),
    *_table(
        _T2,
        "LiteEval",
        activitynet=(72.7, 95.10),
        fcvid=(80.0, 94.30),
        mini_kinetics=(61.0, 99.00),
    ),
    *_table(_T2, "ListenToLook (image)", activitynet=(72.3, 81.36)),
    *_table(
        _T2,
        "SCSampler",
        activitynet=(72.9, 41.95),
        fcvid=(81.0, 41.95),
        mini_kinetics=(70.8, 41.95),
    ),
    *_table(_T4, "Resolution only", activitynet=(73.4, 34.08)),
    *_table(_T4, "Skipping only", activitynet=(72.7, 34.90)),
    *_table(_T5, "Acc", activitynet=(74.5, 60.06)),
    *_table(_T5, "Acc+Eff", activitynet=(73.8, 36.48)),
    *_table(_T6, "Joint alone", activitynet=(67.1, 17.86)),
    *_table(_T6, "Warm-up and joint", activitynet=(73.3, 32.40)),
    *_table(
        _FRAMEEXIT,
        "FrameExit",
        activitynet=(76.1, 26.1),
        mini_kinetics=(72.8, 19.7),
    ),
    *_table(
        "OCSampler (Lin et al. 2022), and Table 2 of Uni-AdaFocus",
        "OCSampler",
        activitynet=(76.9, 21.7),
        fcvid=(82.7, 26.8),
        mini_kinetics=(72.9, 17.5),
    ),
    *_table(
        _V2,
        "AdaFocusV2",
        activitynet=(79.0, 27.0),
        fcvid=(85.0, 27.0),
        mini_kinetics=(75.4, 27.0),
    ),
    *_table(
        _UNI,
        "Uni-AdaFocus",
        activitynet=(80.7, 27.2),
        fcvid=(86.4, 27.2),
        mini_kinetics=(75.8, 27.2),
    ),
    *_curve(
        _PLOT,
        "Uniform",
        *((count * 4.11, mean_ap) for count, mean_ap in ((4, 62.85), (8, 69.33), (25, 73.32))),
        *((count * 4.11, mean_ap) for count, mean_ap in ((32, 74.05), (48, 74.06), (64, 74.07))),
    ),
    *_curve(
        _PLOT,
        "LSTM",
        *((count * 4.118, mean_ap) for count, mean_ap in ((4, 60.55), (8, 66.94), (25, 72.59))),
        *((count * 4.118, mean_ap) for count, mean_ap in ((32, 73.0), (48, 73.6), (64, 73.79))),
    ),
    *_curve(_PLOT, "SCSampler", (4.5335, 53.05), (16.8644, 67.83), (33.7288, 72.44)),
    *_curve(_PLOT, "SCSampler", (51.0164, 73.95)),
    *_curve(_PLOT, "AR-Net", (17.29, 69.25), (51.60, 74.86), (97.77, 76.06)),
    *_curve(_PLOT, "LiteEval", (15.6, 61.4), (35.4, 67.4), (69.3, 70.4), (125.0, 73.1)),
    *_curve(_DIGITISED, "AdaFrame", (24.3, 66.0), (32.1, 68.7), (34.4, 69.6)),
    *_curve(_DIGITISED, "AdaFrame", (45.4, 68.2), (54.0, 69.2)),
    *_curve(_DIGITISED, "ListenToLook (image)", (26.60, 69.47), (42.24, 70.66), (58.67, 71.47)),
    *_curve(
        _DIGITISED,
        "ListenToLook (image and sound)",
        *((114.2, 72.44), (130.6, 73.48), (145.5, 74.18), (168.97, 74.76)),
    ),
    *_curve(
        _DIGITISED,
        "MultiAgent",
        *((86.83, 65.5), (125.16, 69.1), (163.49, 70.5), (201.83, 71.1)),
        *((309.0, 72.9), (493.6, 73.7), (650.8, 74.1)),
    ),
    *_curve(
        _FRAMEEXIT,
        "FrameExit",
        *((18.0, 72.7), (19.9, 73.9), (23.8, 75.4), (29.1, 76.4), (41.2, 77.3)),
    ),
    *_curve(_V2, "AdaFocusV2", (9.9, 74.8), (17.6, 77.4), (39.0, 79.9)),
    *_curve(_UNI, "Uni-AdaFocus", (9.1, 78.3), (18.1, 80.4)),
)


def published_point(method: str, data: str) -> Point | None:
    """A method's row in a table for a data set; None where none was published."""
    found = [p for p in POINTS if (p.method, p.data, p.main) == (method, data, True)]
    return found[0] if found else None


def published_curve(method: str, data: str) -> list[Point]:
    """All points of a method on a data set, by cost."""
    points = [p for p in POINTS if (p.method, p.data) == (method, data)]
    return sorted(points, key=lambda point: point.gflops)


@dataclass(frozen=True)
class PublishedCost:
    """How a paper counts a method's cost.

    Attributes:
        constants: GFLOPs of a call, by what is called, as the paper or its code counts them.
        source: of the constants.
    """

    constants: Mapping[str, float]
    source: str

    def gflops(self, calls: Mapping[str, float]) -> float:
        """GFLOPs of a video.

        Args:
            calls: how often each of `constants` is called for it; 0 where it is left out.

        Raises:
            KeyError: a call that has no constant.
        """
        return sum(self.constants[name] * count for name, count in calls.items())


COSTS: dict[str, PublishedCost] = {
    "Uniform": PublishedCost({"frame": 4.1103}, "ResNet-50 at 224, from AR-Net's table of costs"),
    "LSTM": PublishedCost(
        {"frame": 4.1103, "step": 0.008}, f"{_PLOT}; the LSTM as 2 x 2048^2 multiply-adds"
    ),
    "Multi-Scale": PublishedCost(
        {"224": 4.1103, "168": 2.249, "112": 0.4863, "84": 0.0529, "step": 0.0034},
        "AR-Net's table of costs",
    ),
    "AR-Net": PublishedCost(
        {"224": 4.1103, "168": 2.249, "112": 0.4863, "look": 0.0529, "step": 0.0034},
        "AR-Net's table of costs",
    ),
    "SCSampler": PublishedCost(
        {"frame": 4.1103, "sampled": 0.0529}, "ResNet-50 at 224, MobileNetV2 at 84, as AR-Net"
    ),
    "AdaFrame": PublishedCost(
        # The step of an LSTM on 2048 + 1280 inputs: 4 h (3328 + h) multiply-adds.
        {"remembered": 0.08, "frame": 7.82, "step 1024": 0.0178, "step 2048": 0.0440},
        "MobileNetV2 at 112 and ResNet-101 at 224; an LSTM of 1024 units for ActivityNet, of 2048 "
        "for FCVID",
    ),
    "LiteEval": PublishedCost(
        {"coarse": 0.08, "fine": 7.82, "coarse step": 0.0021, "fine step": 0.0377},
        "LiteEval's evaluation code: MobileNetV2, ResNet-101, cells of 512 and 2048 units",
    ),
    "ListenToLook (image)": PublishedCost(
        {"previewed": 0.3131, "frame": 7.82},
        "reconstructed from the digitised points: MobileNetV2 at 224 and ResNet-101",
    ),
    "MultiAgent": PublishedCost({"frame": 7.8}, "FrameExit's figure: final frames alone"),
    "FrameExit": PublishedCost({"frame": 4.12}, "FrameExit's repository, head and gate included"),
    "OCSampler": PublishedCost(
        {"frame": 4.12, "skimmed": 0.102}, "OCSampler's configs: as FrameExit; MobileNetV2 at 128"
    ),
    "AdaFocusV2": PublishedCost(
        {"96": 1.10097, "128": 1.68484, "160": 2.43554},
        "AdaFocusV2's code: glance, policy, crop of that side, head, for each frame",
    ),
    "Uni-AdaFocus": PublishedCost(
        {
            "glance": 0.2995,
            "crop 128": 1.3346,
            "temporal policy": 0.0041,
            "spatial policy": 0.8225,
            "head": 0.2576,
        },
        "Uni-AdaFocus' code",
    ),
}
"""By the `method` of `POINTS`."""
