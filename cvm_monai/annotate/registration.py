"""Register a training's network in MLflow's registry; a training that was not tested is tested first."""

import subprocess
from pathlib import Path

from cvm_monai.annotate.dataset import TESTED_FROM, keeps_a_test
from cvm_monai.annotate.training import last_line
from cvm_monai.bundle_files import as_entry, checked_bundle, config_file
from cvm_monai.errors import CvmError
from cvm_monai.interactive.trainings import bundle_command, training_environment

LOG = "evaluating.log"


def register_training(output: Path, name: str) -> tuple[str, str]:
    """Register the network of an output folder under a name; returns the name and the new version.

    Raises:
        CvmError: the training kept no images for a test, the test failed, or the registry refuses.
    """
    from cvm_monai.registry import RegistrationRequest, register

    request = RegistrationRequest(output=output, name=name)
    if not (output / "evaluation").is_dir():
        _evaluate(output)
    done = register(request)
    return done.name, str(done.version)


def _evaluate(output: Path) -> None:
    """Test the network on the fold that it was not trained on.

    Raises:
        CvmError: there is no such fold, or the test failed.
    """
    if not keeps_a_test(output):
        raise CvmError(
            "a network is registered with its test, and this training used every image and kept none for it: annotate "
            f"images of at least {TESTED_FROM} patients, and train again"
        )
    configs = checked_bundle() / "configs"
    both = [str(config_file(configs, one)) for one in ("train", "evaluate")]
    with (output / LOG).open("wb") as log:
        code = subprocess.run(
            bundle_command("evaluating", repr(both), {"output_dir": as_entry(output)}),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=training_environment(),
            check=False,
        ).returncode
    if code != 0:
        raise CvmError(f"the test of the network failed: {last_line(output / LOG)}")
