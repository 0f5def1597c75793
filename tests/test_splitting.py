"""Dividing images into parts: values worked out by hand, and properties on random data."""

import numpy as np
import pytest

from data_scripts.labels import DataError
from data_scripts.splitting import divide


def single(counts):
    """Return group ids that put each image into a group of its own."""
    return np.arange(len(counts))


def random_data(seed):
    """Return counts of many images with rare and frequent classes, and groups: single images or sequences."""
    random = np.random.default_rng(seed)
    number, classes = int(random.integers(40, 160)), int(random.integers(2, 15))
    frequency = random.uniform(0.05, 1, classes) ** 2
    counts = (random.random((number, classes)) < frequency) * random.integers(1, 10**6, (number, classes))
    return counts, np.arange(number) if seed % 2 else random.integers(0, number // 3, number)


def test_the_rarest_class_is_divided_first_and_its_largest_image_goes_to_the_first_part():
    counts = np.array([[9, 0], [9, 1], [9, 0], [9, 5]])
    assert divide(counts, single(counts), (0.5, 0.5)).tolist() == [0, 1, 1, 0]


def test_a_part_without_the_class_comes_before_the_one_that_is_furthest_from_its_share():
    counts = np.array([[1], [1], [0], [0], [0], [0], [0], [0], [0], [0]])
    assert divide(counts, single(counts), (0.8, 0.2)).tolist() == [0, 1, 0, 0, 0, 0, 0, 0, 0, 1]


def test_the_only_image_of_a_class_goes_to_the_largest_part():
    counts = np.array([[1, 1], [1, 0], [1, 0], [1, 0], [1, 0]])
    assert divide(counts, single(counts), (0.2, 0.8))[0] == 1


def test_images_of_equal_classes_alternate_by_pixels():
    counts = np.array([[10], [40], [30], [20]])
    part = divide(counts, single(counts), (0.5, 0.5))
    assert [counts[part == i].sum() for i in (0, 1)] == [50, 50]


@pytest.mark.parametrize("shares", [(0.8, 0.2), (0.2, 0.8), (0.5, 0.5), (0.6, 0.2, 0.2), (0.2,) * 5])
@pytest.mark.parametrize("seed", range(12))
def test_properties(seed, shares):
    counts, groups = random_data(seed)
    part = divide(counts, groups, shares)
    assert part.shape == (len(counts),) and set(part) == set(range(len(shares)))
    assert all(len(set(part[groups == group])) == 1 for group in groups)
    largest = np.unique(groups, return_counts=True)[1].max()
    assert (abs(np.bincount(part) - len(counts) * np.array(shares)) <= largest).all()
    for column in counts.T:
        if len(set(groups[column > 0])) >= 2 * len(shares):
            assert set(part[column > 0]) == set(range(len(shares)))
    assert np.array_equal(part, divide(counts, groups, shares))


def test_single_images_are_shared_exactly():
    counts, _ = random_data(1)
    counts = counts[:40]
    assert np.bincount(divide(counts, single(counts), (0.75, 0.25))).tolist() == [30, 10]
    assert sorted(np.bincount(divide(counts, single(counts), (1 / 3,) * 3))) == [13, 13, 14]


def test_each_class_of_as_many_images_as_parts_occurs_in_every_part():
    counts = np.repeat(np.eye(6, dtype=int), 5, axis=0)
    part = divide(counts, single(counts), (0.2,) * 5)
    assert all(sorted(part[column > 0]) == [0, 1, 2, 3, 4] for column in counts.T)


@pytest.mark.parametrize("seed", range(1, 20, 2))
def test_it_divides_images_of_each_class_more_evenly_than_chance(seed):
    counts, groups = random_data(seed)
    shown, share = (counts > 0)[:, (counts > 0).sum(0) >= 5], 0.2

    def mean_error(held_out):
        return abs(shown[held_out].sum(0) / shown.sum(0) - share).mean()

    random = np.random.default_rng(0)
    by_chance = [mean_error(random.permutation(len(counts)) < share * len(counts)) for _ in range(100)]
    assert mean_error(divide(counts, groups, (1 - share, share)) == 1) < np.percentile(by_chance, 10)


@pytest.mark.parametrize("names", [True, False])
def test_group_ids_are_any_values(names):
    counts = np.array([[1], [1], [1], [1], [1], [1]])
    groups = np.array(["b", "b", "a", "a", "c", "c"] if names else [70, 70, -3, -3, 900, 900])
    assert divide(counts, groups, (2 / 3, 1 / 3)).tolist() == [1, 1, 0, 0, 0, 0]


def test_no_part_is_empty():
    counts = np.ones((10, 1), int)
    assert divide(counts, np.arange(10) // 5, (0.8, 0.2)).tolist() == [0] * 5 + [1] * 5
    assert divide(counts[:2], np.arange(2), (0.99, 0.01)).tolist() == [0, 1]


def test_images_without_a_class_are_divided_too():
    counts = np.zeros((4, 2), int)
    assert sorted(divide(counts, single(counts), (0.5, 0.5))) == [0, 0, 1, 1]


@pytest.mark.parametrize(("number", "groups"), [(1, [0]), (3, [0, 0, 0]), (0, [])])
def test_too_few_groups_are_refused(number, groups):
    with pytest.raises(DataError, match=rf"^{number} images in \d groups cannot be divided into 2 parts$"):
        divide(np.ones((number, 1), int), np.array(groups, int), (0.5, 0.5))
