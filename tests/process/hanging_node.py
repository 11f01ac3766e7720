"""A node whose participant hangs in its first training, and which notices that soon: as ``p2pfl-node``."""

import threading
from typing import NoReturn

from appliance.cli.main import main
from appliance.node import node
from appliance.training.trainer import Trainer


def _hang(*_: object, **__: object) -> NoReturn:
    threading.Event().wait()
    raise AssertionError("nobody sets it")


if __name__ == "__main__":
    Trainer.train = _hang  # type: ignore[method-assign]
    vars(node)["PARTICIPANT_HANGS_AFTER_S"] = 3.0
    main()
