"""Who of several processes takes which cases: every one, each once."""

import pytest

from cvm_monai.data.epochs import ShardSampler, shard_of


def test_the_shares_follow_each_other_without_gap_or_overlap_and_differ_by_one_at_most():
    for world in range(1, 18):
        for count in range(40):
            shards = [shard_of(count, rank=rank, world=world) for rank in range(world)]
            assert [index for shard in shards for index in shard] == list(range(count))
            sizes = [len(shard) for shard in shards]
            assert max(sizes) - min(sizes) <= 1


def test_five_cases_in_two_processes():
    assert list(shard_of(5, rank=0, world=2)) == [0, 1, 2]
    assert list(shard_of(5, rank=1, world=2)) == [3, 4]


@pytest.mark.parametrize("count, rank, world", [(-1, 0, 1), (3, 2, 2), (3, -1, 2), (3, 0, 0)])
def test_a_share_that_does_not_exist_is_refused(count, rank, world):
    with pytest.raises(ValueError, match=f"there is no shard {rank} of {world} of {count} items"):
        shard_of(count, rank=rank, world=world)


def test_a_sampler_gives_each_case_to_one_process_and_none_where_there_are_too_few():
    samplers = [ShardSampler("ab", rank=rank, world=3) for rank in range(3)]
    assert [list(sampler) for sampler in samplers] == [[0], [1], []]
    assert [len(sampler) for sampler in samplers] == [1, 1, 0]


def test_a_lone_process_takes_everything():
    assert list(ShardSampler("abc")) == [0, 1, 2]
