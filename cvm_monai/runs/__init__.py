"""What a training, a comparison, a slide or a command leaves behind: its folder's record, and its run in MLflow.

`folder` is the record `run.json`, the same for all four; `tracking` the run in MLflow, `outbox` what it could not be
told yet, and `store` MLflow's databases and servers.
"""

from cvm_monai.runs.folder import RUN_FILE, OutputRecord, RunFolder, Status, TrainedKnobs

__all__ = ["RUN_FILE", "OutputRecord", "RunFolder", "Status", "TrainedKnobs"]
