"""Instantiate and run an engine of the configuration by its id."""

from contextlib import nullcontext
from typing import Any

import ignite.distributed as idist
from monai.bundle import ConfigParser

from cvm_monai.engines.processes import sole_writer
from cvm_monai.engines.workflow import running_parser
from cvm_monai.errors import CvmError

from .errors import exit_on_error
from .processes import ENDED, LOST, Terminated, is_lost, say_once


def launch(engine: str, finished: str | None = None, writes: str | None = None) -> None:
    """Instantiate the engine `engine` (such as `train#trainer`) of the running configuration and run it.

    It is given by id, so that errors of its instantiation also end as one sentence. If its run returns an object with
    an `exit_code` other than 0, the process ends with it. If the entry `finished` of the configuration is a sentence,
    it is printed and nothing is run. `writes` is a folder that no other run may hold at the same time.
    """
    parser = running_parser("launch")
    with exit_on_error(), nullcontext() if writes is None else sole_writer(writes):
        sentence = None if finished is None else parser.get_parsed_content(finished)
        if sentence is not None:
            if idist.get_rank() == 0:
                print(sentence, flush=True)
            return
        result = _run(parser, engine)
    code = getattr(result, "exit_code", 0)
    if isinstance(code, int) and code:
        raise SystemExit(code)


def _run(parser: ConfigParser, engine: str) -> Any:
    """Run the engine; report it if another process of the training has died."""
    try:
        return parser.get_parsed_content(engine).run()
    except Terminated:
        say_once(f"error: {ENDED}")
        raise
    except RuntimeError as error:
        if is_lost(error):
            raise CvmError(LOST) from error
        raise
