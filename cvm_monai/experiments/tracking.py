"""The MLflow run that all runs of a comparison are nested under."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from cvm_monai.engines.provenance import write_json
from cvm_monai.engines.tracking import TrackedRun, check_tracking_uri, default_tracking_uri, unique_run_name

RECORD = "comparison.json"
EXPERIMENT = "cvm_monai"


class ParentRun:
    """One MLflow run for a comparison, opened again by a later command on the same output folder.

    Args:
        output: gets `comparison.json` with the run's id and, by default, MLflow's database.
        tracking_uri: database or server, or `none`; by default as `default_tracking_uri`.
        experiment: of MLflow.
    """

    def __init__(self, output: Path, *, tracking_uri: str | None = None, experiment: str = EXPERIMENT) -> None:
        self.output = output
        self.tracking_uri = tracking_uri or default_tracking_uri(output_dir=str(output))
        check_tracking_uri(self.tracking_uri)
        artifacts = output / "mlruns"
        self.run = TrackedRun(tracking_uri=self.tracking_uri, experiment=experiment, artifact_dir=artifacts)

    def open(self) -> str | None:
        """The run's id, joined or new; None where tracking is off."""
        record = self._record()
        known = record.get("mlflow_run_id") if record.get("mlflow_tracking_uri") == self.tracking_uri else None
        if not self.run.join(known):
            self.run.start(unique_run_name(prefix="compare"))
        facts = {"mlflow_run_id": self.run.run_id, "mlflow_tracking_uri": self.tracking_uri}
        write_json(self.output / RECORD, {**record, **facts})
        return self.run.run_id

    def close(self, status: str, *, facts: Mapping[str, object], files: Sequence[Path] = ()) -> None:
        """Store the report, and end the run: FINISHED, FAILED or KILLED."""
        self.run.tags(facts)
        for file in files:
            self.run.artifact(file)
        self.run.end(status)

    def _record(self) -> dict[str, str]:
        try:
            record = json.loads((self.output / RECORD).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return record if isinstance(record, dict) else {}
