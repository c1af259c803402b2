"""How many of the packages' texts the snapshots show; the others are listed, and are not to become more."""

import os

from tests.messages.sites import shown, template, texts
from tests.messages.snapshots import FOLDER, UPDATE

NOT_SHOWN = FOLDER / "not_shown.list"
"""Texts that no snapshot shows yet, one a line, names of threads and the like among them."""
MOST_NOT_SHOWN = 290
"""Lower it as cases are added; a new message needs a case."""


def test_few_texts_are_left_out() -> None:
    said = " ".join(word for path in sorted(FOLDER.glob("*.txt")) for word in path.read_text("utf-8").split())
    every = texts()
    missing = sorted({template(parts) for parts in every if not shown(parts, said)})
    print(f"{len(every) - len(missing)} of {len(every)} texts are shown")
    if os.environ.get(UPDATE) == "1":
        NOT_SHOWN.write_text("".join(f"{text}\n" for text in missing), encoding="utf-8")
    listed = NOT_SHOWN.read_text("utf-8").splitlines()
    new = "\n".join(text for text in missing if text not in listed)
    assert len(missing) <= MOST_NOT_SHOWN, f"no snapshot shows these; add cases to tests/messages:\n{new}"
