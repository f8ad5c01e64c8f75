"""Ce à quoi l'on se mesure : le modèle et la boucle de nanoGPT, à sa manière, écrits ici ; et les produits seuls."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Attention(nn.Module):
    """Q, K et V en un seul produit, puis scaled_dot_product_attention."""

    def __init__(self, width: int, heads: int, drop: float, bias: bool) -> None:
        super().__init__()
        self.heads, self.drop = heads, drop
        self.c_attn, self.c_proj = nn.Linear(width, 3 * width, bias=bias), nn.Linear(width, width, bias=bias)
        self.resid_dropout = nn.Dropout(drop)

    def forward(self, x: Tensor) -> Tensor:
        b, t, c = x.shape
        q, k, v = (
            part.view(b, t, self.heads, c // self.heads).transpose(1, 2)
            for part in self.c_attn(x).split(c, 2)
        )
        y = F.scaled_dot_product_attention(
            q, k, v, is_causal=True, dropout_p=self.drop if self.training else 0
        )
        return self.resid_dropout(self.c_proj(y.transpose(1, 2).contiguous().view(b, t, c)))


class Norm(nn.Module):
    def __init__(self, width: int, bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, 1e-5)


class Block(nn.Module):
    def __init__(self, width: int, heads: int, drop: float, bias: bool) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = Norm(width, bias), Norm(width, bias)
        self.attn = Attention(width, heads, drop, bias)
        self.c_fc, self.c_proj = (
            nn.Linear(width, 4 * width, bias=bias),
            nn.Linear(4 * width, width, bias=bias),
        )
        self.dropout = nn.Dropout(drop)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln_1(x))
        return x + self.dropout(self.c_proj(F.gelu(self.c_fc(self.ln_2(x)))))


class NanoGPT(nn.Module):
    """GPT à la manière de nanoGPT : GELU exacte, poids liés, logits entiers, init 0,02."""

    def __init__(
        self,
        vocab: int,
        block: int,
        width: int,
        heads: int,
        layers: int,
        drop: float = 0.0,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.wte, self.wpe, self.drop = (
            nn.Embedding(vocab, width),
            nn.Embedding(block, width),
            nn.Dropout(drop),
        )
        self.h = nn.ModuleList(Block(width, heads, drop, bias) for _ in range(layers))
        self.ln_f, self.lm_head = Norm(width, bias), nn.Linear(width, vocab, bias=False)
        self.wte.weight = self.lm_head.weight
        for name, p in self.named_parameters():
            if p.dim() == 2:
                nn.init.normal_(
                    p, std=0.02 / math.sqrt(2 * layers) if name.endswith("c_proj.weight") else 0.02
                )
            elif name.endswith("bias"):
                nn.init.zeros_(p)

    def forward(self, ids: Tensor, targets: Tensor) -> Tensor:
        x = self.drop(self.wte(ids) + self.wpe(torch.arange(ids.shape[1], device=ids.device)))
        for block in self.h:
            x = block(x)
        logits = self.lm_head(self.ln_f(x))
        return F.cross_entropy(logits.view(-1, logits.size(-1)), targets.reshape(-1))

    def optimizer(self, lr: float, betas: tuple[float, float], weight_decay: float) -> torch.optim.AdamW:
        """AdamW fusionné ; le weight decay sur les matrices seules."""
        ps = [p for p in self.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in ps if p.dim() >= 2], "weight_decay": weight_decay},
            {"params": [p for p in ps if p.dim() < 2], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=lr, betas=betas, fused=True)


def products(tokens: int, width: int, layers: int, vocab: int, dtype: torch.dtype, device: str):
    """Un pas qui ne fait que les produits de matrices d'un GPT, avant et arrière : ce que rien ne peut éviter."""
    shapes = [(width, 3 * width), (width, width), (width, 4 * width), (4 * width, width)] * layers + [
        (width, vocab)
    ]
    weights = {shape: torch.randn(shape[1], shape[0], dtype=dtype, device=device) for shape in set(shapes)}
    inputs = {
        n: torch.randn(tokens, n, dtype=dtype, device=device) for n in {n for pair in shapes for n in pair}
    }
    outs = {shape: torch.empty_like(weights[shape]) for shape in set(shapes)}

    def step(x: Tensor, y: Tensor) -> None:
        for shape in shapes:
            torch.mm(inputs[shape[0]], weights[shape].T)  # avant
        for shape in reversed(shapes):
            torch.mm(inputs[shape[1]], weights[shape])  # gradient de l'entrée
            torch.mm(inputs[shape[1]].T, inputs[shape[0]], out=outs[shape])  # gradient du poids

    return step
