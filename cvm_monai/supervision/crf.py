"""CRF regularisation (Tang et al., ECCV 2018), which favours one class for neighbours of similar colour."""

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn

from cvm_monai.errors import CvmError
from cvm_monai.losses import crf_regularisation, partial_cross_entropy
from cvm_monai.losses.checks import check_number, check_whole
from cvm_monai.losses.maps import annotated_pixels
from cvm_monai.networks.encoder import IMAGENET_MEAN, IMAGENET_STD
from cvm_monai.supervision.base import Batch, Supervision


class CrfRegularised(Supervision):
    """L = L_pce + weight * L_crf from the first epoch on, with L_crf scaled as by `crf_regularisation`.

    Args:
        weight: raising it makes segments larger and follow colour, at the cost of small parts; 0.1 to 10. The
            reference's 2e-9 is 2.1 here, or 1 with the exact sum; see `crf_regularisation` for the conversion.
        grid, sigma_xy, sigma_rgb: see `crf_regularisation`; sigma_xy is in pixels of the network's input.
        image_mean, image_std: of the normalisation of images in [0, 1], used to recover RGB.

    Raises:
        CvmError: a constant out of its range, naming it.
    """

    name: ClassVar[str] = "crf"
    title: ClassVar[str] = "CRF loss"

    def __init__(
        self,
        *,
        weight: float = 1.0,
        grid: int = 64,
        sigma_xy: float = 25.0,
        sigma_rgb: float = 15.0,
        image_mean: Sequence[float] = IMAGENET_MEAN,
        image_std: Sequence[float] = IMAGENET_STD,
    ) -> None:
        check_number("weight", weight)
        check_whole("grid", grid, low=2)
        check_number("sigma_xy", sigma_xy, above=True)
        check_number("sigma_rgb", sigma_rgb, above=True)
        for name, values in (("image_mean", image_mean), ("image_std", image_std)):
            if len(values) != 3:
                raise CvmError(f"{name} must hold one number for each of R, G and B, got {list(values)!r}")
        self.weight, self.grid, self.sigma_xy, self.sigma_rgb = weight, grid, sigma_xy, sigma_rgb
        self.image_mean, self.image_std = tuple(image_mean), tuple(image_std)

    def loss(self, network: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Compute two terms, `partial_ce` and `crf`; the second is never positive."""
        image = batch["image"]
        logits = network(image)
        std, mean = (image.new_tensor(values).reshape(3, 1, 1) for values in (self.image_std, self.image_mean))
        term = crf_regularisation(
            logits,
            (image * std + mean) * 255,
            grid=self.grid,
            sigma_xy=self.sigma_xy,
            sigma_rgb=self.sigma_rgb,
        )
        return {"partial_ce": partial_cross_entropy(logits, batch["label"]), "crf": self.weight * term}

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        """Count the annotated pixels; `crf` is a mean over images."""
        return {"partial_ce": annotated_pixels(batch["label"])}
