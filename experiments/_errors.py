"""Errors that a user can cause and mend. Commands print them as one sentence, without a traceback."""


def expected() -> tuple[type[Exception], ...]:
    """The kinds of these errors. An `except` clause calls this once there is an error, and their modules load then."""
    from scaling import laws
    from scaling.fields import ConfigError, DataError, EvaluateError
    from scaling.results import logs, records
    from scaling.store import checkpoint, files
    from scaling.study.restored import RestoreError

    return (ConfigError, DataError, EvaluateError, RestoreError, checkpoint.CheckpointError, checkpoint.NoCheckpoint,
            files.DamagedFile, files.DiskFull, files.WorkdirError, laws.LawError, logs.LogError, records.RecordError)
