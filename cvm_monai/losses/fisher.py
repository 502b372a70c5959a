"""Fisher loss on annotated feature vectors, and pseudo-labels by cosine similarity to class prototypes."""

import torch
from torch import Tensor
from torch.nn import functional

from cvm_monai.losses.checks import check_number
from cvm_monai.losses.maps import as_map, at_least_float32

UNLABELLED = 255
CLASSES = (0, 1)


def unit_vectors(features: Tensor) -> Tensor:
    """Normalise feature vectors (B, D, H, W) to length 1, in float32 at least; zero vectors stay zero."""
    return functional.normalize(at_least_float32(features), dim=1)


def fisher_loss(features: Tensor, labels: Tensor, *, eps: float = 0.1) -> Tensor:
    """tr(S_w) / (tr(S_b) + eps) over each image's annotated vectors, averaged over the images with both classes.

    With n annotated pixels, n_c of class c, class means mu_c and mean mu:
    tr(S_w) = (1/n) sum_c sum_{i in c} |f_i - mu_c|^2, tr(S_b) = sum_c (n_c / n) |mu_c - mu|^2. Small where classes are
    tight and far apart. Without any image with both classes it is an exact zero that still has a graph.

    Args:
        features: f, (B, D, H, W); of length 1, as by `unit_vectors`, if eps is to mean the same for every network.
        labels: (B, H, W) or (B, 1, H, W): 0, 1, or 255 for unlabelled.
        eps: bounds the loss while the classes still coincide; raising it weakens the gradient then; 0.01 to 0.5.

    Raises:
        CvmError: shapes that do not match, or an eps that is not positive.
    """
    check_number("eps", eps, above=True)
    ratios = []
    for vectors, label in zip(features, as_map(labels, features, name="labels"), strict=True):
        classes = _classes(vectors, label)
        if classes is None:
            continue
        shares = [len(members) / sum(map(len, classes)) for members in classes]
        mean = torch.cat(classes).mean(0)
        within = [share * (f - f.mean(0)).square().sum(1).mean() for share, f in zip(shares, classes, strict=True)]
        between = [share * (f.mean(0) - mean).square().sum() for share, f in zip(shares, classes, strict=True)]
        ratios.append(torch.stack(within).sum() / (torch.stack(between).sum() + eps))
    return torch.stack(ratios).mean() if ratios else features[:0].sum()


@torch.no_grad()
def cosine_pseudo_labels(features: Tensor, labels: Tensor, *, margin: float = 0.0) -> Tensor:
    """Most similar class prototype of each pixel that is not annotated: argmax_c <f_i, mu_c>.

    mu_c is the mean of the annotated vectors of class c of the same image, so that <f_i, mu_c> is the mean cosine
    similarity to them.

    Args:
        features: f, (B, D, H, W), vectors of length 1.
        labels: (B, H, W) or (B, 1, H, W): 0, 1, or 255 for unlabelled.
        margin: pixels whose two similarities differ by less get no pseudo-label; 0 to 0.5.

    Returns:
        (B, H, W) uint8: 0, 1, or 255 for annotated pixels, for those within the margin, and for every pixel of an image
        without both classes.

    Raises:
        CvmError: shapes that do not match, or a margin outside [0, 2].
    """
    check_number("margin", margin, high=2)
    known = as_map(labels, features, name="labels")
    found = torch.full(known.shape, UNLABELLED, dtype=torch.uint8, device=known.device)
    for vectors, label, pseudo in zip(features, known, found, strict=True):
        classes = _classes(vectors, label)
        if classes is None:
            continue
        background, target = ((vectors * mu[:, None, None]).sum(0) for mu in (m.mean(0) for m in classes))
        lead = target - background
        certain = (lead.abs() >= margin) & (label == UNLABELLED)
        pseudo[certain] = (lead[certain] > 0).to(torch.uint8)
    return found


def has_both_classes(labels: Tensor) -> Tensor:
    """(B,) bool: which images of labels (B, ...) have annotated pixels of both classes, as these losses need."""
    present = [(labels == value).flatten(1).any(dim=1) for value in CLASSES]
    return present[0] & present[1]


def _classes(vectors: Tensor, label: Tensor) -> list[Tensor] | None:
    """The annotated vectors (n_c, D) of each class of one image, or None if a class has none."""
    classes = [vectors[:, label == value].T for value in CLASSES]
    return classes if all(len(members) for members in classes) else None
