"""Prototypes, cosine pseudo-labels and the Fisher loss: a toy solved by hand, scikit-learn's and NumPy's scatter."""

import math

import numpy as np
import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from cvm_monai.losses import cosine_pseudo_labels, fisher_loss, unit_vectors

U = 255


def two_clusters() -> tuple[torch.Tensor, torch.Tensor]:
    """One row of six unit vectors in the plane, by their angles in degrees, of which four are annotated."""
    angles = torch.tensor([0.0, 60.0, 90.0, 150.0, 20.0, 140.0], dtype=torch.float64).deg2rad()
    features = torch.stack([angles.cos(), angles.sin()]).reshape(1, 2, 1, 6)
    return features, torch.tensor([0, 0, 1, 1, U, U], dtype=torch.uint8).reshape(1, 1, 1, 6)


def annotated(*, batch=2) -> tuple[torch.Tensor, torch.Tensor]:
    """Random features (B, 4, 5, 6) with more background than target, and some pixels without label."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 4, (batch, 1, 5, 6), generator=generator)
    labels[labels == 2], labels[labels == 3] = 0, U
    features = torch.randn(batch, 4, 5, 6, generator=generator, dtype=torch.float64)
    return features + labels.eq(1).expand(batch, 4, 5, 6), labels.byte()


def test_two_clusters_by_hand():
    """Each class holds two unit vectors 60 degrees apart: |mu_c| = cos 30, |f - mu_c| = sin 30, so tr S_w = 1/4.

    The means point to 30 and 120 degrees, at right angles: |mu_1 - mu_0|^2 = 2 cos^2 30 = 3/2, and tr S_b = 3/8.
    """
    assert fisher_loss(*two_clusters(), eps=0.125).item() == pytest.approx(0.25 / (0.375 + 0.125))


def test_the_nearer_prototype_gives_the_label_by_hand():
    """20 degrees lies 10 from the background's mean at 30; 140 lies 20 from the target's at 120."""
    assert cosine_pseudo_labels(*two_clusters()).tolist() == [[[U, U, U, U, 0, 1]]]


def test_the_margin_leaves_out_what_is_unsure():
    """The leads are cos 30 (cos 10 - cos 100) = 1.003 and cos 30 (cos 20 - cos 110) = 1.110."""
    assert cosine_pseudo_labels(*two_clusters(), margin=1.05).tolist() == [[[U, U, U, U, U, 1]]]
    assert cosine_pseudo_labels(*two_clusters(), margin=1.2).tolist() == [[[U] * 6]]


def scatters(vectors: np.ndarray, classes: np.ndarray) -> tuple[float, float]:
    """Traces of the scatter matrices, the matrices written out: sums of outer products over n."""
    n, mean = len(vectors), vectors.mean(0)
    within = between = np.zeros((vectors.shape[1],) * 2)
    for value in (0, 1):
        members = vectors[classes == value]
        centre = members.mean(0)
        within = within + sum(np.outer(f - centre, f - centre) for f in members) / n
        between = between + len(members) * np.outer(centre - mean, centre - mean) / n
    return float(np.trace(within)), float(np.trace(between))


@pytest.mark.parametrize("eps", [1e-3, 0.1])
def test_equals_the_scatter_matrices_of_numpy(eps):
    features, labels = annotated()
    ratios = []
    for f, y in zip(features.numpy(), labels[:, 0].numpy(), strict=True):
        within, between = scatters(f[:, y != U].T, y[y != U])
        ratios.append(within / (between + eps))
    assert fisher_loss(features, labels, eps=eps).item() == pytest.approx(np.mean(ratios), rel=1e-12)


def test_equals_the_scatter_matrices_of_scikit_learn():
    features, labels = annotated(batch=1)
    vectors, y = features[0].flatten(1).T.numpy(), labels.flatten().numpy()
    vectors, y = vectors[y != U], y[y != U]
    model = LinearDiscriminantAnalysis(solver="eigen", store_covariance=True).fit(vectors, y)
    within = np.trace(model.covariance_)  # the classes' covariances weighted by their shares
    between = np.trace(np.cov(vectors.T, bias=True)) - within
    assert fisher_loss(features, labels, eps=1e-9).item() == pytest.approx(within / between, rel=1e-6)


def test_gradients_against_finite_differences():
    features, labels = annotated()
    assert torch.autograd.gradcheck(lambda f: fisher_loss(unit_vectors(f), labels), features.requires_grad_())


def test_pseudo_labels_equal_the_mean_cosine_to_each_class():
    features, labels = annotated()
    vectors = unit_vectors(features)
    found = cosine_pseudo_labels(vectors, labels)
    assert 0 < (labels != U).sum() < labels.numel()
    for b, row, column in np.ndindex(2, 5, 6):
        if labels[b, 0, row, column] != U:
            assert found[b, row, column] == U
            continue
        means = []
        for value in (0, 1):
            cosines = [
                torch.nn.functional.cosine_similarity(features[b, :, row, column], features[b, :, r, c], dim=0).item()
                for r, c in np.ndindex(5, 6)
                if labels[b, 0, r, c] == value
            ]
            means.append(sum(cosines) / len(cosines))
        assert found[b, row, column] == int(means[1] > means[0])


def test_only_images_with_both_classes_count():
    features, labels = annotated()
    expected = fisher_loss(features[:1], labels[:1])
    labels[1][labels[1] == 0] = U
    torch.testing.assert_close(fisher_loss(features, labels), expected)
    assert (cosine_pseudo_labels(features, labels)[1] == U).all()


@pytest.mark.parametrize("keep", [[], [0], [1]])
def test_without_a_class_it_is_zero_with_a_graph(keep):
    features, labels = annotated()
    labels[~torch.isin(labels, torch.tensor(keep, dtype=torch.uint8))] = U
    features.requires_grad_()
    loss = fisher_loss(features, labels)
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(features.grad, torch.zeros_like(features))


def test_features_that_are_alike_or_zero_give_no_nan():
    _, labels = annotated()
    for features in (torch.zeros(2, 4, 5, 6), torch.ones(2, 4, 5, 6)):
        features.requires_grad_()
        loss = fisher_loss(unit_vectors(features), labels)
        loss.backward()
        assert loss.item() == pytest.approx(0, abs=1e-9)
        assert features.grad.isfinite().all()


def test_one_pixel_of_each_class_has_no_scatter_within():
    features, labels = torch.rand(1, 3, 1, 2), torch.tensor([0, 1]).reshape(1, 1, 2)
    assert fisher_loss(features, labels).item() == 0


def test_unit_vectors_are_float32_of_length_one():
    vectors = unit_vectors(torch.tensor([3.0, 4.0]).reshape(1, 2, 1, 1).bfloat16())
    assert vectors.dtype == torch.float32
    assert vectors.flatten().tolist() == pytest.approx([0.6, 0.8])


def test_wrong_arguments_are_refused():
    features, labels = annotated()
    with pytest.raises(ValueError, match="eps must be a finite number greater than 0, got 0"):
        fisher_loss(features, labels, eps=0)
    with pytest.raises(ValueError, match=r"margin must lie in \[0, 2\], got nan"):
        cosine_pseudo_labels(features, labels, margin=math.nan)
    with pytest.raises(ValueError, match=r"labels of shape \(1, 1, 5, 6\) does not match logits of shape"):
        fisher_loss(features, labels[:1])
