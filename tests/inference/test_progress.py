"""What is seen while images are segmented."""

import logging

import torch
from ignite.engine import Engine

from cvm_monai.inference import ImageProgress


def run(*, enabled: bool | None) -> None:
    mask = torch.zeros(1, 4, 5, dtype=torch.uint8)
    mask[:, :1] = 1

    def step(engine: Engine, name: str) -> list:
        engine.state.batch = [{"case_id": name}]
        return [{"mask": mask}]

    engine = Engine(step)
    ImageProgress(folder="RUN/prediction", enabled=enabled).attach(engine)
    engine.run(["a", "b"], max_epochs=1)


def test_each_image_is_one_line_where_no_terminal_watches(caplog):
    caplog.set_level(logging.INFO, logger="cvm_monai")
    run(enabled=False)
    lines = [record.message for record in caplog.records if record.name.startswith("cvm_monai")]
    assert lines[0].startswith("image 1/2: a, 5 x 4 px, 25.0% target, ")
    assert lines[1].startswith("image 2/2: b, ")
    assert lines[2] == "2 images segmented into RUN/prediction"


def test_a_terminal_shows_a_bar_instead(caplog, capsys):
    caplog.set_level(logging.INFO, logger="cvm_monai")
    run(enabled=True)
    assert "images: 100%" in capsys.readouterr().err
    assert [record.message for record in caplog.records if "image 1" in record.message] == []
