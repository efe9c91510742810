"""Everything that can go wrong on purpose. A message says what was asked, what was found, and what to do."""


class InterpError(Exception):
    """Base of all errors that a user can mend. The command line prints the message alone, without a traceback."""

    def __init__(self, asked: str, found: str, do: str) -> None:
        self.asked, self.found, self.do = asked, found, do
        super().__init__(f"{asked}: {found}. {do[:1].upper()}{do[1:]}.")


class StoreError(InterpError):
    """A file or folder of the workspace is missing, broken, or holds something else."""


class TranscriptError(InterpError):
    """A transcript cannot be read or rendered."""


class SiteError(InterpError):
    """A site does not parse, or the model does not have it."""


class DirectionError(InterpError):
    """A direction does not fit the model, the site, or another direction."""


class EditError(InterpError):
    """An edit is impossible, or never fired."""


class ProbeError(InterpError):
    """A recipe or its data cannot give an honest probe."""


class ModelError(InterpError):
    """A model cannot be loaded or is wired wrongly."""


class ExperimentError(InterpError):
    """An experiment's plan cannot be carried out."""
