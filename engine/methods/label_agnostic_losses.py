"""The two losses of label-agnostic forgetting (Shen et al. 2024, arXiv 2404.00506, equations 8 to 11). No labels.

    S(y, x) = exp(e / (e + 1)),  e = |y - x|^2                        how strange x is to who reconstructs it as y
    L_UE    = sum over r of S(h(g(r)), g(r)) - sum over f of S(h_f(g(f)), g(f))
    L_RA    = sum over r of ln( exp(d_r) / sum over f of exp(d_f / tau) ),  d = 1 - cos(g(x), g_0(x))

S lies between 1 and e, so no picture outweighs the others. L_RA holds representations of those who stay where they
were and drives those of the forget set away from where they were.
"""

from torch import Tensor
from torch.nn import functional


def strangeness(reconstructed: Tensor, given: Tensor) -> Tensor:
    """S of each row (rows,), from two tensors of rows x width; 1 where nothing was lost, below e whatever was."""
    error = (reconstructed - given).square().sum(1)
    return (error / (error + 1.0)).exp()


def turned(now: Tensor, before: Tensor) -> Tensor:
    """1 - cos of the angle between each row and the same row before (rows,)."""
    return 1.0 - functional.cosine_similarity(now, before, dim=1)


def alignment(retain: Tensor, forget: Tensor, temperature: float) -> Tensor:
    """L_RA from the distances of a batch of each (rows,); a number."""
    return retain.sum() - len(retain) * (forget / temperature).logsumexp(0)
