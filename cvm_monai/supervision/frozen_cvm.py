"""The proposed method on frozen features, to measure the benefit of training features and u together (ours)."""

from typing import Any, ClassVar

from cvm_monai.supervision.cvm import ContrastVariational


class FrozenContrastVariational(ContrastVariational):
    """`cvm` with u from the features of a frozen extractor instead of Feature Map 2; the loss is the same (Eq. 2).

    Args:
        settings: of `ContrastVariational`; `evidence` is `frozen`.

    Raises:
        CvmError: a constant out of its range, naming it, or an error of `FrozenFeatures`.
    """

    name: ClassVar[str] = "frozen_cvm"
    title: ClassVar[str] = "CVM on frozen features"
    beyond_paper: ClassVar[str] = "pseudo-labels from the frozen extractor's features"

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{**settings, "evidence": "frozen"})
