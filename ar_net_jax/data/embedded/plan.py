"""What the embedded data set contains: its parameters, and the plan of shots of each video."""

import dataclasses

import numpy as np

from ar_net_jax.data.embedded.glyphs import CLASS_NAMES

SPLITS = ("train", "validation", "test")
KINDS = ("empty", "large", "small", "misleading", "blurred", "preview")
EVIDENCE_KINDS = ("large", "small")
# By how much the number of a video's misleading and blurred frames varies, as a factor.
_COUNT_RANGE = (0.85, 1.15)


@dataclasses.dataclass(frozen=True)
class EmbeddedSpec:
    """Everything that decides the embedded data set; two equal specs make equal files.

    Shares are of a video's frames or of a split's videos, sizes are of the frame's height, ranges
    are drawn from uniformly.

    Attributes:
        seed: the data set's own seed, apart from the seed of a training run.
        train: number of training videos.
        validation: number of validation videos.
        test: number of test videos.
        num_classes: number of classes, at most the number of glyphs.
        width: pixels, even.
        height: pixels, even.
        fps: frames per second.
        num_frames: frames of each video.
        evidence_share: range over the videos of the share of frames that show a video's class.
        misleading_share: share of the frames that show another class, in blue instead of red.
        blurred_share: share of the frames that show an illegible board.
        preview_share: share of the videos that open with a preview of something else: a board of
            another class that looks like evidence. Only its place in the video tells them apart.
        preview_frames: fewest and most frames of a preview.
        two_label_share: share of the videos with evidence of two classes.
        small_only_share: share of the videos whose evidence is all small.
        large_only_share: share of the videos whose evidence is all large.
        small_distractor_share: share of the misleading, blurred and previewed boards that are
            small.
        evidence_shots: fewest and most shots of evidence in a video.
        empty_stretches: fewest and most stretches of empty frames in a video.
        min_shot: fewest frames of a shot.
        large_size: side of a large board.
        small_size: side of a small board.
        clutter: strength of the backdrop's colours and contrasts, 0 to 1.
        glyph_contrast: distance of the glyph's brightness from the board's, 0 to 1.
        glyph_blur: range of the blur of an illegible glyph, a share of the board's side.
        rotation: largest rotation of a board, degrees.
        noise: standard deviation of the sensor noise, grey levels.
        flicker: largest change of brightness over a video, a share.
        crf: range of x264's constant rate factor.
    """

    seed: int = 2020
    train: int = 400
    validation: int = 160
    test: int = 320
    num_classes: int = 10
    width: int = 104
    height: int = 80
    fps: int = 8
    num_frames: int = 48
    evidence_share: tuple[float, float] = (0.22, 0.48)
    misleading_share: float = 0.08
    blurred_share: float = 0.08
    preview_share: float = 0.45
    preview_frames: tuple[int, int] = (6, 10)
    two_label_share: float = 0.10
    small_only_share: float = 0.50
    large_only_share: float = 0.35
    small_distractor_share: float = 0.6
    evidence_shots: tuple[int, int] = (2, 3)
    empty_stretches: tuple[int, int] = (2, 4)
    min_shot: int = 4
    large_size: tuple[float, float] = (0.68, 0.78)
    small_size: tuple[float, float] = (0.23, 0.29)
    clutter: float = 0.3
    glyph_contrast: tuple[float, float] = (0.55, 0.9)
    glyph_blur: tuple[float, float] = (0.16, 0.24)
    rotation: float = 15.0
    noise: float = 6.0
    flicker: float = 0.25
    crf: tuple[int, int] = (22, 28)

    def __post_init__(self) -> None:
        if not 2 <= self.num_classes <= len(CLASS_NAMES):
            raise ValueError(
                f"EmbeddedSpec.num_classes is {self.num_classes}: choose 2 to {len(CLASS_NAMES)}"
            )
        if self.width % 2 or self.height % 2:
            raise ValueError(
                f"EmbeddedSpec size {self.width}x{self.height}: H.264 needs both to be even"
            )
        for name in ("misleading_share", "blurred_share"):
            if getattr(self, name) and self._most_frames(name) < self.min_shot:
                raise ValueError(
                    f"EmbeddedSpec.{name} is {getattr(self, name)}: under a shot of "
                    f"{self.min_shot} frames in every video; raise it, or set it to 0"
                )
        if self._most_frames_with_boards() + self.min_shot > self.num_frames:
            raise ValueError(
                "EmbeddedSpec: evidence, misleading and blurred boards and the preview may leave "
                f"under {self.min_shot} of {self.num_frames} frames empty; lower their shares"
            )
        if self.small_only_share + self.large_only_share > 1:
            raise ValueError("EmbeddedSpec: small_only_share + large_only_share is above 1")
        if self.num_frames < 12 * self.min_shot:
            raise ValueError(
                f"EmbeddedSpec.num_frames is {self.num_frames}: at least 12 shots of "
                f"{self.min_shot} frames must fit"
            )

    def _most_frames(self, share_name: str) -> int:
        return round(getattr(self, share_name) * _COUNT_RANGE[1] * self.num_frames)

    def _most_frames_with_boards(self) -> int:
        distractors = self._most_frames("misleading_share") + self._most_frames("blurred_share")
        evidence = round(self.evidence_share[1] * self.num_frames)
        return evidence + distractors + self.preview_frames[1]

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the labels."""
        return CLASS_NAMES[: self.num_classes]


@dataclasses.dataclass(frozen=True)
class Shot:
    """A run of frames of one kind.

    Attributes:
        kind: one of `KINDS`.
        num_frames: length.
        glyph: class drawn on the board, or -1 without a board.
        size: side of the board as a share of the frame's height, 0 without a board.
    """

    kind: str
    num_frames: int
    glyph: int = -1
    size: float = 0.0


@dataclasses.dataclass(frozen=True)
class VideoPlan:
    """The labels of a video, the one with more evidence first, and its shots in order of time."""

    labels: tuple[int, ...]
    shots: tuple[Shot, ...]

    @property
    def kinds(self) -> list[str]:
        """The kind of every frame."""
        return [shot.kind for shot in self.shots for _ in range(shot.num_frames)]


def video_rng(spec: EmbeddedSpec, split: str, index: int) -> np.random.Generator:
    """The random generator of one video, the same in whatever order videos are drawn."""
    return np.random.default_rng([spec.seed, SPLITS.index(split), index])


def _cut(rng: np.random.Generator, total: int, pieces: int, shortest: int) -> list[int]:
    """Cuts `total` frames into at most `pieces` runs of at least `shortest` frames."""
    pieces = max(1, min(pieces, total // shortest))
    spare = total - pieces * shortest
    cuts = np.sort(rng.integers(0, spare + 1, pieces - 1))
    return [shortest + int(n) for n in np.diff(cuts, prepend=0, append=spare)]


def _count(rng: np.random.Generator, share: float, spec: EmbeddedSpec) -> int:
    return round(share * spec.num_frames * rng.uniform(*_COUNT_RANGE))


def _labels(rng: np.random.Generator, spec: EmbeddedSpec, index: int) -> list[int]:
    """Classes take turns over the videos of a split, so that all are equally frequent."""
    first = index % spec.num_classes
    if rng.random() >= spec.two_label_share:
        return [first]
    second = int(rng.integers(spec.num_classes - 1))
    return [first, second + (second >= first)]


def _evidence(rng: np.random.Generator, spec: EmbeddedSpec, labels: list[int]) -> list[Shot]:
    draw = rng.random()
    if draw < spec.small_only_share:
        sizes = ["small"]
    elif draw < spec.small_only_share + spec.large_only_share:
        sizes = ["large"]
    else:
        sizes = ["small", "large"]
    fewest = max(len(labels), len(sizes))
    pieces = max(fewest, int(rng.integers(spec.evidence_shots[0], spec.evidence_shots[1] + 1)))
    share = rng.uniform(*spec.evidence_share)
    total = max(round(share * spec.num_frames), fewest * spec.min_shot)
    shots = []
    # The offset uncouples which of two labels is the large one from their order.
    offset = int(rng.integers(2))
    for place, length in enumerate(_cut(rng, total, pieces, spec.min_shot)):
        kind = sizes[(place + offset) % len(sizes)]
        shots.append(Shot(kind, length, labels[place % len(labels)], _size(rng, spec, kind)))
    return shots


def _size(rng: np.random.Generator, spec: EmbeddedSpec, kind: str) -> float:
    return rng.uniform(*(spec.small_size if kind == "small" else spec.large_size))


def _distractor_size(rng: np.random.Generator, spec: EmbeddedSpec) -> float:
    return _size(rng, spec, "small" if rng.random() < spec.small_distractor_share else "large")


def _preview(rng: np.random.Generator, spec: EmbeddedSpec, labels: list[int]) -> list[Shot]:
    if rng.random() >= spec.preview_share:
        return []
    length = int(rng.integers(spec.preview_frames[0], spec.preview_frames[1] + 1))
    size = _distractor_size(rng, spec)
    others = [c for c in range(spec.num_classes) if c not in labels]
    return [Shot("preview", length, int(rng.choice(others)), size)] if others else []


def _distractors(
    rng: np.random.Generator, spec: EmbeddedSpec, labels: list[int], kind: str, share: float
) -> list[Shot]:
    total = _count(rng, share, spec)
    if total < spec.min_shot:
        return []
    wrong = [c for c in range(spec.num_classes) if kind == "blurred" or c not in labels]
    shots = []
    for length in _cut(rng, total, int(rng.integers(1, 3)), spec.min_shot):
        size = _distractor_size(rng, spec)
        shots.append(Shot(kind, length, int(rng.choice(wrong)) if wrong else -1, size))
    return shots


def _by_evidence(labels: list[int], shots: list[Shot]) -> tuple[int, ...]:
    """The labels, that which is shown longest first."""

    def rank(label: int) -> tuple[int, int]:
        shown = [s.num_frames for s in shots if s.kind in EVIDENCE_KINDS and s.glyph == label]
        return -sum(shown), label

    return tuple(sorted(labels, key=rank))


def plan_video(rng: np.random.Generator, spec: EmbeddedSpec, index: int) -> VideoPlan:
    """Draws the labels and the shots of a video.

    Args:
        rng: the video's generator, from `video_rng`.
        spec: the data set's parameters.
        index: the video's place in its split.

    Returns:
        A plan whose shots have `spec.num_frames` frames together.
    """
    labels = _labels(rng, spec, index)
    shots = _evidence(rng, spec, labels)
    shots += _distractors(rng, spec, labels, "misleading", spec.misleading_share)
    shots += _distractors(rng, spec, labels, "blurred", spec.blurred_share)
    preview = _preview(rng, spec, labels)
    empty = spec.num_frames - sum(shot.num_frames for shot in (*preview, *shots))
    stretches = int(rng.integers(spec.empty_stretches[0], spec.empty_stretches[1] + 1))
    shots += [Shot("empty", length) for length in _cut(rng, empty, stretches, spec.min_shot)]
    order = rng.permutation(len(shots))
    return VideoPlan(_by_evidence(labels, shots), (*preview, *(shots[i] for i in order)))
