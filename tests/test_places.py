"""Places of records, against ArrayRecord's own reader."""

import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter
from hypothesis import given
from hypothesis import strategies as st

from ar_net_jax.data.storing.places import find_places, read_record

# Around the lengths at which a record, with the 40 bytes before it, ends at the end of a block.
LENGTHS = st.one_of(
    st.integers(0, 300), st.integers(65_200, 65_600), st.integers(0, 200_000), st.just(65_512)
)


def _write(path: Path, records: list[bytes], options: str = "group_size:1,uncompressed") -> None:
    writer = ArrayRecordWriter(str(path), options)
    for record in records:
        writer.write(record)
    writer.close()


def _read_all(path: Path, places: Path, count: int) -> list[bytes]:
    descriptors = [os.open(file, os.O_RDONLY) for file in (path, places)]
    try:
        return [read_record(*descriptors, index) for index in range(count)]
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


@given(st.lists(LENGTHS, min_size=1, max_size=40), st.integers(0, 2**32))
def test_records_are_found_where_the_library_reads_them(lengths: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    records = [rng.bytes(length) for length in lengths]
    with tempfile.TemporaryDirectory() as folder:
        path, places = Path(folder, "records"), Path(folder, "places")
        _write(path, records)
        places.write_bytes(find_places(path, lengths).tobytes())
        assert _read_all(path, places, len(records)) == records
        assert ArrayRecordReader(str(path)).read_all() == records


def test_every_length_up_to_a_block_is_found(tmp_path: Path) -> None:
    lengths = [*range(0, 2000), *range(65_400, 65_600)]
    records = [bytes([length % 251]) * length for length in lengths]
    _write(tmp_path / "records", records)
    (tmp_path / "places").write_bytes(find_places(tmp_path / "records", lengths).tobytes())
    assert _read_all(tmp_path / "records", tmp_path / "places", len(records)) == records


@pytest.mark.parametrize("options", ["group_size:2,uncompressed", "group_size:1,snappy"])
def test_another_layout_is_refused(tmp_path: Path, options: str) -> None:
    records = [b"a" * 100, b"b" * 200]
    _write(tmp_path / "records", records, options)
    with pytest.raises(ValueError, match="is not where it is looked for"):
        find_places(tmp_path / "records", [100, 200])


def test_damage_is_noticed(tmp_path: Path) -> None:
    records, lengths = [b"a" * 100, b"b" * 100_000], [100, 100_000]
    path, places = tmp_path / "records", tmp_path / "places"
    _write(path, records)
    with pytest.raises(ValueError, match="ends after 2 of 3 records|is not where"):
        find_places(path, [*lengths, 5])
    places.write_bytes(find_places(path, lengths).tobytes())
    content = bytearray(path.read_bytes())
    content[content.index(b"bbbb") + 70_000] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="record 1 is damaged"):
        _read_all(path, places, 2)
    path.write_bytes(content[:50_000])
    with pytest.raises(ValueError, match="record 1 is damaged"):
        _read_all(path, places, 2)
    places.write_bytes(places.read_bytes()[:20])
    with pytest.raises(ValueError, match="place of record 1 is missing"):
        _read_all(path, places, 2)
