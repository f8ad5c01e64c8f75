"""Une correction et ses deux petites matrices : la meilleure de ce rang, et celle que l'image montre."""

import pytest
import torch

from gpt_lightning.demos import lora


@pytest.mark.parametrize("rank", [1, 3, 12])
def test_the_two_small_matrices_are_the_best_of_their_rank(rank, tmp_path):
    found = lora.compute(12, rank)
    left, values, right = torch.linalg.svd(found.full)
    best = left[:, :rank] * values[:rank] @ right[:rank]
    torch.testing.assert_close(found.b @ found.a, best, atol=1e-5, rtol=1e-5)
    share = 1 - (found.full - best).norm() ** 2 / found.full.norm() ** 2
    assert found.shares[rank - 1] == pytest.approx(float(share), abs=1e-5)
    paths = lora.render(found, tmp_path)
    assert [path.name for path in paths] == ["lora.pdf", "lora.png"]
    assert all(path.stat().st_size > 1000 for path in paths)


def test_a_rank_larger_than_the_matrix_is_one_sentence(command, tmp_path):
    done = command("gpt_lightning.demos.lora", "size=8", "rank=9", cwd=tmp_path)
    assert done.returncode == 1 and "rank=9" in done.stderr and "Traceback" not in done.stderr
    done = command("gpt_lightning.demos.lora", "size=8", "rank=2", "output_dir=images", cwd=tmp_path)
    assert done.returncode == 0 and (tmp_path / "images" / "lora.png").exists(), done.stderr
