"""What programs do to a mail store (maildir): deliver, or read and clear out.

maildir.py BOX deliver NUMBER MAILS
maildir.py BOX read NUMBER        until its standard input ends; prints what it expunged
"""

from __future__ import annotations

import os
import random
import select
import sys


def deliver(box: str, number: int, mails: int) -> None:
    """As a delivery agent: written and synced in tmp, then linked or renamed into new."""
    for mail in range(mails):
        name = f"{number}.{mail}"
        fd = os.open(f"{box}/tmp/{name}", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        os.write(fd, f"Subject: {name}\n\n".encode() + b"body\n" * (mail * 7))
        if mail % 3 == 0:
            os.fsync(fd)
        os.close(fd)
        if mail % 2:
            os.link(f"{box}/tmp/{name}", f"{box}/new/{name}")
            os.unlink(f"{box}/tmp/{name}")
        else:
            os.rename(f"{box}/tmp/{name}", f"{box}/new/{name}")


def read(box: str, number: int) -> None:
    """As a mail reader: from new to cur, flags in the name, some expunged. Others do so too."""
    dice = random.Random(number)
    last = False
    while True:
        for name in os.listdir(f"{box}/new"):
            take(f"{box}/new/{name}", f"{box}/cur/{name}:2,")
        for name in os.listdir(f"{box}/cur"):
            seen = name.replace(":2,", ":2,S")
            if name.endswith(":2,") and take(f"{box}/cur/{name}", f"{box}/cur/{seen}"):
                with open(f"{box}/cur/{seen}", "rb") as mail:
                    subject = mail.readline().decode().split()[1]
                assert subject == name.partition(":")[0], (subject, name)
                # Only who marked it may remove it: the name is this program's now.
                if dice.random() < 0.4:
                    os.unlink(f"{box}/cur/{seen}")
                    print(subject)
        if last:
            return
        last = bool(select.select([sys.stdin], [], [], 0)[0])


def take(old: str, new: str) -> bool:
    try:
        os.rename(old, new)
    except FileNotFoundError:  # the other reader was faster
        return False
    return True


if __name__ == "__main__":
    if sys.argv[2] == "deliver":
        deliver(sys.argv[1], int(sys.argv[3]), int(sys.argv[4]))
    else:
        read(sys.argv[1], int(sys.argv[3]))
