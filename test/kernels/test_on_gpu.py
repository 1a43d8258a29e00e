"""What only a GPU can show: the kernels at the sizes of the published networks, against torch's operations there."""

import pytest
import torch

pytest.importorskip("triton", reason="kernels need triton: pip install -r requirements/kernels.txt")
from panoocc_core.ops.deform_attn import triton as attn
from panoocc_core.ops.deform_attn import tuned as torch_attn
from panoocc_core.ops.deform_conv import triton as conv
from panoocc_core.ops.deform_conv import tuned as torch_conv

from .published import ATTENTIONS, CONVOLUTIONS
from .speed import print_speeds

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")]
CUDA = torch.device("cuda")
by_name = {"ids": lambda case: case.name}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("case", ATTENTIONS, **by_name)
@torch.inference_mode()
def test_attention_of_published_sizes(case, dtype):
    values, *others = case.inputs(dtype, CUDA)
    expected = torch_attn.deform_attn(values.float(), case.shapes, *others)
    out = attn.deform_attn(values, case.shapes, *others)
    torch.testing.assert_close(
        out.float(), expected, rtol=4 * torch.finfo(dtype).eps, atol=1e-3 if dtype.itemsize == 2 else 1e-5
    )


@pytest.mark.parametrize("case", ATTENTIONS, **by_name)
def test_gradients_of_published_sizes(case):
    values, points, offsets, weights, source = case.inputs(torch.float32, CUDA)
    found = []
    for operator in (torch_attn, attn):
        leaves = [tensor.detach().requires_grad_() for tensor in (values, offsets, weights)]
        operator.deform_attn(leaves[0], case.shapes, points, *leaves[1:], source).square().sum().backward()
        found.append([leaf.grad for leaf in leaves])
    for theirs, ours in zip(*found, strict=True):
        scale = theirs.abs().max().item()
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4 * scale)


@pytest.mark.parametrize("case", CONVOLUTIONS, **by_name)
@torch.inference_mode()
def test_convolution_of_published_sizes(case):
    tensors = case.inputs(torch.float16, CUDA)
    expected = torch_conv.deform_conv(*(tensor.float() for tensor in tensors), 1, 1)
    out = conv.deform_conv(*tensors, 1, 1)
    torch.testing.assert_close(out.float(), expected, rtol=1e-2, atol=1e-2)


@torch.inference_mode()
def test_a_captured_graph_repeats_what_was_computed():
    """Nothing waits for the device, nothing is uploaded: a graph of both operators can be captured and replayed."""
    values, *others = ATTENTIONS[0].inputs(torch.float16, CUDA)
    tensors = CONVOLUTIONS[0].inputs(torch.float16, CUDA)

    def both():
        return attn.deform_attn(values, ATTENTIONS[0].shapes, *others), conv.deform_conv(*tensors, 1, 1)

    expected = [out.clone() for out in both()]
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = both()
    for out in captured:
        out.fill_(float("nan"))
    graph.replay()
    for out, theirs in zip(captured, expected, strict=True):
        assert torch.equal(out, theirs)


def test_speeds_are_printed():
    print_speeds(CUDA)
