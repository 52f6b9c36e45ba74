"""`arnet doctor`: what it says is so, and what is broken is a row and no traceback."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest
from av.codec import Codec

from ar_net_jax.cli.main import main
from ar_net_jax.runtime import diagnosis
from ar_net_jax.runtime.diagnosis import nvidia_driver, unmet

ROOT = Path(__file__).resolve().parents[1]


def test_says_what_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "doctor.json"
    main(["doctor", f"--json={path}"])
    printed, found = capsys.readouterr().out, json.loads(path.read_text())
    assert found["devices"]["kinds"] == [d.device_kind for d in jax.local_devices()]
    assert found["versions"]["jax"] == jax.__version__ and jax.__version__ in printed
    for name, decoder in found["codecs"].items():
        assert name in printed
        assert decoder is None or Codec(decoder, "r").type == "video"
    assert found["codecs"]["H.264"] == "h264"
    for name, extra in found["extras"].items():
        assert bool(extra["missing"]) == bool(extra["remedy"])
        assert (extra["remedy"] in printed) and f"extra {name}" in printed


def test_a_backend_that_does_not_start_is_a_row(tmp_path: Path) -> None:
    path = tmp_path / "doctor.json"
    found = subprocess.run(
        [sys.executable, "-m", "ar_net_jax", "doctor", f"--json={path}"],
        env={**os.environ, "JAX_PLATFORMS": "nosuchbackend", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
        timeout=200,
    )
    assert "Traceback" not in found.stderr
    devices = json.loads(path.read_text())["devices"]
    assert devices["platform"] is None and "nosuchbackend" in devices["error"]
    assert "nosuchbackend" in found.stdout and "JAX_PLATFORMS=cpu" in found.stdout


def _install(folder: Path, name: str, version: str, *lines: str) -> None:
    """What pip leaves of a package's metadata."""
    place = folder / f"{name}-{version}.dist-info"
    place.mkdir()
    header = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    (place / "METADATA").write_text("\n".join([*header, *lines]) + "\n")


def test_what_an_extra_lacks_is_found_through_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _install(
        tmp_path,
        "whole",
        "1.0",
        "Provides-Extra: chip",
        "Provides-Extra: all",
        "Requires-Dist: nowhere-at-all",
        'Requires-Dist: part[chip]>=2; extra == "chip"',
        'Requires-Dist: elsewhere; extra == "chip" and sys_platform == "none"',
        'Requires-Dist: whole[chip]; extra == "all"',
    )
    _install(tmp_path, "part", "2.1", 'Requires-Dist: driver<4,>=3; extra == "chip"')
    monkeypatch.syspath_prepend(tmp_path)
    assert list(unmet("whole", "chip")) == ["driver<4,>=3"]
    assert list(unmet("whole", "all")) == ["driver<4,>=3"]
    _install(tmp_path, "driver", "2.9")
    assert list(unmet("whole", "chip")) == ["driver<4,>=3"], "one that is too old"
    (tmp_path / "driver-2.9.dist-info").rename(tmp_path / "driver-3.0.dist-info")
    metadata = tmp_path / "driver-3.0.dist-info" / "METADATA"
    metadata.write_text(metadata.read_text().replace("2.9", "3.0"))
    assert list(unmet("whole", "chip")) == []


@pytest.mark.parametrize(("driver", "extra"), [("535.104.05", "cuda12"), ("580.65.06", "cuda13")])
def test_a_gpu_that_jax_does_not_see(
    driver: str, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = tmp_path / "version"
    report.write_text(
        f"NVRM version: NVIDIA UNIX x86_64 Kernel Module  {driver}  Sat Aug 19 01:15:15 UTC 2023\n"
        "GCC version:  gcc version 12.2.0 (Debian 12.2.0-14)\n"
    )
    assert nvidia_driver(report) == int(driver.partition(".")[0])
    monkeypatch.setattr(diagnosis, "nvidia_driver", lambda: nvidia_driver(report))
    assert f"ar_net_jax[{extra}]" in diagnosis.find_devices().advice
