"""The proposed method on features that never change: what the co-training of features and u is worth. (Ours.)"""

from typing import Any, ClassVar

from cvm_monai.supervision.cvm import ContrastVariational


class FrozenContrastVariational(ContrastVariational):
    """`cvm` with u from the features of a frozen extractor in place of Feature Map 2; the loss is the same (Eq. 2).

    u does not depend on the network that trains, so that it is made once, at the first low.

    Args:
        settings: of `ContrastVariational`; `evidence` is `frozen`.

    Raises:
        CvmError: a constant out of its range, naming it, or whatever `FrozenFeatures` finds.
    """

    name: ClassVar[str] = "frozen_cvm"
    title: ClassVar[str] = "CVM on frozen features"
    beyond_paper: ClassVar[str] = "pseudo-labels from the frozen extractor's features"
    renews_once: ClassVar[bool] = True

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{**settings, "evidence": "frozen"})
