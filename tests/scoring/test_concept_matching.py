"""Latents matched with concepts: by brute force, and where the answer is known."""

import itertools

import numpy as np
import pytest
import scipy.sparse

from sae.scoring import concept_matching as matching


def sparse(rows):
    return scipy.sparse.csr_matrix(np.asarray(rows, dtype=float))


def random_bank(seed, images=60, latents=9, concepts=4):
    """A bank of random firing, concepts and groups, dense."""
    generator = np.random.default_rng(seed)
    fires = generator.random((images, latents)) < 0.3
    holds = generator.random((images, concepts)) < 0.4
    groups = generator.integers(0, 25, images)
    return fires, holds, groups


def brute_f(guess, truth, weights, beta):
    matched = weights[guess & truth].sum()
    precision = matched / weights[guess].sum() if guess.any() else 0.0
    recall = matched / weights[truth].sum()
    if precision + recall == 0:
        return 0.0
    return (1 + beta**2) * precision * recall / (beta**2 * precision + recall)


def brute_choice(fires, truth, weights):
    chosen, score = [], 0.0
    for _ in range(3):
        candidates = {
            latent: brute_f(
                fires[:, [*chosen, latent]].any(axis=1), truth, weights, 0.5
            )
            for latent in range(fires.shape[1])
        }
        best = max(
            candidates, key=lambda latent: (round(candidates[latent], 12), -latent)
        )
        if candidates[best] <= score + 1e-9:
            break
        chosen.append(best)
        score = candidates[best]
    return chosen


@pytest.mark.parametrize("seed", range(5))
def test_the_choice_and_its_scores_are_those_of_brute_force(seed, monkeypatch):
    monkeypatch.setattr(matching, "AT_ONCE", 3)  # Of four concepts.
    fires, holds, groups = random_bank(seed)
    weights = matching.group_weights(groups)
    assert weights == pytest.approx([1 / (groups == g).sum() for g in groups])

    chosen = matching.choose_latents(sparse(fires), sparse(holds), weights)
    f1 = matching.f1_of_chosen(chosen, sparse(fires), sparse(holds), weights)
    for concept in range(holds.shape[1]):
        truth = holds[:, concept]
        expected = brute_choice(fires, truth, weights)
        latents = chosen.latents[:, concept]
        assert latents[latents >= 0].tolist() == expected
        union = fires[:, expected].any(axis=1)
        assert f1[concept] == pytest.approx(brute_f(union, truth, weights, 1.0))
        # The gains add up to the score of the choice.
        score = brute_f(union, truth, weights, 0.5)
        assert chosen.gains[:, concept].sum() == pytest.approx(score)


def test_latents_that_are_the_concepts_match_fully():
    _, holds, groups = random_bank(0)
    weights = matching.group_weights(groups)
    chosen = matching.choose_latents(sparse(holds), sparse(holds), weights)
    assert chosen.latents[0].tolist() == [0, 1, 2, 3]
    assert (chosen.latents[1:] == -1).all()
    f1 = matching.f1_of_chosen(chosen, sparse(holds), sparse(holds), weights)
    assert f1 == pytest.approx(np.ones(4))


def test_a_latent_that_never_fires_stands_for_nothing():
    fires = np.zeros((4, 2))
    chosen = matching.choose_latents(
        sparse(fires), sparse(np.eye(4)[:, :1]), np.ones(4)
    )
    assert (chosen.latents == -1).all()
    assert matching.f1_of_chosen(
        chosen, sparse(fires), sparse(np.eye(4)[:, :1]), np.ones(4)
    ).tolist() == [0.0]


def test_chance_moves_concepts_between_whole_groups():
    groups = np.array([0, 0, 1, 2, 2, 2, 3])
    seen = set()
    for seed in range(200):
        rows = matching.draw_moved_rows(groups, np.random.default_rng(seed))
        source = groups[rows]
        for group in range(4):
            members = np.flatnonzero(groups == group)
            # The images of a group get those of one group, in turn from one of them on.
            assert len(set(source[members])) == 1
            sources = np.flatnonzero(groups == source[members[0]]).tolist()
            first = sources.index(rows[members[0]])
            in_turn = sources[first:] + sources[:first]
            expected = [in_turn[i % len(sources)] for i in range(len(members))]
            assert rows[members].tolist() == expected
        seen.add(tuple(source[[0, 2, 3, 6]]))
    assert seen == set(itertools.permutations(range(4)))


def test_chance_keeps_the_weight_of_a_concept_that_some_images_of_a_group_have():
    groups = np.repeat([0, 1, 2, 3, 4, 5], [2, 2, 2, 2, 12, 30])
    weights = matching.group_weights(groups)
    # The last images of the large groups have the concept.
    holds = np.zeros(len(groups))
    holds[[15, 16, 17, 18, 19, *range(44, 50)]] = 1
    moved_weights = []
    for seed in range(2000):
        rows = matching.draw_moved_rows(groups, np.random.default_rng(seed))
        moved_weights.append(weights @ holds[rows])
    error = np.std(moved_weights) / len(moved_weights) ** 0.5
    assert abs(np.mean(moved_weights) - weights @ holds) < 3 * error


def test_latents_that_swap_with_an_attribute_have_a_rate_of_one():
    values = np.array([0, 1, 0, 1, 2, 0])
    drawings = np.array([0, 0, 1, 1, 1, 2])
    fires = sparse(np.eye(3)[values])
    chosen = matching.ChosenLatents(np.array([[0, 1, 2]]), np.ones((1, 3)))
    # The drawing 2 has no pair.
    assert matching.swap_rate(chosen, fires, values, drawings) == (1.0, 2)
    same = sparse(np.ones((6, 3)))
    assert matching.swap_rate(chosen, same, values, drawings) == (0.0, 2)
    opposite = sparse(np.eye(3)[[1, 0, 1, 0, 2, 0]])
    rate, _ = matching.swap_rate(chosen, opposite, values, drawings)
    # Drawing 0: -1. Drawing 1: the pairs (0, 1), (0, 2), (1, 2) give -1, .5 and .5.
    assert rate == pytest.approx((-1 + 0) / 2)


def test_a_shared_latent_goes_to_the_value_that_it_raises_more():
    latents = np.array([[4, 7], [7, 5], [-1, -1]])
    gains = np.array([[0.5, 0.3], [0.1, 0.2], [0.0, 0.0]])
    chosen = matching.ChosenLatents(latents, gains)
    assert matching.split_shared(chosen, 0, 1) == ([4], [7, 5])
