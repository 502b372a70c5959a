"""Register a finished training as a version of a model in MLflow's registry.

What can fail comes first: the run, the logged model and its files. The version is created whole, with its tags and its
description; the aliases move last, so that none ever points at an incomplete version. Where a step after the version
fails, the error says what is registered and what is missing; the same command again finds the version and finishes it.
"""

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from cvm_monai.bundle_files import checked_bundle
from cvm_monai.errors import CvmError
from cvm_monai.files import sha256, temporary_folder
from cvm_monai.registry.pages import copy_values, link_version, model_description, version_description
from cvm_monai.registry.promotion import (
    CHAMPION,
    Champion,
    Decision,
    Metric,
    check_comparable,
    decide,
    find_champion,
    find_metric,
)
from cvm_monai.registry.store import (
    check_alias,
    check_name,
    connect,
    current_store,
    fill_common_run,
    find_common_run,
    own_store,
    recorded_tests,
)
from cvm_monai.registry.trained import Trained, read_trained
from cvm_monai.runs.tracking import NOTE

EXPERIMENT = "cvm_monai"
NOT_STATED = "not stated"
STAIN = "stain"
"""A tag that only the user knows: another value makes no other version."""


@dataclass(frozen=True)
class RegistrationRequest:
    """What to register, where and under which name.

    Attributes:
        output: output folder of an evaluated training.
        name: of the registered model.
        alias: of the new version; it is moved from the version that had it.
        promote: name of a test value; if it is better than the champion's, the new version becomes `champion`.
        tracking_uri: the store; None: MLFLOW_TRACKING_URI, or else the training's own.
        stain: of the training's images, written as a tag.
        bundle: the MONAI bundle's folder; None: the package's own.
    """

    output: Path
    name: str
    alias: str = "candidate"
    promote: str | None = None
    tracking_uri: str | None = None
    stain: str = NOT_STATED
    bundle: Path | None = None


@dataclass(frozen=True)
class RegisteredVersion:
    """A version in the registry.

    Attributes:
        uri: `models:/name@alias`.
        tracking_uri: the store.
        decision: on promotion; None where none was requested.
    """

    name: str
    version: str
    uri: str
    tracking_uri: str
    decision: Decision | None


def register(request: RegistrationRequest) -> RegisteredVersion:
    """Log one MLflow model, register it as a version, set its alias; promote it if requested and better.

    A training that is already registered keeps its version; its alias, promotion and stain are set again.
    All checks that are possible are made before anything is written, and the aliases move last.

    Raises:
        CvmError: a bad name or alias, no finished and evaluated training, an unknown metric, a champion tested on
            other images, or a store that does not answer or refuses the request; where the version is registered
            by then, the message names it, what it lacks, and how to finish or remove it.

    Example:
        >>> import cvm_monai as cvm
        >>> from pathlib import Path
        >>> from cvm_monai.registry import RegistrationRequest
        >>> request = RegistrationRequest(Path("runs/mine"), name="cvm", promote="dice")
        >>> version = cvm.register(request)  # doctest: +SKIP
    """
    from mlflow.exceptions import MlflowException

    check_name(request.name)
    check_alias(request.alias)
    if request.promote and request.alias == CHAMPION:
        raise CvmError(f"--alias {CHAMPION} sets it in any case: leave out --promote_if_better, or that alias")
    bundle = checked_bundle(request.bundle)
    trained = read_trained(request.output, bundle=bundle)
    tests = recorded_tests(trained)
    uri = request.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or own_store(trained)
    metric = find_metric(request.promote, tests=tests, classes=trained.classes) if request.promote else None
    try:
        client = connect(str(uri))
        champion = find_champion(client, request.name) if metric else None
        if metric:
            check_comparable(metric, champion, trained=trained, name=request.name)
        with temporary_folder() as folder, current_store(str(uri)):
            entry = _Registration(request, trained, tests, str(uri), client)
            version = entry.find_existing()
            if version is None:
                version = entry.write(entry.save(folder, bundle))
            else:
                entry.restate(version)
    except MlflowException as error:
        raise CvmError(f"MLflow at {uri} refused: {_reason(error)}") from error
    decision = _decide(entry, version, metric, champion) if metric else None
    entry.finish(version, [request.alias, CHAMPION] if decision and decision.promoted else [request.alias])
    return RegisteredVersion(request.name, version, f"models:/{request.name}@{request.alias}", str(uri), decision)


