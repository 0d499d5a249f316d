//! How a fused operation stands in candle's graph.
//!
//! candle's custom operations take at most three tensors, and its backward pass asks for gradients of all of them. Here an
//! operation may read any number of tensors and is asked only for the gradients that are wanted. Its forward has already been
//! computed when [`Node`] is built; the node carries the result into the graph and calls the operation's backward. Where more than three
//! inputs need gradients, the rest hang on a [`Carry`] of one element, which stands between them and the node: the node's
//! backward leaves their gradients in slots, and the carry's backward, which candle runs later, hands them on.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, DType, Device, Layout, Result, Shape, Storage, Tensor, bail};

/// Whether the fused kernels serve these tensors: `f32` on the CPU.
pub(super) fn is_fused(tensors: &[&Tensor]) -> bool {
    tensors.iter().all(|t| t.dtype() == DType::F32 && matches!(t.device(), Device::Cpu))
}

/// Calls `f` with the values of `tensors`, row-major.
pub(super) fn read<R>(tensors: &[&Tensor], f: impl FnOnce(&[&[f32]]) -> Result<R>) -> Result<R> {
    let dense = tensors.iter().map(|t| t.contiguous()).collect::<Result<Vec<_>>>()?;
    let guards: Vec<_> = dense.iter().map(Tensor::storage_and_layout).collect();
    let values = guards.iter().map(|(storage, layout)| values(storage, layout)).collect::<Result<Vec<_>>>()?;
    f(&values)
}

fn values<'a>(storage: &'a Storage, layout: &Layout) -> Result<&'a [f32]> {
    let Storage::Cpu(CpuStorage::F32(data)) = storage else { bail!("a fused operation reads f32 tensors of the CPU") };
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&data[start..end]),
        None => bail!("a fused operation reads contiguous tensors, got strides {:?}", layout.stride()),
    }
}

/// A vector of `len` values written by `f`.
///
/// Nothing is cleared beforehand: `f` must write every element and read none that it has not written.
pub(super) fn written(len: usize, f: impl FnOnce(&mut [f32])) -> Vec<f32> {
    let mut out: Vec<f32> = Vec::with_capacity(len);
    // SAFETY: the capacity is `len`; any bit pattern is an `f32`, and by contract `f` reads only what it wrote.
    unsafe {
        f(std::slice::from_raw_parts_mut(out.as_mut_ptr(), len));
        out.set_len(len);
    }
    out
}

/// What the backward of an operation receives.
pub(super) struct Backward<'a> {
    /// Values of the inputs.
    pub inputs: &'a [&'a [f32]],
    /// The result.
    pub out: &'a [f32],
    /// Gradient of the result.
    pub grad: &'a [f32],
    /// Which inputs need a gradient.
    pub wanted: &'a [bool],
}

type BackwardFn = Box<dyn Fn(&Backward) -> Result<Vec<Option<Vec<f32>>>> + Send + Sync>;

/// Makes the result of an operation: `out`, of shape `shape`, computed from `inputs`.
///
/// `backward` returns one entry per input, of that input's size; entries that are not wanted are ignored.
pub(super) fn node(
    name: &'static str,
    inputs: &[&Tensor],
    out: Vec<f32>,
    shape: impl Into<Shape>,
    backward: impl Fn(&Backward) -> Result<Vec<Option<Vec<f32>>>> + Send + Sync + 'static,
) -> Result<Tensor> {
    let shape = shape.into();
    let wanted: Vec<bool> = inputs.iter().map(|t| t.track_op()).collect();
    let mut tracked: Vec<usize> = (0..inputs.len()).filter(|&i| wanted[i]).collect();
    if tracked.is_empty() {
        return Tensor::from_vec(out, shape, &Device::Cpu);
    }
    let inputs: Vec<Tensor> = inputs.iter().map(|&t| t.clone()).collect();
    let slots: Slots = Arc::default();
    // The last tracked inputs, until three arguments are left.
    let mut carry: Option<Tensor> = None;
    while tracked.len() + usize::from(carry.is_some()) > 3 {
        let take = if carry.is_some() { 2 } else { 3 };
        let carried = tracked.split_off(tracked.len() - take);
        let op = Carry { slots: slots.clone(), inputs: carried.clone(), through: carry.is_some() };
        let args: Vec<&Tensor> = carried.iter().map(|&i| &inputs[i]).chain(&carry).collect();
        carry = Some(args[0].apply_op3(args[1], args[2], op)?);
    }
    let args: Vec<Tensor> = tracked.iter().map(|&i| inputs[i].clone()).chain(carry.clone()).collect();
    let node = Node {
        name,
        inputs,
        wanted,
        direct: tracked,
        carried: carry.is_some(),
        slots,
        out: Mutex::new(Some((out, shape))),
        backward: Box::new(backward),
    };
    match args.as_slice() {
        [a] => a.apply_op1(node),
        [a, b] => a.apply_op2(b, node),
        [a, b, c] => a.apply_op3(b, c, node),
        _ => bail!("{name}: {} arguments", args.len()),
    }
}

