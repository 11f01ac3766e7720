"""Which task a configuration means: one that ships with the package, an installed plug-in, or a module of one's own."""

import importlib
import logging
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from pathlib import Path

from appliance.training.task import Task
from appliance.words.errors import OperatorError
from appliance.words.settings import Data
from appliance.words.settings import Task as TaskSettings

log = logging.getLogger(__name__)

Factory = Callable[[Data, Mapping[str, object], Path], Task]
"""Makes a task from the sections ``data`` and ``task.options`` of node.toml, and a folder for what it prepares once."""

GROUP = "p2pfl_node.tasks"
"""The entry points by which an installed package offers tasks."""
_BUILT_IN = {
    "ann": "appliance.training.images:ann",
    "cnn": "appliance.training.images:cnn",
    "tabular": "appliance.training.tabular:tabular",
}


def load(settings: TaskSettings, data: Data, cache: Path) -> Task:
    """Make the task with this node's data.

    Raises:
        OperatorError: there is no such task, or it can't be made: naming the key of the settings and the reason.
    """
    factory = find(settings)
    try:
        task = factory(data, settings.options, cache)
    except OperatorError:
        raise
    except Exception as error:
        # Somebody else's code: whatever it raises is for its author, in the log, and for the operator, in a sentence.
        log.debug("the task %s can't be made", settings.name, exc_info=error)
        raise OperatorError(f"task.name: {settings.name} can't be made ({type(error).__name__}: {error})") from error
    if not isinstance(task, Task):
        raise OperatorError(
            f"task.name: {settings.name} made no appliance.training.task.Task, but {type(task).__name__}"
        )
    return task


def find(settings: TaskSettings) -> Factory:
    """Return what makes the task; imports its module. Raises OperatorError if there is none of that name."""
    name = settings.name
    place = _BUILT_IN.get(name, name)
    if ":" not in place:
        return _installed(name)
    if settings.folder is not None and str(settings.folder) not in sys.path:
        # Last, so that it hides nothing of ours.
        sys.path.append(str(settings.folder))
    module, _, attribute = place.partition(":")
    try:
        return _callable(getattr(importlib.import_module(module), attribute), name)
    except (ImportError, AttributeError) as error:
        where = (
            f" (task.folder is {settings.folder})" if settings.folder else "; task.folder says where its module lies"
        )
        raise OperatorError(f"task.name: {name} can't be imported: {error}{where}") from error


def _installed(name: str) -> Factory:
    for found in entry_points(group=GROUP, name=name):
        try:
            return _callable(found.load(), name)
        except (ImportError, AttributeError) as error:
            raise OperatorError(f"task.name: {name} is installed and can't be imported: {error}") from error
    known = sorted({*_BUILT_IN, *entry_points(group=GROUP).names})
    raise OperatorError(f"task.name: there is no task {name}; known are {', '.join(known)}, or give MODULE:FACTORY")


def _callable(found: object, name: str) -> Factory:
    if not callable(found):
        raise OperatorError(f"task.name: {name} is {type(found).__name__}, and can't be called")
    factory: Factory = found
    return factory
