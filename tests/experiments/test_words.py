import pytest

from cvm_monai.experiments.knobs import setting_words, value_of


@pytest.mark.parametrize(
    "text, value",
    [("null", None), ("None", None), ("0.5", 0.5), ("[1, 2]", [1, 2]), ("cvm", "cvm"), ("'null'", "null")],
)
def test_the_value_of_a_word(text, value):
    assert value_of(text) == value


def test_the_words_of_a_setting_mean_its_values():
    values = {"mpp": None, "lam": 0.5, "solver": "aos", "name": "None", "odd": "null", "channels": [8, 16]}
    words = dict(word.removeprefix("--").split("=", 1) for word in setting_words(values))
    assert words["mpp"] == "null"
    assert {name: value_of(text) for name, text in words.items()} == values
