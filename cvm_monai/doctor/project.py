"""Check the data set, the tracking store and the configuration of a planned training."""

import io
import os
import sqlite3
from collections.abc import Mapping
from contextlib import closing, redirect_stderr
from pathlib import Path
from typing import Any

from cvm_monai.bundle_files import as_entry
from cvm_monai.doctor.finding import Finding
from cvm_monai.files import temporary_folder

EXAMPLE = Path("data/phantom")
"""The data set that is looked at where none is named."""


def check_data(folder: Path) -> Finding:
    """Check the data set: read its list and look for every file in it."""
    try:
        from cvm_monai.data.datalist import FILE_NAME, read_datalist

        if not (folder / FILE_NAME).exists():
            remedy = (
                "cvm-monai phantom data/phantom makes an example, cvm-monai prepare DIR --output OUT takes your own"
            )
            if folder.is_dir() or folder == EXAMPLE:
                return Finding("data", "WARN", f"no data set in {folder}", remedy)
            return Finding("data", "FAIL", f"there is no folder {folder}", remedy)
        datalist = read_datalist(folder)
    except ImportError as error:
        return Finding("data", "WARN", f"not checked: {error}", "install what is missing")
    except ValueError as error:
        return Finding("data", "FAIL", str(error), "prepare the data set again")
    return Finding("data", "PASS", f"{len(datalist.cases)} cases in {datalist.path}")


def check_store(uri: str | None, *, output: Path) -> Finding:
    """Check the MLflow store: a valid address that answers, or a writable, undamaged database.

    Args:
        uri: the knob `tracking_uri`; None: MLFLOW_TRACKING_URI, else the database in the output folder.
        output: of the training.
    """
    try:
        from cvm_monai.runs.store import check_tracking_uri, database_file, default_tracking_uri

        address = uri or default_tracking_uri(output_dir=str(output))
        check_tracking_uri(address)
        file = database_file(address)
    except ImportError as error:
        return Finding("MLflow store", "WARN", f"not checked: {error}", "install what is missing")
    except ValueError as error:
        return Finding("MLflow store", "FAIL", str(error), "correct --tracking_uri, or pass none")
    if file is None:
        return Finding("MLflow store", "PASS", "off" if address == "none" else f"{address} answers")
    return _check_database(file)


def _check_database(file: Path) -> Finding:
    place = file.absolute()
    while not place.exists():
        place = place.parent
    if not os.access(place, os.W_OK):
        remedy = "choose another --output_dir or --tracking_uri"
        return Finding("MLflow store", "FAIL", f"{file} cannot be written: {place} is read-only", remedy)
    if not file.exists():
        return Finding("MLflow store", "PASS", f"{file} will be made")
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as database:
            (state,) = database.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error as error:
        state = str(error)
    if state != "ok":
        remedy = "move it away: the next training makes a new one"
        return Finding("MLflow store", "FAIL", f"{file} is damaged: {state}", remedy)
    return Finding("MLflow store", "PASS", f"{file} is whole")


def check_config(config: Path, *, dataset: Path, knobs: Mapping[str, Any]) -> Finding:
    """Check the configuration with the given knobs by its own `initialize`; nothing is kept."""
    from cvm_monai.doctor.workflow import opened, reason, tidy

    said = io.StringIO()
    with tidy(), temporary_folder("cvm-monai-doctor-") as folder:
        try:
            with redirect_stderr(said):
                place = {"dataset_dir": as_entry(dataset), "output_dir": as_entry(folder), "tracking_uri": "none"}
                opened(config, {**knobs, **place})
        except SystemExit:
            sentence = (said.getvalue().strip().splitlines() or ["it ended without a word"])[-1]
            return Finding("configuration", "FAIL", sentence.removeprefix("error: "), f"change the knob, or {config}")
        except Exception as error:  # a configuration can have any mistake, and MONAI raises any exception
            return Finding("configuration", "FAIL", f"{config} cannot be read: {reason(error)}", "correct the file")
    return Finding("configuration", "PASS", f"{config} with {len(knobs)} changed knobs" if knobs else str(config))