/// Gradients by input, on their way from a node to its carries.
type Slots = Arc<Mutex<Vec<Option<Tensor>>>>;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Node {
    name: &'static str,
    inputs: Vec<Tensor>,
    wanted: Vec<bool>,
    /// Inputs that are arguments of the node itself.
    direct: Vec<usize>,
    /// Whether one more argument is a [`Carry`].
    carried: bool,
    slots: Slots,
    out: Mutex<Option<(Vec<f32>, Shape)>>,
    backward: BackwardFn,
}

impl Node {
    fn take(&self) -> Result<(CpuStorage, Shape)> {
        match lock(&self.out).take() {
            Some((out, shape)) => Ok((CpuStorage::F32(out), shape)),
            None => bail!("{}: a node's result is taken once", self.name),
        }
    }

    /// Gradients of the arguments, in order.
    fn gradients(&self, out: &Tensor, grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let tensors: Vec<&Tensor> = self.inputs.iter().chain([out, grad]).collect();
        let computed = read(&tensors, |values| {
            let (inputs, rest) = values.split_at(self.inputs.len());
            (self.backward)(&Backward { inputs, out: rest[0], grad: rest[1], wanted: &self.wanted })
        })?;
        let mut gradients = Vec::with_capacity(computed.len());
        for ((values, input), &wanted) in computed.into_iter().zip(&self.inputs).zip(&self.wanted) {
            gradients.push(match values {
                Some(values) if wanted => Some(Tensor::from_vec(values, input.shape(), &Device::Cpu)?),
                _ => None,
            });
        }
        let mut result: Vec<_> = self.direct.iter().map(|&i| gradients[i].take()).collect();
        if self.carried {
            *lock(&self.slots) = gradients;
            result.push(Some(Tensor::zeros(1, DType::F32, &Device::Cpu)?));
        }
        result.resize(3, None);
        Ok(result)
    }
}

/// Stands between a node and inputs beyond its third: see the module's head.
struct Carry {
    slots: Slots,
    inputs: Vec<usize>,
    /// Whether the last argument is another carry.
    through: bool,
}

impl Carry {
    fn gradients(&self) -> Result<Vec<Option<Tensor>>> {
        let mut slots = lock(&self.slots);
        let mut result: Vec<_> = self.inputs.iter().map(|&i| slots.get_mut(i).and_then(Option::take)).collect();
        if self.through {
            result.push(Some(Tensor::zeros(1, DType::F32, &Device::Cpu)?));
        }
        result.resize(3, None);
        Ok(result)
    }
}

fn triple(gradients: Vec<Option<Tensor>>) -> (Option<Tensor>, Option<Tensor>, Option<Tensor>) {
    let mut gradients = gradients.into_iter();
    let mut next = || gradients.next().flatten();
    (next(), next(), next())
}

impl CustomOp1 for Node {
    fn name(&self) -> &'static str {
        self.name
    }
    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        self.take()
    }
    fn bwd(&self, _: &Tensor, out: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        Ok(triple(self.gradients(out, grad)?).0)
    }
}

impl CustomOp2 for Node {
    fn name(&self) -> &'static str {
        self.name
    }
    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        self.take()
    }
    fn bwd(&self, _: &Tensor, _: &Tensor, out: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (a, b, _) = triple(self.gradients(out, grad)?);
        Ok((a, b))
    }
}

type Triple = (Option<Tensor>, Option<Tensor>, Option<Tensor>);

impl CustomOp3 for Node {
    fn name(&self) -> &'static str {
        self.name
    }
    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        self.take()
    }
    fn bwd(&self, _: &Tensor, _: &Tensor, _: &Tensor, out: &Tensor, grad: &Tensor) -> Result<Triple> {
        Ok(triple(self.gradients(out, grad)?))
    }
}

impl CustomOp3 for Carry {
    fn name(&self) -> &'static str {
        "carry"
    }
    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok((CpuStorage::F32(vec![0.0]), Shape::from(1)))
    }
    fn bwd(&self, _: &Tensor, _: &Tensor, _: &Tensor, _: &Tensor, _: &Tensor) -> Result<Triple> {
        Ok(triple(self.gradients()?))
    }
}
