"""Label images of a network of more than two classes."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from cvm_monai.inference import SavePredictiond, ToProbabilityd, predict, predict_classes, write_classes


class ByColour(nn.Module):
    """The logit of class c is ten times the image's channel c."""

    def forward(self, x):
        return 10 * x


STRIPES = np.zeros((64, 96, 3), dtype=np.uint8)
for stripe in range(3):
    STRIPES[:, 32 * stripe : 32 * (stripe + 1), stripe] = 255
PLAIN = {"image_mean": (0, 0, 0), "image_std": (1, 1, 1)}


def test_the_likeliest_class_of_each_pixel_is_that_of_its_colour():
    probabilities = predict_classes(ByColour(), STRIPES, **PLAIN)
    assert probabilities.shape == (3, 64, 96)
    np.testing.assert_allclose(probabilities.sum(0), 1, atol=1e-6)
    np.testing.assert_array_equal(probabilities.argmax(0), np.repeat([[0, 1, 2]], 32, axis=1).repeat(64, axis=0))
    np.testing.assert_allclose(probabilities[1, 0, 40], np.exp(10) / (np.exp(10) + 2), rtol=1e-5)


def test_the_probability_of_one_target_is_refused():
    with pytest.raises(ValueError, match="the network distinguishes 3 classes, not two: use predict_classes"):
        predict(ByColour(), STRIPES, **PLAIN)


@pytest.mark.parametrize("with_probabilities", [False, True])
def test_files_hold_class_numbers_and_the_probabilities_that_are_asked_for(tmp_path, with_probabilities):
    probabilities = np.array([[[0.7, 0.2, 0.0]], [[0.2, 0.5, 0.0]], [[0.1, 0.3, 1.0]]])
    labels = write_classes(tmp_path, "a", probabilities, with_probabilities=with_probabilities)
    assert labels.tolist() == [[0, 1, 2]]
    names = {"a_probability_1.png": [[51, 128, 0]], "a_probability_2.png": [[26, 76, 255]]}
    files = {"a_mask.png": [[0, 1, 2]]} | (names if with_probabilities else {})
    assert {file.name: np.array(Image.open(file)).tolist() for file in tmp_path.iterdir()} == files


def test_the_transforms_take_three_classes_as_they_take_two(tmp_path):
    logits = torch.tensor([[[0.0, 9.0]], [[9.0, 0.0]], [[0.0, 0.0]]])
    item = ToProbabilityd()({"case_id": "a", "pred": logits, "full_shape": (1, 2)})
    assert item["pred"].shape == (3, 1, 2)
    saved = SavePredictiond(folder=tmp_path)(item)
    assert saved["mask"].tolist() == [[[1, 0]]]
    assert [file.name for file in tmp_path.iterdir()] == ["a_mask.png"]
