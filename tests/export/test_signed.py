"""S8S8 is U8S8 with other bytes: the same integers 128 lower, the same answers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from fastzoo.export import reference
from fastzoo.export.graph import constants, operators
from fastzoo.export.layouts import INTEGERS, PRODUCTS, Builder, Form, Scheme, obstacles
from fastzoo.export.signed import signed
from fastzoo.export.verify import Reference, verify

from . import networks
from .networks import LOOPS, STACKS, VARIANTS, builder, classifier, network, run, windows

kinds = pytest.mark.parametrize("kind", [PRODUCTS, INTEGERS])
variants = pytest.mark.parametrize("variant", VARIANTS)


def both(made: Builder, kind: str, layout: str) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    one = Form("int8", layout, Scheme(kind))
    return made.build(one), made.build(replace(one, scheme=Scheme(kind, signed=True)))


@kinds
@pytest.mark.parametrize("stack", STACKS)
@variants
def test_every_answer_is_the_same(variant: str, stack: str, kind: str) -> None:
    net, x = classifier(**VARIANTS[variant], **STACKS[stack]), windows(20)
    made = builder(net)
    for layout in LOOPS:
        if layout not in obstacles(made.network):
            unsigned, turned = both(made, kind, layout)
            assert np.array_equal(run(turned, x, optimised=False), run(unsigned, x, optimised=False)), layout
    unsigned, turned = both(made, kind, "scan")
    x = x[:2]
    one, other = (reference.evaluate(model, {"x": x})[0] for model in (turned, unsigned))
    assert np.array_equal(one, other)


@kinds
@variants
def test_fused_kernels_are_as_near(variant: str, kind: str) -> None:
    net, x = classifier(**VARIANTS[variant]), windows(20)
    unsigned, turned = both(builder(net), kind, "scan")
    assert networks.error(run(turned, x), run(unsigned, x)) < 0.02


@kinds
@pytest.mark.parametrize("layout", LOOPS)
@variants
def test_nothing_unsigned_is_left(variant: str, layout: str, kind: str) -> None:
    unsigned, turned = both(builder(classifier(**VARIANTS[variant])), kind, layout)
    onnx.checker.check_model(turned, full_check=True)
    assert operators(turned) == operators(unsigned)
    assert b"uint8" not in str(turned).encode()
    before, after = constants(unsigned), constants(turned)
    assert before.keys() == after.keys()
    lowered = [name for name, value in before.items() if value.dtype == np.uint8]
    assert lowered
    for name, value in before.items():
        if name in lowered:
            assert after[name].dtype == np.int8
            assert np.array_equal(after[name].astype(int), value.astype(int) - 128), name
        else:
            assert np.array_equal(after[name], value), name
    assert TensorProto.UINT8 not in kinds_of(turned.graph)
    assert (TensorProto.UINT8 in kinds_of(unsigned.graph)) == (layout == "scan" and kind == INTEGERS), (
        "in a loop's ends"
    )


def kinds_of(graph: onnx.GraphProto) -> set[int]:
    """The types of inputs and outputs, of loops as well."""
    found = {value.type.tensor_type.elem_type for value in (*graph.input, *graph.output)}
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                found |= kinds_of(attribute.g)
    return found


def test_a_file_without_bytes_stays_as_it_is() -> None:
    made = builder(classifier(nu=0.0))
    for form in (Form("fp32", "scan"), Form("int8", "fused", Scheme())):
        model = made.build(form)
        before = model.SerializeToString(deterministic=True)
        assert signed(model).SerializeToString(deterministic=True) == before
        assert signed(model) is not model


def test_the_given_model_is_not_changed() -> None:
    model = builder(classifier(nu=0.0)).build(Form("int8", "scan", Scheme(INTEGERS)))
    before = model.SerializeToString(deterministic=True)
    assert signed(model).SerializeToString(deterministic=True) != before
    assert model.SerializeToString(deterministic=True) == before


@kinds
@pytest.mark.parametrize("layout", LOOPS)
def test_a_signed_file_passes_verification(layout: str, kind: str) -> None:
    net, x = classifier(nu=0.0), windows(20)
    form = Form("int8", layout, Scheme(kind, signed=True))
    made = builder(net)
    found = verify(made.build(form), network(net).unit_scale(), form, Reference(x, networks.logits(net, x)))
    assert found.int8_weights == sum(matrix.size for matrix in made.network.matrices().values())
