"""What an error of the disk means for a gallery, and what to do."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reid.gallery.errors import UndecidedWriteError

_REMEDIES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "Free some space"),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "Get leave to write there"),
}


@contextmanager
def saying(what: str) -> Iterator[None]:
    """Put ``what`` in front of an OSError of the disk, keeping its type and errno."""
    try:
        yield
    except (FileExistsError, FileNotFoundError, UndecidedWriteError):
        raise  # these have a message of their own
    except OSError as error:
        reason = f"{what}: {error.strerror or error}"
        remedy = _REMEDIES.get(error.errno or 0, "See to the disk")
        raise type(error)(error.errno, f"{reason}. {remedy}, then try again") from error


def gone(root: Path) -> FileNotFoundError:
    return FileNotFoundError(
        f"The gallery {root} is not there any more: its folder was deleted, moved or unmounted. "
        "Searches go on with what is in memory; put the folder back, or open the gallery where it "
        "is now."
    )
