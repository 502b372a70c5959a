"""File helpers that every package here may import: atomic replacement, locks, text, JSON and its streams, hashes.

It imports no other package of `cvm_monai`, and neither torch nor MONAI.
"""

from cvm_monai.files.atomic import (
    FULL,
    is_leftover,
    remove_all_leftovers,
    remove_folder,
    remove_leftovers,
    replacing,
    replacing_entries,
    write_bytes,
)
from cvm_monai.files.hashes import sha256, sha256_of
from cvm_monai.files.locks import LOCK, NoLocksError, check_lockable, lock_folder, made_by_one
from cvm_monai.files.packed import archived_name
from cvm_monai.files.streams import iter_json
from cvm_monai.files.temporary import (
    nameless_file,
    place_of_temporary_files,
    private_temporary_folder,
    temporary_file,
    temporary_folder,
    try_folder,
)
from cvm_monai.files.text import (
    TOO_LONG,
    first_difference,
    opened,
    opened_bytes,
    read_json,
    read_number,
    read_record,
    read_table,
    read_text,
    refuse_difference,
    shorten,
    shown,
    update_json,
    write_json,
    write_table,
    write_text,
)

__all__ = [
    "FULL",
    "LOCK",
    "TOO_LONG",
    "NoLocksError",
    "archived_name",
    "check_lockable",
    "first_difference",
    "is_leftover",
    "iter_json",
    "lock_folder",
    "made_by_one",
    "nameless_file",
    "opened",
    "opened_bytes",
    "place_of_temporary_files",
    "private_temporary_folder",
    "read_json",
    "read_number",
    "read_record",
    "read_table",
    "read_text",
    "refuse_difference",
    "remove_all_leftovers",
    "remove_folder",
    "remove_leftovers",
    "replacing",
    "replacing_entries",
    "sha256",
    "sha256_of",
    "shorten",
    "shown",
    "temporary_file",
    "temporary_folder",
    "try_folder",
    "update_json",
    "write_bytes",
    "write_json",
    "write_table",
    "write_text",
]
