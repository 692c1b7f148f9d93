"""A CUDA device that is none: torch tensors that say `cuda:0`, hold real CPU values, and refuse to mix with the CPU's.

    from emulated_gpu import emulated_gpu
    with emulated_gpu() as gpu:
        x = torch.ones(3, device="cuda")          # or model.to("cuda"), tensor.cuda(), job_device(1, "key"), ...
        (x * 2).sum().item()
    print(gpu.report())                            # syncs, copies, kernel launches, float64 work, by roireg's file:line

What it refuses, as CUDA does: an op over tensors of both devices (but CPU scalars in pointwise ops, CPU indices of a
CUDA tensor, and copies); `.numpy()` and `from_numpy`-style sharing; kernels that torch has not registered for CUDA.
What it counts: blocking reads (`item`, `tolist`, `float`, `bool`, `nonzero`, boolean indexing, error checks of
`torch.linalg`), copies between the devices with their bytes (those from memory that is not pinned also as `unpinned`:
the driver waits for them), launches (ops that are no views; each is one kernel at
least), and work in float64. Values are the CPU's, so results equal those of a run on the CPU bit for bit.
What it cannot see: kernels' own rounding, TF32, asynchrony, races, memory limits.

Autograd, `nn.Module.to`, `torch.optim` (fused too), `torch.save`, custom autograd functions and custom ops work.
`gpu.synchronised()` is a context in which every blocking read or copy is an error (`torch.cuda.set_sync_debug_mode`).
"""

import sys
from collections import Counter, defaultdict
from contextlib import contextmanager

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

DEVICE = torch.device("cuda:0")
aten = torch.ops.aten
# Ops that take tensors of both devices.
COPIES = {
    f"aten::{name}" for name in ("copy_", "_to_copy", "_copy_from", "_copy_from_and_resize", "set_", "_foreach_copy_")
}
INDEXING = {
    f"aten::{name}"
    for name in ("index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index", "_unsafe_index_put")
}
# CPU scalars are taken by TensorIterator; of these ops torch's tags do not say that they use it.
SCALAR_TAKERS = INDEXING | {
    f"aten::{name}" for name in ("where", "lerp", "_fused_adam_", "_fused_adamw_", "masked_fill", "masked_fill_")
}
BLOCKING = {
    f"aten::{name}"
    for name in (
        "_local_scalar_dense",
        "nonzero",
        "masked_select",
        "_unique2",
        "unique_dim",
        "unique_consecutive",
        "_linalg_check_errors",
        "is_nonzero",
        "equal",
        "repeat_interleave",
    )
}
# Ops that launch no kernel although they are no views.
NO_KERNEL = {
    f"aten::{name}"
    for name in (
        "detach",
        "alias",
        "lift_fresh",
        "empty",
        "empty_like",
        "empty_strided",
        "new_empty",
        "new_empty_strided",
        "_local_scalar_dense",
        "_unsafe_view",
        "resize_",
    )
}
RANDOM = torch.Tag.nondeterministic_seeded
HERE = __file__


def site(root="/roireg/") -> str:
    """The innermost line of the project on the stack, and of a third-party library beneath it."""
    frame, other = sys._getframe(1), None
    while frame is not None:
        name = frame.f_code.co_filename
        if name != HERE and "/site-packages/torch/" not in name:
            if root in name and "site-packages" not in name:
                here = f"{name.split(root, 1)[1].split('src/roireg/')[-1]}:{frame.f_lineno} {frame.f_code.co_name}"
                return here + (f" <- {other}" if other else "")
            if other is None and "site-packages" in name:
                other = f"{name.split('site-packages/')[1]}:{frame.f_lineno}"
        frame = frame.f_back
    return f"(elsewhere) {other or 'backward pass'}"


class MixedDevices(RuntimeError):
    """What CUDA says of tensors on two devices."""


class GpuTensor(torch.Tensor):
    """A tensor that says it is on `cuda:0`; its values are in `inner`."""

    __slots__ = ["inner"]
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, inner):
        out = torch.Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            layout=inner.layout,
            device=DEVICE,
            requires_grad=False,
        )
        out.inner = inner
        return out

    def __init__(self, inner):
        pass

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return run(func, args, kwargs or {})

    # C++ code of torch that does not go through the dispatcher, or refuses subclasses.
    def tolist(self):
        note("sync", "tolist", self.inner.numel() * self.inner.element_size())
        return self.inner.tolist()

    def new_tensor(self, data, *, dtype=None, device=None, requires_grad=False):
        return torch.tensor(data, dtype=dtype or self.dtype, device=device or self.device, requires_grad=requires_grad)

    def numpy(self, *, force=False):
        if not force:
            raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first.")
        return self.cpu().numpy()

    def __array__(self, *_, **__):
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first.")

    def __reduce_ex__(self, protocol):
        note("d2h", "torch.save", self.inner.numel() * self.inner.element_size())
        return self.inner.__reduce_ex__(protocol)

    def __repr__(self, *, tensor_contents=None):
        return f"GpuTensor({self.inner!r})"


