"""Errors that a user can cause and mend. Commands print them as one sentence, without a traceback."""

from scaling import laws
from scaling.fields import ConfigError, DataError, EvaluateError
from scaling.results import logs, records
from scaling.store import checkpoint, files
from scaling.study.restored import RestoreError

EXPECTED = (ConfigError, DataError, EvaluateError, RestoreError, checkpoint.CheckpointError, checkpoint.NoCheckpoint,
            files.DamagedFile, files.DiskFull, files.WorkdirError, laws.LawError, logs.LogError, records.RecordError)
