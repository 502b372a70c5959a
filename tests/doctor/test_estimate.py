"""The arithmetic of the estimate, with numbers worked out by hand."""

import pytest

from cvm_monai.doctor.estimate import Costs, Counts, Stage, cache_mib, cache_words, duration, seconds, table

COSTS = Costs(
    fixed=10.0,
    stain=0.5,
    read=1.0,
    workers=0.5,
    record=1.5,
    step=3.0,
    validate=0.25,
    renew=0.125,
    renewal=4.0,
    cached_train=2**20,
    cached_validation=2**22,
)


def test_the_whole_is_the_sum_of_its_parts():
    # 7 images in batches of 2: 4 steps. reading 7 + 4, stains 3.5, epochs 5 * (2 + 12), validations 2 * 4 * 0.25
    counts = Counts(7, 4, 2, 5, val_interval=2)
    assert seconds(COSTS, counts) == (96.5, 96.5)
    renewed = Counts(7, 4, 2, 5, val_interval=2, renews=True)  # each renewal 4 + 7 * 0.125
    assert seconds(COSTS, renewed) == (96.5 + 4.875, 96.5 + 2 * 4.875)


@pytest.mark.parametrize(
    "changes, renewals",
    [
        ({}, (0, 0)),
        ({"renews": True}, (1, 10)),
        ({"renews": True, "renews_once": True}, (1, 1)),
        ({"renews": True, "renew_from": 8}, (1, 3)),  # epochs 8, 9, 10
        ({"renews": True, "renew_from": 8, "val_interval": 2}, (1, 2)),  # 8 and 10
        ({"renews": True, "renew_from": 11}, (0, 0)),
        ({"renews": True, "val_interval": 11}, (0, 0)),
        ({"renews": True, "renew_every": 3}, (3, 10)),
        ({"renews": True, "renew_every": 1, "renew_from": 4}, (7, 7)),
        ({"renews": True, "renew_limit": 3}, (1, 3)),
        ({"renews": True, "renew_limit": 2, "renew_every": 5}, (2, 4)),
    ],
)
def test_renewals_are_between_one_and_one_for_each_validation(changes, renewals):
    assert Counts(7, 4, 2, 10, **changes).renewals == renewals


def test_the_caches_of_all_images_are_added_to_those_of_a_few():
    assert cache_mib(COSTS, Counts(7, 4, 2, 5), held=(4, 2)) == 3 * 1 + 2 * 4
    assert cache_mib(COSTS, Counts(4, 2, 2, 5), held=(4, 2)) == 0


@pytest.mark.parametrize(
    "value, text", [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")]
)
def test_durations_in_words(value, text):
    assert duration(value) == text


def test_the_gpu_s_memory_is_a_column_where_there_is_one():
    lines = table([Stage("set-up", 1.5, "once", 500.0, None), Stage("renewal", 0.01, "image", 900.0, 1234.0)])
    assert lines.splitlines() == [
        "stage     seconds  for        memory  GPU memory",
        "set-up      1.500  once      500 MiB       0 MiB",
        "renewal     0.010  image     900 MiB    1234 MiB",
    ]


@pytest.mark.parametrize(
    "limit, words",
    [
        (100 * 2**20, "all 11 decoded images are held in memory, 0.0 GiB"),
        (9 * 2**20, "7 of 11 decoded images are held in memory, the others in output_dir/cache: 0.0 GiB in all"),
        (0, "0 of 11 decoded images are held in memory, the others in output_dir/cache: 0.0 GiB in all"),
    ],
)
def test_where_the_images_will_be_in_words(limit, words):
    assert cache_words(COSTS, Counts(7, 4, 2, 5), limit=limit) == words  # 7 of 1 MiB, 4 of 4 MiB
