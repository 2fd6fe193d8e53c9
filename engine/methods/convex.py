"""Certified unlearning of linear classifiers on features that were never fitted on private records.

    newton-noise     Newton steps on what stays until the measured gradient is short; noise once
    descent-noise    from a ball, full gradient steps on what stays; noise once
    langevin         from a ball, full gradient steps with noise in each

The classifier is one layer, and it becomes K logistic heads, each class against the rest, on rows that are scaled one
by one (`engine.heads.stacked`). The model before is a start and nothing else: none of the bounds depends on it, so a
start from nothing is the reference, and nothing is kept between runs or used up. The forget set is never read.

Proofs: docs/guarantees.md, sections 8, 15 and 16. Weights without noise never leave this module. What evidence says of
a run is fixed beforehand or computed from what is published: `steps` is how many were allowed, and the first loss is
that of heads that know nothing.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from engine.corpus import Record
from engine.errors import EngineError
from engine.guarantees.convex import measured, record, walked
from engine.heads.rows import Indices, Vector
from engine.heads.stacked import Stack, scaled_rows, stacked
from engine.heads.steps import descend, newton, walk
from engine.heads.weights import Internal, Noise, Published, noised
from engine.methods import Setting, secret
from engine.options import DescentNoiseOptions, HeadOptions, LangevinOptions, NewtonNoiseOptions
from engine.tasks.image import classes_of
from engine.tasks.image_models import ImageModel
from engine.tasks.pixels import Pixels, pictures
from engine.training import Fitted


def newton_noise(setting: Setting[NewtonNoiseOptions]) -> Fitted:
    """Steps until the gradient on the retain set is as short as the certificate says; then noise."""
    problem, start = posed(setting)
    options = setting.options
    found = newton(problem, start, residual=measured(options).residual, limit=options.head_steps)
    return _published(setting, problem, _noised(setting, found))


def descent_noise(setting: Setting[DescentNoiseOptions]) -> Fitted:
    """From wherever in the ball, so many steps that it no longer matters much; then noise."""
    problem, start = posed(setting)
    return _published(setting, problem, _noised(setting, descend(problem, start, walked(setting.options))))


def langevin(setting: Setting[LangevinOptions]) -> Fitted:
    """The same with noise in every step."""
    problem, start = posed(setting)
    return _published(setting, problem, walk(problem, start, walked(setting.options), _source(setting)))


def posed(setting: Setting[Any]) -> tuple[Stack, Vector]:
    """The problem of the retain set, and the model's own layer as a start (K, d + 1)."""
    x, labels = rows(setting, setting.retain)
    model, options = cast("ImageModel", setting.model), setting.options
    weight, bias = (p.detach().double().numpy() for p in (model.classifier.weight, model.classifier.bias))
    root = weight.shape[1] ** 0.5
    start = np.concatenate([weight * root, bias[:, None]], axis=1) * 2**0.5
    if not bool(np.isfinite(start).all()):
        raise EngineError("bad_model", "the model's weights are not all finite")
    return stacked(x, labels, classes=len(start), lam=options.penalty), start


def rows(setting: Setting[Any], records: Sequence[Record]) -> tuple[Vector, Indices]:
    """Scaled rows (n, d + 1) of these records, and the number of each one's class (n,)."""
    model = refused(setting.model, setting.options)
    known = pictures(records, setting.pixels, classes_of(model))
    x = scaled_rows(features(model, setting.pixels, known.images, rows_per_pass=setting.options.rows_per_pass))
    return x, known.classes.numpy().astype(np.intp)


def refused(model: PreTrainedModel | nn.Module, options: HeadOptions) -> ImageModel:
    """The model, if all that training can have changed in it is its last layer."""
    if not isinstance(model, ImageModel):
        raise EngineError("bad_model", "the theorem is about one linear layer on features; use one of our classifiers")
    if options.features == "fixed" and model.body.state_dict():
        message = (
            "the theorem needs features that do not depend on the forgotten records, and this model's may have been "
            "fitted on private ones; use architecture gabor, or features=public where they were fitted on public data"
        )
        raise EngineError("bad_model", message)
    return model


@torch.no_grad()
def features(model: ImageModel, pixels: Pixels, images: Tensor, *, rows_per_pass: int) -> Vector:
    """What the classifier reads (n, d), in double precision; single precision is how the model computes it."""
    model.train(mode=False)
    parts = [
        model.features(pixels.normalised(images[i : i + rows_per_pass])) for i in range(0, len(images), rows_per_pass)
    ]
    return cast("Vector", torch.cat(parts).double().numpy())


def _source(setting: Setting[Any]) -> Noise:
    return partial(secret.gaussians, setting.secret)


def _noised(setting: Setting[Any], found: Internal) -> Published:
    """The stack is one vector to the noise, and one round is all that is ever drawn for it."""
    flat = Internal(found.unnoised.reshape(-1))
    made = noised(flat, sigma=setting.options.sigma, noise=_source(setting), round_=0)
    return Published(weights=made.weights.reshape(found.unnoised.shape))


def _published(setting: Setting[Any], problem: Stack, made: Published) -> Fitted:
    """Put published heads into the model, and say what may be said."""
    model, v = cast("ImageModel", setting.model), made.weights
    put(model, v)
    setting.progress("train", 1.0, 0.0)
    return Fitted(
        steps=setting.options.head_steps,
        first_loss=problem.value(np.zeros(problem.shape)),
        last_loss=problem.value(v),
        accountant=record(setting.options),
        seed_commitment=secret.commitment(setting.secret),
    )


@torch.no_grad()
def put(model: ImageModel, v: Vector) -> None:
    """Heads read scaled rows and the layer reads features; where a row is not shortened the logits are the same."""
    layer = model.classifier
    root = layer.in_features**0.5
    for parameter, values in ((layer.weight, v[:, :-1] / root), (layer.bias, v[:, -1])):
        parameter.copy_(torch.from_numpy(values / 2**0.5))
        if not bool(torch.isfinite(parameter).all()):
            raise EngineError("not_finite", "the noise is larger than single precision can hold; lower it")
