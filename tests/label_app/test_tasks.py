"""What MONAI Label runs."""

from types import SimpleNamespace

import pytest


def test_a_batch_goes_on_after_a_bad_image(monailabel):
    from cvm_monai.label_app.tasks import OneAtATime

    asked = []

    def infer(request, store):
        asked.append(request["image"])
        if request["image"] != "c":
            raise {"a": ValueError("it cannot be opened"), "b": RuntimeError("a layer is broken")}[request["image"]]
        return {"label": "c", "file": None}

    store = SimpleNamespace(list_images=lambda: ["c", "b", "a"])
    results = OneAtATime("cpu")({"images": "all"}, store, infer)
    assert asked == ["a", "b", "c"]
    assert results["a"] == {"error": "it cannot be opened"}
    assert results["b"] == {"error": "a layer is broken"}
    assert results["c"]["label"] == "c"
    store.list_images = lambda: ["a", "b"]
    with pytest.raises(ValueError, match="none of the 2 images was segmented: a: it cannot be opened; b: a layer"):
        OneAtATime("cpu")({"images": "all"}, store, infer)
