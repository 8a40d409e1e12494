"""The layout of hash grids: which level stores what, and where."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ntalker_ns.kernels.grid_layout import grid_layout


def test_resolutions_grow_geometrically_from_base_to_finest():
    layout = grid_layout(3, 8, 2, 16, 2048, 14)
    assert layout.resolutions == (16, 32, 64, 128, 256, 512, 1024, 2048)
    assert grid_layout(2, 1, 2, 16, 2048, 14).resolutions == (16,)


def test_levels_are_dense_exactly_where_their_vertices_fit():
    layout = grid_layout(2, 4, 2, 7, 56, 8)
    assert layout.resolutions == (7, 14, 28, 56)
    assert layout.dense == (True, True, False, False)
    assert layout.sizes == (64, 232, 256, 256)


@given(
    dims=st.sampled_from([2, 3]),
    num_levels=st.integers(1, 20),
    base=st.integers(1, 64),
    factor=st.integers(1, 64),
    log2_size=st.integers(3, 19),
)
def test_levels_fill_the_table_without_gaps_or_overlap(dims, num_levels, base, factor, log2_size):
    layout = grid_layout(dims, num_levels, 2, base, base * factor, log2_size)
    ends = [offset + size for offset, size in zip(layout.offsets, layout.sizes, strict=True)]
    assert layout.offsets == (0, *ends[:-1])
    assert layout.total_entries == ends[-1]
    assert layout.resolutions == tuple(sorted(layout.resolutions))
    for resolution, size, dense in zip(layout.resolutions, layout.sizes, layout.dense, strict=True):
        assert size >= (resolution + 1) ** dims if dense else size == 2**log2_size
    if num_levels > 1:
        assert layout.resolutions[-1] == base * factor


@pytest.mark.parametrize(
    "arguments", [(4, 2, 2, 16, 32, 14), (2, 0, 2, 16, 32, 14), (2, 2, 2, 32, 16, 14), (2, 2, 2, 16, 32, 40)]
)
def test_impossible_grids_are_refused(arguments):
    with pytest.raises(ValueError):
        grid_layout(*arguments)
