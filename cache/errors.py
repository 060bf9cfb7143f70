"""The errors that a user can cause, drawn once.

Every one of them is a single sentence that says what was wrong, with what, and what to do. The command lines
print that sentence and leave with exit code 2; the dashboard shows it on the page.

::

    GazelakeError
    ├── RunError                the run directory cannot be used
    │   ├── RunNotFoundError        there is no run at that path (or it went away)
    │   ├── RunSchemaError          the run was written by another schema version
    │   ├── RunDamagedError         a file that the manifest names is missing or has other bytes
    │   ├── RunBusyError            another process is writing the run
    │   ├── RunMismatchError        the run belongs to another dataset, model or preprocessing
    │   └── RunStorageError         the disk is full, read-only or gone
    ├── FilterError             a filter names a field, class, method or value that the run does not have
    │   └── RegionError             a region is not a box, polygon or mask inside the unit square
    ├── ConfigError             a command-line option or configuration file is wrong
    ├── DatasetError            the dataset is missing, empty or malformed
    ├── ModelError              the model cannot be loaded or does not behave like a classifier
    │   ├── LayerError              the target layer does not exist or is not spatial
    │   └── MemoryShortError        not even one image fits the memory of the device
    ├── ReviewError             a tag, note, verdict, view or undo cannot be written down as it is
    │   └── ReviewStoreError        the reviews are locked, read-only, gone, damaged or of another version
    ├── BundleError             a bundle cannot be made, or what was handed in is none to be trusted
    └── MethodError             a method is unknown, has wrong parameters or cannot explain this network
"""

from __future__ import annotations

import reprlib

_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = _REPR.maxlong = 60
_REPR.maxlevel, _REPR.maxlist, _REPR.maxtuple, _REPR.maxdict = 2, 4, 4, 3


def shown(value: object) -> str:
    """Write someone's value into a sentence: on one line, no longer than it is useful, whatever it is."""
    try:
        return " ".join(_REPR.repr(value).split())
    except Exception:  # numbers too long to print, objects of one's own
        return f"an object of type {type(value).__name__}"


class GazelakeError(Exception):
    """A mistake that a user can mend; its message is one sentence that says how."""


class RunError(GazelakeError):
    """The run directory cannot be used."""


class RunNotFoundError(RunError):
    """There is no run at that path."""


class RunSchemaError(RunError):
    """The run was written by another schema version."""


class RunDamagedError(RunError):
    """A file that the manifest names is missing or holds other bytes."""


class RunBusyError(RunError):
    """Another process is writing the run."""


class RunMismatchError(RunError):
    """The run belongs to another dataset, model or preprocessing."""


class RunStorageError(RunError):
    """The disk that holds the run is full, read-only or gone."""


class FilterError(GazelakeError):
    """A filter names something that the run does not have."""


class RegionError(FilterError):
    """A region is not a box, polygon or mask inside the unit square."""


class ConfigError(GazelakeError):
    """An option or a configuration file is wrong."""


class DatasetError(GazelakeError):
    """The dataset is missing, empty or malformed."""


class ModelError(GazelakeError):
    """The model cannot be loaded or does not behave like a classifier."""


class MemoryShortError(ModelError):
    """Not even one image fits the memory of the device."""


class LayerError(ModelError):
    """The target layer does not exist or is not spatial."""


class ReviewError(GazelakeError):
    """A tag, note, verdict, view or undo cannot be written down as it is."""


class ReviewStoreError(ReviewError):
    """The database of reviews is locked, read-only, gone, damaged or of another version."""


class BundleError(GazelakeError):
    """A bundle cannot be made, or what was handed in is none to be trusted."""


class MethodError(GazelakeError):
    """A method is unknown, has wrong parameters or cannot explain this network."""