STATE = None


class Gpu:
    """What was seen."""

    def __init__(self, check_kernels=True):
        self.counts = defaultdict(Counter)
        self.bytes = defaultdict(Counter)
        self.ops = Counter()
        self.random = Counter()
        self.missing = Counter()
        self.check_kernels, self.strict, self.recording = check_kernels, False, True

    def reset(self):
        self.counts.clear(), self.bytes.clear(), self.ops.clear()

    @property
    def launches(self):
        return sum(self.ops.values())

    def total(self, kind):
        return sum(self.counts[kind].values())

    @contextmanager
    def synchronised(self):
        self.strict = True
        try:
            yield
        finally:
            self.strict = False

    def report(self, per=1, kinds=("sync", "h2d", "d2h", "float64"), top=40):
        totals = ", ".join(f"{kind} {self.total(kind) / per:.1f}" for kind in kinds)
        lines = [f"launches {self.launches / per:.1f}, {totals}"]
        for kind in kinds:
            for where, count in self.counts[kind].most_common(top):
                kib = self.bytes[kind][where] / max(count, 1) / 1024
                lines.append(f"  {kind:8} {count / per:8.2f} x {kib:9.1f} KiB  {where}")
        if self.random:
            lines.append(f"  random on the GPU: {dict(self.random)}")
        if self.missing:
            lines.append(f"  NO CUDA KERNEL: {dict(self.missing)}")
        return "\n".join(lines)


def note(kind, what, size):
    if STATE is None or not STATE.recording:
        return
    if STATE.strict and kind in ("sync", "h2d", "d2h"):
        raise RuntimeError(f"called a synchronizing CUDA operation: {what} at {site()}")
    where = f"{site()} [{what}]"
    STATE.counts[kind][where] += 1
    STATE.bytes[kind][where] += size


_KERNELS = {}


def has_cuda_kernel(func):
    name = func.name()
    if name not in _KERNELS:
        try:
            _KERNELS[name] = torch._C._dispatch_has_computed_kernel_for_dispatch_key(name, "CUDA")
        except RuntimeError:
            _KERNELS[name] = True
    return _KERNELS[name]


def is_view(func):
    returns = func._schema.returns
    return bool(returns) and returns[0].alias_info is not None and not returns[0].alias_info.is_write


def run(func, args, kwargs):
    """An op on the emulated device, or between it and the CPU."""
    name = func._schema.name
    gpu, cpu = [], []

    def collect(x):
        if isinstance(x, GpuTensor):
            gpu.append(x)
        elif isinstance(x, torch.Tensor):
            cpu.append(x)
        return x

    tree_map(collect, (args, kwargs))
    device = kwargs.get("device")
    to_gpu = device is not None and torch.device(device).type == "cuda"
    if name == "aten::_pin_memory":
        pinned = cpu[0].clone()
        pinned.is_in_pinned_memory = True
        return pinned
    if not gpu and not to_gpu:
        return func(*args, **kwargs)
    if gpu and cpu and name not in COPIES:
        loose = torch.Tag.pointwise in func.tags or name in SCALAR_TAKERS
        for x in cpu:
            index = name in INDEXING and x.dtype in (torch.int64, torch.int32, torch.bool, torch.uint8)
            if not (index or (loose and x.dim() == 0)):
                shapes = f"{[tuple(t.shape) for t in gpu]} and {[tuple(t.shape) for t in cpu]}"
                raise MixedDevices(
                    "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu! "
                    f"({func}: {shapes}) at {site()}"
                )
            if index and x.dim() > 0:
                note("h2d", f"{name} by a CPU index", x.numel() * x.element_size())
    if to_gpu:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    inner_of = {}

    def unwrap(x):
        if isinstance(x, GpuTensor):
            inner_of[id(x.inner)] = x
            return x.inner
        return x

    inner_args, inner_kwargs = tree_map(unwrap, (args, kwargs))
    stays = not (name == "aten::_to_copy" and device is not None and not to_gpu)
    if STATE is not None and STATE.recording:
        record(func, name, args, gpu, cpu, stays)
    # A copy even where the CPU would give the same tensor back.
    out = func(*inner_args, **inner_kwargs)
    if not stays:
        return out.clone() if any(out is x.inner for x in gpu) else out
    if name == "aten::copy_" and gpu and not isinstance(args[0], GpuTensor):
        return args[0]

    def wrap(x):
        if isinstance(x, torch.Tensor) and not isinstance(x, GpuTensor):
            return inner_of.get(id(x)) if id(x) in inner_of else GpuTensor(x)
        return x

    return tree_map(wrap, out)


def size(x):
    """Bytes of a tensor."""
    return x.numel() * x.element_size()


