"""What a source holds: its classes and videos, what of it is left out, and what was assumed."""

import dataclasses
import functools
from collections.abc import Iterable

from ar_net_jax.data.builder import VideoBuilder
from ar_net_jax.data.listing.split_names import hold_out
from ar_net_jax.data.report import reasons
from ar_net_jax.data.videos import LeftOut, Listing, Video
from ar_net_jax.errors import UserError, first_few


@dataclasses.dataclass
class Catalogue:
    """What a source holds.

    Attributes:
        classes: names, in the order of the labels.
        splits: the videos of each split, in the order in which they are to be stored.
        left_out: what is there, or is listed, and will not be stored.
        notes: what was assumed, a line each, for the terminal.
    """

    classes: list[str]
    splits: dict[str, list[Video]] = dataclasses.field(default_factory=dict)
    left_out: list[LeftOut] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)

    def add(self, split: str, video: Video) -> None:
        """Adds a video to a split."""
        self.splits.setdefault(split, []).append(video)

    def leave_out(
        self,
        split: str,
        name: str,
        reason: str,
        label: str | None,
        *,
        missing: bool = False,
    ) -> None:
        """Says that something is not stored, see `LeftOut`."""
        self.left_out.append(LeftOut(split, name, label, reason, bad=False, missing=missing))

    def hold_out_validation(self, share: float) -> None:
        """Makes a validation split of a share of the training videos of each class.

        Raises:
            UserError: there is one already, or no training videos.
        """
        if "validation" in self.splits:
            raise UserError(
                "validation_share: there is a validation split already; set it to 0, or put its "
                "videos into the training split"
            )
        videos = self.splits.get("train", [])
        if not videos:
            raise UserError("validation_share: there are no training videos to take a share of")
        labels = [video.labels[0] for video in videos]
        aside = hold_out([video.name for video in videos], labels, share)
        self.splits["train"] = [video for video, out in zip(videos, aside) if not out]
        self.splits["validation"] = [video for video, out in zip(videos, aside) if out]
        self.notes.append(
            f"{sum(aside)} of the {len(aside)} training videos are 'validation' "
            f"(validation_share={share:g} of each class, by their names)"
        )

    def note_classes(self, source: str | None) -> None:
        """Tells in which order the classes are.

        Args:
            source: the list that gives the order; None for that of their names or numbers.
        """
        numbers = [str(i) for i in range(len(self.classes))]
        order = source or ("their numbers" if self.classes == numbers else "their names")
        shown = first_few(self.classes, 3)
        self.notes.append(f"{len(self.classes)} classes, in the order of {order}: {shown}")

    def check_names(self) -> None:
        """Raises UserError if two videos of a split have one name."""
        for split, videos in self.splits.items():
            if twice := _twice(video.name for video in videos):
                raise UserError(f"two videos of {split} are called {twice!r}; rename one of them")


def _twice(names: Iterable[str]) -> str | None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


class CatalogueBuilder(VideoBuilder, skip_registration=True):
    """A builder whose source is looked through once, for classes and videos together."""

    def read_source(self) -> Catalogue:
        """Looks through the source.

        Raises:
            UserError: the source cannot be read.
        """
        raise NotImplementedError

    @functools.cached_property
    def _catalogue(self) -> Catalogue:
        catalogue = self.read_source()
        catalogue.check_names()
        return catalogue

    def list_classes(self) -> list[str]:
        """Class names in the order of the labels."""
        return self._catalogue.classes

    def list_videos(self) -> dict[str, list[Video]]:
        """The videos of each split, in the order in which they are to be stored."""
        return self._catalogue.splits

    def listing(self) -> Listing:
        """What there is to store, what is left out, and what was assumed.

        Raises:
            UserError: there are no videos at all.
        """
        catalogue = self._catalogue
        splits = {split: videos for split, videos in catalogue.splits.items() if videos}
        if not splits:
            told = "".join(f"; {line}" for line in reasons(catalogue.left_out)[:5])
            raise UserError(f"{self.root}: no videos found{told}")
        left_out, notes = tuple(catalogue.left_out), tuple(catalogue.notes)
        return Listing(catalogue.classes, splits, left_out, notes)
