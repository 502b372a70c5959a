"""The parent MLflow run of all runs of a comparison."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from cvm_monai.engines.tracking import TrackedRun, check_tracking_uri, default_tracking_uri, unique_run_name
from cvm_monai.errors import CvmError
from cvm_monai.files import read_record, write_json

RECORD = "comparison.json"
EXPERIMENT = "cvm_monai"
COMPARE = "compare"
"""Name of the study of Table 1; ablations have other names."""


class ParentRun:
    """One MLflow run per comparison, reopened by a later command on the same output folder.

    Args:
        output: folder of `comparison.json` with the run's id and, by default, MLflow's database.
        tracking_uri: database or server, or `none`; by default as `default_tracking_uri`.
        experiment: of MLflow.
        study: name of the study, in one word.
    """

    def __init__(
        self, output: Path, *, tracking_uri: str | None = None, experiment: str = EXPERIMENT, study: str = COMPARE
    ) -> None:
        self.output = output
        self.study = study
        self.tracking_uri = tracking_uri or default_tracking_uri(output_dir=str(output))
        check_tracking_uri(self.tracking_uri)
        artifacts = output / "mlruns"
        self.run = TrackedRun(tracking_uri=self.tracking_uri, experiment=experiment, artifact_dir=artifacts)

    def open(self) -> str | None:
        """Return the run's id, joined or new; None if tracking is off."""
        record = _read(self.output)
        known = record.get("mlflow_run_id") if record.get("mlflow_tracking_uri") == self.tracking_uri else None
        if not self.run.join(known):
            self.run.start(unique_run_name(prefix=self.study))
        facts = {"mlflow_run_id": self.run.run_id, "mlflow_tracking_uri": self.tracking_uri, "study": self.study}
        write_json(self.output / RECORD, {**record, **facts})
        return self.run.run_id

    def close(self, status: str, *, facts: Mapping[str, object], files: Sequence[Path] = ()) -> None:
        """Log the report, and end the run as FINISHED, FAILED or KILLED."""
        self.run.tags(facts)
        for file in files:
            self.run.artifact(file)
        self.run.end(status)


def check_study(output: Path, study: str) -> None:
    """Refuse an output folder of another study, whose report and data set would be overwritten.

    Raises:
        CvmError: the message names the study in the folder.
    """
    found = _read(output).get("study", COMPARE) if (output / RECORD).is_file() else study
    if found != study:
        raise CvmError(f"{output} holds the runs and the report of another study ({found}): choose another --output")


def _read(output: Path) -> dict[str, str]:
    return read_record(output / RECORD) or {}