def record(func, name, args, gpu, cpu, stays):
    """Count what an op costs."""
    if name == "aten::_to_copy" and not (gpu and stays):
        source = (gpu or cpu)[0]
        note("d2h" if gpu else "h2d", "to", size(source))
        if not gpu and not getattr(source, "is_in_pinned_memory", False):
            note("unpinned", "to", size(source))
        return
    if name == "aten::copy_" and gpu and cpu:
        note("h2d" if isinstance(args[0], GpuTensor) else "d2h", "copy_", size(cpu[0]))
        return
    if name in BLOCKING and not (name == "aten::repeat_interleave" and len(args) > 1):
        note("sync", name.removeprefix("aten::"), size(gpu[0]) if gpu else 0)
    if name in INDEXING and any(t is not None and t.dtype in (torch.bool, torch.uint8) for t in args[1]):
        note("sync", "index by a mask", size(gpu[0]))
    if is_view(func) or name in NO_KERNEL:
        return
    STATE.ops[name] += 1
    if STATE.check_kernels and not has_cuda_kernel(func):
        STATE.missing[name] += 1
    if RANDOM in func.tags:
        STATE.random[f"{name} at {site()}"] += 1
    biggest = max((x for x in gpu if x.dtype == torch.float64), key=torch.Tensor.numel, default=None)
    if biggest is not None:
        where = f"{site()} [{name.removeprefix('aten::')}]"
        STATE.counts["float64"][where] += 1
        STATE.bytes["float64"][where] += size(biggest)


class EmulatedGpu(TorchDispatchMode):
    """Sends all that is made on `cuda` to `run`."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return run(func, args, kwargs or {})


_KEPT = []
_TABLE_WORDS = 96


def _no_driver():
    """Let autograd run without a driver, which it asks for the devices that have a context.

    Torch built without CUDA asks nobody. Built with it, the table of virtual functions is replaced by a copy in
    which `hasPrimaryContext(device)` is `isAvailable()`, which is false here. It stays so for the life of the process.
    """
    torch._C._ensureCUDADeviceGuardSet()
    if _KEPT or torch.cuda.device_count() or not torch.backends.cuda.is_built():
        return
    import ctypes
    import re
    from pathlib import Path

    header = Path(torch.__file__).parent / "include/ATen/detail/AcceleratorHooksInterface.h"
    names = re.findall(r"^\s+virtual .*?(~?\w+)\(", header.read_text(), re.MULTILINE)
    assert names[0].startswith("~")
    # A destructor has two entries.
    position = {name: index + 1 for index, name in enumerate(names)}
    library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib/libtorch_cpu.so"))
    hooks_of = library["_ZN2at6detail12getCUDAHooksEv"]
    hooks_of.restype = ctypes.c_void_p
    hooks = ctypes.cast(hooks_of(), ctypes.POINTER(ctypes.c_void_p))
    # With the two words before it, which say of which class it is.
    table = (ctypes.c_void_p * _TABLE_WORDS)()
    ctypes.memmove(table, hooks[0] - 16, ctypes.sizeof(table))
    table[2 + position["hasPrimaryContext"]] = table[2 + position["isAvailable"]]
    # For good: torch's objects are destroyed after Python's.
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(table))
    _KEPT.append(table)
    hooks[0] = ctypes.addressof(table) + 16


@contextmanager
def emulated_gpu(check_kernels=True):
    """While it lasts there is a GPU. Not re-entrant; of tensors that survive the block, read `inner` only."""
    global STATE
    _no_driver()
    stubs = {
        "is_available": lambda: True,
        "_lazy_init": lambda: None,
        "is_initialized": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "synchronize": lambda *_: None,
        "max_memory_allocated": lambda *_: 0,
        "reset_peak_memory_stats": lambda *_: None,
        "empty_cache": lambda: None,
        "get_device_name": lambda *_: "emulated GPU",
        "get_device_capability": lambda *_: (9, 0),
        "is_bf16_supported": lambda *_, **__: True,
        "manual_seed": lambda *_: None,
        "manual_seed_all": lambda *_: None,
        "is_current_stream_capturing": lambda: False,
    }
    before = {name: getattr(torch.cuda, name) for name in stubs}
    lifted = torch._C._only_lift_cpu_tensors()
    # `Module.to` makes new parameters, for data of a plain one cannot become a wrapper's; on CUDA they keep identity.
    overwritten = torch.__future__.get_overwrite_module_params_on_conversion()
    state = Gpu(check_kernels)
    try:
        for name, stub in stubs.items():
            setattr(torch.cuda, name, stub)
        torch._C._set_only_lift_cpu_tensors(True)
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        STATE = state
        # In this thread: torch's threads of CUDA devices ask the driver for a context.
        with EmulatedGpu(), torch.autograd.set_multithreading_enabled(False):
            yield state
    finally:
        STATE = None
        torch._C._set_only_lift_cpu_tensors(lifted)
        torch.__future__.set_overwrite_module_params_on_conversion(overwritten)
        for name, value in before.items():
            setattr(torch.cuda, name, value)
