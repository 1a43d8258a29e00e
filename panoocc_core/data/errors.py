"""What the readers of data sets raise."""


class DataError(ValueError):
    """A data set that cannot be read; the message names the file or the record and what to do."""
