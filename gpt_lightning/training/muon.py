"""Muon pour les matrices cachées, AdamW pour le reste : un seul optimiseur, un seul état.

Source : Jordan et al., « Muon: An optimizer for hidden layers in neural networks », 2024 ; l'échelle qui permet de
garder le taux d'apprentissage d'AdamW vient de Liu et al., « Muon is Scalable for LLM Training », 2025.
"""

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import torch
from torch import Tensor

from gpt_lightning.errors import UserError, number, whole

Group: TypeAlias = dict[str, Any]  # des paramètres, et les réglages que l'optimiseur leur applique
COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # du polynôme qui amène les valeurs singulières près de 1


class MuonAdamW(torch.optim.AdamW):
    """AdamW, dont les groupes marqués `muon=True` suivent la règle de Muon.

    Leurs paramètres sont des matrices. Le gradient, lissé par un moment de Nesterov qui monte de 0,85 à `momentum`
    pendant `momentum_warmup` pas, est orthogonalisé en `ns_steps` itérations, puis mis à l'échelle d'un pas d'AdamW :
    `lr` est donc le même pour tous. Avec `half`, l'orthogonalisation est en bf16. UserError sur une valeur impossible.
    """

    def __init__(
        self,
        params: Iterable[Group],
        *,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.95),
        eps: float = 1e-8,
        momentum: float = 0.95,
        momentum_warmup: int = 300,
        ns_steps: int = 5,
        fused: bool | None = None,
        half: bool = False,
    ) -> None:
        if number("optim.momentum", momentum) >= 1:
            raise UserError(f"optim.momentum={momentum} : il faut moins de 1.")
        rule = {
            "momentum": momentum,
            "momentum_start": min(0.85, momentum),
            "momentum_warmup": whole("optim.momentum_warmup", momentum_warmup, 0),
            "ns_steps": whole("optim.ns_steps", ns_steps),
        }
        groups = [{**group, **rule} if group.get("muon") else group for group in params]
        super().__init__(groups, lr=lr, betas=betas, eps=eps, fused=fused)
        self._dtype = torch.bfloat16 if half else torch.float32

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        groups = self.param_groups
        for group in groups:
            if group.get("muon"):
                self._step_muon(group)
        self.param_groups = [group for group in groups if not group.get("muon")]
        try:
            if self.param_groups:
                super().step()
        finally:
            self.param_groups = groups
        return loss

    def _step_muon(self, group: Group) -> None:
        parameters = [p for p in group["params"] if p.grad is not None]
        # non nul : ce pas ne change rien, comme pour AdamW
        found_inf: Tensor | None = getattr(self, "found_inf", None)
        void = None if found_inf is None else found_inf > 0
        by_shape: dict[torch.Size, list[Tensor]] = {}
        for p in parameters:
            state = self.state[p]
            if not state:
                state["momentum_buffer"], state["step"] = torch.zeros_like(p), torch.zeros(())
            state["step"] += 1
            by_shape.setdefault(p.shape, []).append(p)
        for shape, same in by_shape.items():
            momentum = _momentum(float(self.state[same[0]]["step"]), group)
            updates = []
            for p in same:
                assert p.grad is not None  # les autres sont écartés plus haut
                buffer = self.state[p]["momentum_buffer"]
                if void is None:
                    buffer.lerp_(p.grad, 1 - momentum)
                else:
                    buffer.copy_(torch.where(void, buffer, buffer.lerp(p.grad, 1 - momentum)))
                updates.append(p.grad.lerp(buffer, momentum))  # Nesterov
            scale = group["lr"] * 0.2 * max(shape) ** 0.5  # la taille d'un pas d'AdamW
            decay = 1 - group["lr"] * group["weight_decay"]
            stacked = torch.stack(updates).to(self._dtype)
            for p, update in zip(same, orthogonalise(stacked, group["ns_steps"]), strict=True):
                if void is None:
                    p.mul_(decay).add_(update.to(p.dtype), alpha=-scale)
                else:
                    p.copy_(torch.where(void, p, (p * decay).add(update.to(p.dtype), alpha=-scale)))


def orthogonalise(matrices: Tensor, steps: int = 5) -> Tensor:
    """Rapproche de 1 toutes les valeurs singulières de chaque matrice (entre 0,7 et 1,2) : (N, A, B) -> (N, A, B).

    Itération de Newton-Schulz de degré 5, dans le type de `matrices` : le bf16 lui suffit.
    """
    a, b, c = COEFFICIENTS
    x = matrices
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)  # norme spectrale au plus 1
    for _ in range(steps):
        gram = torch.bmm(x, x.mT)
        # (a + b G + c G²) X
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


def _momentum(step: float, group: Group) -> float:
    """Le moment du pas `step` (le premier est 1) : il monte en ligne droite pendant `momentum_warmup` pas."""
    done = min(1.0, step / group["momentum_warmup"]) if group["momentum_warmup"] else 1.0
    return group["momentum_start"] + done * (group["momentum"] - group["momentum_start"])
