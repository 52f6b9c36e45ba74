"""Trainings side by side: a core each, and what happens to the others when one of them ends."""

import dataclasses
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from ar_net_jax.errors import Preempted, StoppedByUser, UserError
from ar_net_jax.experiment import Config
from ar_net_jax.runtime import side_by_side
from ar_net_jax.runtime.side_by_side import run_side_by_side
from ar_net_jax.training.task import Training

LONG = 60.0


@dataclasses.dataclass(frozen=True)
class Probe(Training):
    """Notes where it runs, and behaves as told; `others` are files that it waits for."""

    others: tuple[Path, ...] = ()
    behaviour: str = "end"

    def run(self, row: int = 0) -> None:
        """Stands in for a training, which would take its time."""
        if self.behaviour == "save when told":
            signal.signal(signal.SIGTERM, self._save)
        core = "+".join(map(str, sorted(os.sched_getaffinity(0))))
        self.workdir.write_text(f"{os.getpid()} {core} {row} {self.title}")
        _await(*self.others)
        if self.behaviour == "fail":
            raise UserError("nothing to eat")
        if self.behaviour == "break":
            1 / 0  # noqa: B018
        if self.behaviour in ("go on", "save when told"):
            time.sleep(LONG)

    def _save(self, *_: object) -> None:
        self.workdir.with_suffix(".saved").touch()
        raise Preempted("saved")


def _await(*files: Path) -> None:
    deadline = time.monotonic() + LONG
    while not all(file.exists() for file in files):
        assert time.monotonic() < deadline, f"none of {files} came"
        time.sleep(0.01)


def _probe(folder: Path, name: str, behaviour: str = "end", *others: str) -> Probe:
    return Probe(
        title=name,
        config=Config(),
        workdir=folder / name,
        data_dir=folder,
        compiled=folder / "compiled",
        progress=False,
        others=tuple(folder / other for other in others),
        behaviour=behaviour,
    )


@pytest.fixture(autouse=True)
def two_lanes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    cores = sorted(os.sched_getaffinity(0))
    lanes = [cores[0], cores[-1]]
    monkeypatch.setattr(side_by_side, "_cores", lambda: lanes)
    return lanes


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_two_at_a_time_each_on_its_own_core(tmp_path: Path, two_lanes: list[int]) -> None:
    # The first two wait for each other, so they must run at the same time.
    probes = {
        "first": _probe(tmp_path, "a", "end", "b"),
        "second": _probe(tmp_path, "b", "end", "a"),
        "third": _probe(tmp_path, "c"),
    }
    outcomes = run_side_by_side(probes)
    assert list(outcomes) == ["first", "second", "third"]
    assert all(outcome.seconds > 0 and not outcome.failure for outcome in outcomes.values())
    (a, b, c) = ((tmp_path / name).read_text().split() for name in "abc")
    assert [a[1:], b[1:]] == [[str(two_lanes[0]), "0", "a"], [str(two_lanes[1]), "1", "b"]]
    assert c[1:3] in (a[1:3], b[1:3])
    assert len({a[0], b[0], c[0], str(os.getpid())}) == 4


def test_one_that_fails_ends_the_others(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    probes = {
        n: _probe(tmp_path, n, how, o) for n, how, o in (("a", "fail", "b"), ("b", "go on", "a"))
    }
    with pytest.raises(UserError, match=r"a has ended with status 1 \(nothing to eat\)"):
        run_side_by_side(probes)
    assert "a: nothing to eat" in capfd.readouterr().err
    assert not _alive(int((tmp_path / "b").read_text().split()[0]))


@pytest.mark.parametrize("number_of_lanes", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_the_others_go_on_where_asked_to(
    tmp_path: Path, two_lanes: list[int], number_of_lanes: int
) -> None:
    del two_lanes[number_of_lanes:]
    behaviours = {"a": "fail", "b": "end", "c": "break"}
    probes = {name: _probe(tmp_path, name, behaviour) for name, behaviour in behaviours.items()}
    outcomes = run_side_by_side(probes, go_on=True)
    assert "nothing to eat" in outcomes["a"].failure
    assert "ZeroDivisionError: division by zero" in outcomes["c"].failure
    assert not outcomes["b"].failure and (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (signal.SIGTERM, Preempted),
        pytest.param(signal.SIGINT, StoppedByUser, marks=pytest.mark.slow),
    ],
)
def test_an_order_to_stop_reaches_all_of_them(
    tmp_path: Path, number: signal.Signals, kind: type[Preempted]
) -> None:
    probes = {name: _probe(tmp_path, name, "save when told") for name in "ab"}

    def tell() -> None:
        _await(tmp_path / "a", tmp_path / "b")
        time.sleep(0.2)
        os.kill(os.getpid(), number)

    teller = threading.Thread(target=tell)
    teller.start()
    before = signal.getsignal(number)
    with pytest.raises(Preempted, match="the same command goes on") as stopped:
        run_side_by_side(probes)
    assert stopped.type is kind
    teller.join()
    assert signal.getsignal(number) is before
    assert (tmp_path / "a.saved").exists() and (tmp_path / "b.saved").exists()
