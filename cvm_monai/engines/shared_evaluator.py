"""An evaluator for one of several processes, which may have nothing to evaluate."""

from typing import Any

from monai.engines import SupervisedEvaluator


class SharedEvaluator(SupervisedEvaluator):
    """`SupervisedEvaluator` for a share of the cases, as of `ShareSampler`.

    MONAI's skips the run of a process that has no case; the others would wait for its part of the metrics forever. This
    one makes an iteration without images, so that all events happen in every process.

    Args:
        kwargs: as `SupervisedEvaluator`.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if self.state.epoch_length == 0:
            self.data_loader, self.state.epoch_length = [None], 1

    def _iteration(self, engine: Any, batchdata: Any) -> Any:
        if batchdata is not None:
            return super()._iteration(engine, batchdata)
        engine.state.batch, engine.state.output = [], []
        return engine.state.output
