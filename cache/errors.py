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
    │   └── LayerError              the target layer does not exist or is not spatial
    └── MethodError             a method is unknown, has wrong parameters or cannot explain this network
"""


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


class LayerError(ModelError):
    """The target layer does not exist or is not spatial."""


class MethodError(GazelakeError):
    """A method is unknown, has wrong parameters or cannot explain this network."""
