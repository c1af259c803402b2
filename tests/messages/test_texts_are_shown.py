"""How many of the packages' texts the snapshots show; the others are listed, and the list does not get longer."""

import os

from tests.messages.sites import shown, template, texts
from tests.messages.snapshots import FOLDER, UPDATE

NOT_SHOWN = FOLDER / "not_shown.list"
"""Texts that no snapshot shows yet, one a line. Those that were reworded or removed since may still be listed."""


def test_no_further_text_is_left_out() -> None:
    said = " ".join(word for path in sorted(FOLDER.glob("*.txt")) for word in path.read_text("utf-8").split())
    every = texts()
    missing = sorted({template(parts) for parts in every if not shown(parts, said)})
    listed = NOT_SHOWN.read_text("utf-8").splitlines() if NOT_SHOWN.exists() else missing
    print(f"{len(every) - len(missing)} of {len(every)} texts are shown")
    if os.environ.get(UPDATE) == "1" and len(missing) <= len(listed):
        NOT_SHOWN.write_text("".join(f"{text}\n" for text in missing), encoding="utf-8")
        return
    new = "\n".join(text for text in missing if text not in listed)
    assert len(missing) <= len(listed), f"no snapshot shows these texts; add cases to tests/messages:\n{new}"
