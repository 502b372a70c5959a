"""Which augmentation a training takes where nobody chose one."""

from cvm_monai.data.augmentation import AugmentationName

FULL = ("strong_partial_ce",)
"""The ways of learning that are defined with the full augmentation; all others share the standard one."""


def default_augmentation(*, supervision: str) -> AugmentationName:
    """`full` for the way of learning that is defined with it, `standard` for every other."""
    return "full" if supervision in FULL else "standard"
