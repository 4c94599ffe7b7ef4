"""Who else can read a secret that is kept in a file."""

import os
import stat


def others_may_read(status: os.stat_result) -> bool:
    """Tell whether a file lets anybody but this process and root read it.

    A group may, where root gave the file to a group of ours and nobody of it can
    write it: so Kubernetes hands secrets to a pod that is not root (`fsGroup`).

    Args:
        status: Of the open file, so that it is the one that is read.
    """
    mode = stat.S_IMODE(status.st_mode)
    if mode & stat.S_IRWXO:
        return True
    if not mode & stat.S_IRWXG:
        return False
    is_given = status.st_uid == 0 and os.geteuid() != 0
    # Root's own group is what is shown of a credential of systemd 254 and newer, which
    # an access list gives to us alone. Source: systemd ``exec-credential.c``.
    is_ours = status.st_gid in {0, os.getegid(), *os.getgroups()}
    return not (is_given and is_ours and mode & stat.S_IRWXG == stat.S_IRGRP)


def shown_mode(status: os.stat_result) -> str:
    """Write the permission bits as chmod takes them: 0640."""
    return f"{stat.S_IMODE(status.st_mode):04o}"
