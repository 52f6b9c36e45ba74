"""Which chunks are taken, against all divisions there are and against what must be so."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ar_net_jax.costs.traffic import count_traffic
from ar_net_jax.inference.chunks import (
    frames_on_chip,
    gpu_chunks,
    plan_chunks,
    plan_parts,
    tpu_chunks,
)
from ar_net_jax.inference.ladder import choose_chunks, fewest_seconds
from ar_net_jax.methods.uniform import Uniform, UniformConfig
from ar_net_jax.ops.routing import expected_trips

SIZES = (8, 4, 2, 1)


def _least_of_all(count: int, seconds: dict[int, float]) -> float:
    """By trying every number of chunks of every size."""
    most = [range(-(-count // size) + 1) for size in SIZES]
    return min(
        sum(n * seconds[size] for n, size in zip(numbers, SIZES))
        for numbers in itertools.product(*most)
        if sum(n * size for n, size in zip(numbers, SIZES)) >= count
    )


@given(
    count=st.integers(0, 13),
    times=st.lists(st.floats(0.1, 10.0), min_size=len(SIZES), max_size=len(SIZES)),
)
def test_no_division_takes_less_time(count: int, times: list[float]) -> None:
    seconds = dict(zip(SIZES, times))
    trips = fewest_seconds(count, SIZES, tuple(sorted(seconds.items())))
    assert sum(n * size for size, n in trips.items()) >= count
    taken = sum(n * seconds[size] for size, n in trips.items())
    assert taken == pytest.approx(_least_of_all(count, seconds))


@given(count=st.integers(0, 200), sizes=st.sets(st.integers(1, 64), min_size=1, max_size=4))
def test_trips_hold_all_frames_and_no_chunk_too_many(count: int, sizes: set[int]) -> None:
    chunks = tuple(sorted(sizes, reverse=True))
    trips = expected_trips(count, chunks)
    rows = sum(n * size for size, n in trips.items())
    assert count <= rows < count + chunks[0]
    if len(chunks) <= 2:
        assert rows < count + chunks[-1], "less than one chunk of the smaller size is filled up"


def test_sizes_follow_from_what_a_chunk_costs() -> None:
    sizes = [2**k for k in range(8)]
    by_frame = tuple((size, 0.1 * size) for size in sizes)
    assert choose_chunks(by_frame) == (1,), "nothing is gained by more frames at once"
    by_chunk = tuple((size, 1.0) for size in sizes)
    assert choose_chunks(by_chunk) == (128,), "frames cost nothing, chunks do"
    both = choose_chunks(tuple((size, 1.0 + size / 16) for size in sizes))
    assert 1 < len(both) <= 3, "large ones for most frames and small ones for the rest"


def test_traffic_of_resnet_50_is_what_is_known_of_it() -> None:
    """torchvision: 25,557,032 parameters, of which 2,049,000 are the classifier's."""
    found = count_traffic("resnet50", 224, "same")
    assert found.weights == 25_557_032 - 2_049_000
    # 53 convolutions, whose outputs are given as 11.1 million numbers.
    assert found.operations == 53 and found.outputs == pytest.approx(11.1e6, rel=0.01)


def test_sizes_of_accelerators_follow_from_the_roofline() -> None:
    """ResNet-50: 94 MB of weights and 53 x 4 MB, eight times, are as much as 28 frames' traffic."""
    found = count_traffic("resnet50", 224, "same")
    fixed, frame = 4 * found.weights + 53 * 4e6, 4 * 2 * found.outputs
    (large, small) = tpu_chunks(found, "bfloat16")
    assert large / 2 < 8 * fixed / frame <= large == 32 and small == 8
    slower = found._replace(outputs=2 * found.outputs, macs=2 * found.macs)
    assert tpu_chunks(slower, "bfloat16")[0] < large, "frames that cost more fill it sooner"


def test_a_gpu_takes_more_frames_at_once() -> None:
    """ResNet-50: 94 MB and 53 x 80 MB, eight times, are as much as 390 frames' traffic."""
    found = count_traffic("resnet50", 224, "same")
    fixed, frame = 4 * found.weights + 53 * 8e7, 4 * 2 * found.outputs
    assert 256 < 8 * fixed / frame <= 512
    assert fixed + 32 * frame < 0.75 * (fixed + 128 * frame)
    model = Uniform(UniformConfig(num_classes=3, backbone="resnet50", resolution=224))
    sizes = plan_chunks(model.networks(), "cuda", dtype="bfloat16")
    assert list(sizes.values()) == [(512, 128, 32)]
    light = count_traffic("resnet18", 112, "same")
    assert gpu_chunks(light, "bfloat16") == (512, 128), "32 of them would take as long as 128"


def test_a_tpu_computes_as_many_frames_at_once_as_its_memory_holds() -> None:
    """ResNet-50's largest map behind the stem is 56 x 56 x 256: 1.6 MB in bfloat16."""
    found = count_traffic("resnet50", 224, "same")
    assert found.largest == 56 * 56 * 256
    assert 16 * 2 * found.largest <= 2**25 < 32 * 2 * found.largest
    assert frames_on_chip(found, "bfloat16") == 16 and frames_on_chip(found, "float32") == 8
    many = found._replace(operations=1000)
    assert frames_on_chip(many, "bfloat16") > 16, "starting operations costs more than traffic"
    model = Uniform(UniformConfig(num_classes=3, backbone="resnet50", resolution=224))
    networks = model.networks()
    assert list(plan_chunks(networks, "tpu", dtype="bfloat16").values()) == [(16, 4)]
    assert plan_parts(networks, "tpu", "masked", dtype="bfloat16") == dict.fromkeys(networks, 16)
    assert plan_parts(networks, "tpu", "routed") is None
    assert plan_parts(networks, "cuda", "masked") is None
    assert plan_parts(networks, "cpu", "routed") == dict.fromkeys(networks, 8)


def test_narrow_maps_fill_the_lanes() -> None:
    """ResNet-18 at 112 px: 28 x 28 x 64, in 128 lanes."""
    assert count_traffic("resnet18", 112, "same").largest == 28 * 28 * 128
