"""Everything about bytes on disk: whole or absent, named by content, appended and never edited.

A name that begins with "." and ends in ".tmp" is the debris of a killed writer: nobody reads it, and anybody
may delete it while no writer is at work.
"""

from interp.store.files import only_writer, read_json, write_bytes, write_json
from interp.store.folders import FileStamp, Manifest, new_folder, read_folder, seal
from interp.store.identity import fingerprint
from interp.store.records import GitState, RunRecord
from interp.store.rows import Rows
from interp.store.workspaces import Workspace, workspace

__all__ = [
    "FileStamp",
    "GitState",
    "Manifest",
    "Rows",
    "RunRecord",
    "Workspace",
    "fingerprint",
    "new_folder",
    "only_writer",
    "read_folder",
    "read_json",
    "seal",
    "workspace",
    "write_bytes",
    "write_json",
]