@dataclass(frozen=True)
class _Registration:
    """One registration: its client, request, training and values."""

    request: RegistrationRequest
    trained: Trained
    tests: dict[str, float]
    uri: str
    client: Any

    def find_existing(self) -> str | None:
        """Find the version of this training, tested with the same result; None where there is none."""
        tags = {name: value for name, value in self.tags().items() if name != STAIN}
        for version in self.client.search_model_versions(f"name = '{self.request.name}'"):
            if tags.items() <= version.tags.items():
                return str(version.version)
        return None

    def restate(self, version: str) -> None:
        """Set the stain of a version where it is stated now; a description of the user's own is kept."""
        client, name, stain = self.client, self.request.name, self.request.stain
        before, tags = client.get_model_version(name, version), self.tags()
        old = before.tags.get(STAIN, NOT_STATED)
        if stain in (old, NOT_STATED):
            return
        client.set_model_version_tag(name, version, STAIN, stain)
        if before.description == version_description(self.trained, tests=self.tests, tags={**tags, STAIN: old}):
            client.update_model_version(name, version, version_description(self.trained, tests=self.tests, tags=tags))

    def save(self, folder: Path, bundle: Path) -> Path:
        """Save the MLflow model as a local folder."""
        from cvm_monai.registry.package import save_model

        return save_model(self.trained, folder, bundle=bundle, metadata=self.tags())

    def write(self, model: Path) -> str:
        """Log the model and register it; returns the version's number."""
        from cvm_monai.registry.package import public_record

        client, request = self.client, self.request
        run_id = self._run()
        run = client.get_run(run_id)
        params = {name: str(value) for name, value in public_record(self.trained)["knobs"].items()}
        logged = client.create_logged_model(
            run.info.experiment_id, name=request.name, source_run_id=run_id, params=params
        )
        _write_ids(model, model_id=logged.model_id, run_id=run_id)
        client.log_model_artifacts(logged.model_id, str(model))
        client.finalize_logged_model(logged.model_id, "READY")
        description = version_description(self.trained, tests=self.tests, tags=self.tags())
        client.set_logged_model_tags(logged.model_id, self.tags() | {NOTE: description})
        copy_values(client, model_id=logged.model_id, run_id=run_id, tests=self.tests)
        self._registered_model()
        version = client.create_model_version(
            request.name,
            source=f"models:/{logged.model_id}",
            run_id=run_id,
            model_id=logged.model_id,
            tags=self.tags(),
            description=description,
        ).version
        return str(version)

    def finish(self, version: str, aliases: list[str]) -> None:
        """Link the logged model's page to the version, then set the aliases.

        Raises:
            CvmError: MLflow refuses one of them.
        """
        from mlflow.exceptions import MlflowException

        client, name = self.client, self.request.name
        missing = ["the link of its model's page", *(f"the alias {alias}" for alias in aliases)]
        try:
            link_version(client, name=name, version=version)
            for alias in aliases:
                missing.pop(0)
                client.set_registered_model_alias(name, alias, version)
        except MlflowException as error:
            raise CvmError(
                f"MLflow at {self.uri} refused: {_reason(error)}; {name} version {version} is registered without "
                f"{' and '.join(missing)}: the same command again finishes it, and "
                f"mlflow.MlflowClient().delete_model_version({name!r}, {version!r}) removes it"
            ) from error

    def tags(self) -> dict[str, str]:
        """Return the tags of a version."""
        from cvm_monai.registry.package import package_version

        trained, knobs = self.trained, self.trained.knobs
        facts = {
            "data_sha256": trained.record.get("data_sha256"),
            "fold": trained.fold,
            "um_per_px": knobs.get("mpp"),
            "scale": knobs.get("scale"),
            STAIN: self.request.stain,
            "stain_normalisation": knobs.get("stain_normalisation"),
            "classes": ", ".join(trained.classes),
            "test_dice": self._dice(),
            "commit": trained.record.get("commit"),
            "supervision": knobs.get("supervision"),
            "network": knobs.get("network"),
            "weights_sha256": sha256(trained.weights),
            "cvm_monai": package_version(),
            "training_run": trained.record.get("mlflow_run_id"),
        }
        return {name: "not known" if value is None else str(value) for name, value in facts.items()}

    def _dice(self) -> str | None:
        if "test_dice" in self.tests:
            return f"{self.tests['test_dice']:.4f}"
        return "none: tested on points" if "test_point_count" in self.tests else None

    def _run(self) -> str:
        """Return the training's run if this is its store; else create a run that repeats the training's record."""
        from cvm_monai.runs.store import database_file
        from cvm_monai.runs.tracking import TrackedRun, unique_run_name

        record = self.trained.record
        if self.uri == record["mlflow_tracking_uri"]:
            return str(record["mlflow_run_id"])
        artifacts = (database_file(self.uri) or Path()).parent / "mlruns"
        experiment = self._experiment(artifacts)
        before = find_common_run(self.client, self.trained, experiment=experiment)
        if before is not None and self.tests.items() <= self.client.get_run(before).data.metrics.items():
            return before
        run = TrackedRun(tracking_uri=self.uri, experiment=experiment, artifact_dir=artifacts)
        run.start(unique_run_name(prefix="registered"))
        try:
            fill_common_run(run, self.client, self.trained, name=self.request.name)
        except BaseException:
            with contextlib.suppress(Exception):  # the first failure is reported
                run.end("FAILED")
            raise
        run.end("FINISHED")
        return str(run.run_id)

    def _experiment(self, artifacts: Path) -> str:
        """Return the usual experiment, or, in a database that was moved, one whose files are in the new folder."""
        from cvm_monai.runs.store import SQLITE

        found = self.client.get_experiment_by_name(EXPERIMENT) if self.uri.startswith(SQLITE) else None
        if found is None or not found.artifact_location.startswith("file:"):
            return EXPERIMENT
        place = Path(url2pathname(urlsplit(found.artifact_location).path))
        return EXPERIMENT if place.parent.is_dir() else f"{EXPERIMENT} in {artifacts.parent.resolve()}"

    def _registered_model(self) -> None:
        """Create the registered model where there is none of that name."""
        client, name = self.client, self.request.name
        if not client.search_registered_models(f"name = '{name}'"):
            client.create_registered_model(name, description=model_description(name, alias=self.request.alias))


def _decide(entry: _Registration, version: str, metric: Metric, champion: Champion | None) -> Decision:
    """Decide whether the version becomes the champion."""
    if champion is not None and champion.version == version:
        return Decision(False, f"{entry.request.name} version {version} is {CHAMPION} already.")
    return decide(metric, entry.tests[metric.name], champion, name=entry.request.name, version=version)


def _reason(error: Exception) -> str:
    """Return the first line of MLflow's message."""
    return str(error).splitlines()[0]


def _write_ids(model: Path, *, model_id: str, run_id: str) -> None:
    """Write the ids of the store into the model's description."""
    from mlflow.models import Model

    described = Model.load(str(model))
    described.model_id, described.run_id = model_id, run_id
    for artifact in described.flavors.get("python_function", {}).get("artifacts", {}).values():
        artifact["uri"] = artifact["path"]  # relative to the model: the staging path is not published
    described.save(str(model / "MLmodel"))
