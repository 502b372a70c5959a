"""The training as MONAI Label's task."""

from collections.abc import Mapping
from typing import Any, get_args

from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.train import TrainTask

from cvm_monai.label_app.app_settings import AppSettings
from cvm_monai.label_app.current import CurrentNetwork
from cvm_monai.label_app.running import recorded, say
from cvm_monai.label_app.training import DEFAULTS, KNOBS, Start, check_training, read_knobs, summary, train

SHOWN = ("learning_rate", "batch_size", "pairs", "seed")
"""Knobs that clients are shown beside `DEFAULTS`."""


class CvmTrainTask(TrainTask):
    """Trains the bundle's network on every image that has a label of the tag `final`, and takes it into use.

    Args:
        settings: of the app.
        current: the network in use.
    """

    def __init__(self, settings: AppSettings, current: CurrentNetwork) -> None:
        super().__init__("Trains from points by partial cross-entropy and the contrast-based variational model")
        self.settings, self.current = settings, current

    def config(self) -> dict[str, Any]:
        """Values that a client may change; lists are choices, the first is taken."""
        shown: dict[str, Any] = {name: KNOBS[name].default for name in SHOWN} | dict(DEFAULTS)
        return shown | {"start": list(get_args(Start)), "supervision": ["cvm", "partial_ce"]}

    def stats(self) -> dict[str, Any]:
        output_dir = self.current.output_dir()
        return {} if output_dir is None else summary(output_dir)

    def check(self, request: Mapping[str, Any], datastore: Any) -> None:
        """Refuse at once what the training would refuse after its start.

        Raises:
            ValueError: as `check_training`.
        """
        current = self.current.output_dir()
        check_training(datastore.labels_of(), settings=self.settings, current=current, knobs=read_knobs(request))

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any]:
        labelled = datastore.labels_of()
        with recorded(self.settings.work, request):
            knobs, current = read_knobs(request), self.current.output_dir()
            trained = train(labelled, settings=self.settings, current=current, knobs=knobs, say=say)
            self.current.use(trained.output_dir)
        return {"output_dir": trained.output_dir.name, "images": trained.images} | summary(trained.output_dir)
