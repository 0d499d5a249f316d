//! The sum of the micro-batches' gradients.

use crate::Result;
use candle_core::backprop::GradStore;
use candle_core::{CpuStorage, DType, Device, Storage, Tensor, Var};

/// Gradients of all parameters in `f32`, summed over micro-batches in the order in which they are added. The buffers are kept from step
/// to step.
pub(crate) struct Gradients {
    slots: Vec<Slot>,
}

/// Gradient of one parameter.
struct Slot {
    values: Vec<f32>,
    /// Some micro-batch of this step reached the parameter.
    reached: bool,
}

impl Gradients {
    /// For parameters of these sizes.
    pub fn new(sizes: impl Iterator<Item = usize>) -> Self {
        let slot = |size| Slot { values: vec![0.0; size], reached: false };
        Self { slots: sizes.map(slot).collect() }
    }

    /// Forgets all sums.
    pub fn clear(&mut self) {
        for slot in &mut self.slots {
            slot.reached = false;
        }
    }

    /// Adds what one backward pass left for `vars` (in the order of the sizes given to [`Gradients::new`]).
    pub fn add<'a>(&mut self, vars: impl Iterator<Item = &'a Var>, mut store: GradStore) -> Result<()> {
        for (slot, var) in self.slots.iter_mut().zip(vars) {
            if let Some(gradient) = store.remove(var) {
                slot.add(&gradient)?;
            }
        }
        Ok(())
    }

    /// The gradient of parameter `index`, `None` where no micro-batch reached it.
    pub fn get(&self, index: usize) -> Option<&[f32]> {
        let slot = &self.slots[index];
        slot.reached.then_some(&slot.values[..])
    }

    /// Global norm; the index of the first parameter with a gradient that is not finite, otherwise.
    pub fn norm(&self) -> std::result::Result<f64, usize> {
        let mut total = 0.0;
        for (index, slot) in self.slots.iter().enumerate().filter(|(_, slot)| slot.reached) {
            let square = sum_of_squares(&slot.values);
            if !square.is_finite() {
                return Err(index);
            }
            total += square;
        }
        Ok(total.sqrt())
    }
}

impl Slot {
    fn add(&mut self, gradient: &Tensor) -> Result<()> {
        // Nothing is copied for a contiguous f32 tensor on the CPU.
        let gradient = gradient.to_dtype(DType::F32)?.to_device(&Device::Cpu)?.contiguous()?;
        let (storage, layout) = gradient.storage_and_layout();
        let Storage::Cpu(CpuStorage::F32(values)) = &*storage else {
            return Err(candle_core::Error::Msg("a gradient did not reach the CPU as f32".into()).into());
        };
        let values = &values[layout.start_offset()..layout.start_offset() + layout.shape().elem_count()];
        if self.reached {
            for (sum, value) in self.values.iter_mut().zip(values) {
                *sum += value;
            }
        } else {
            self.values.copy_from_slice(values);
            self.reached = true;
        }
        Ok(())
    }
}

/// In `f64`, with eight running sums so that it runs at memory speed.
fn sum_of_squares(values: &[f32]) -> f64 {
    let mut sums = [0f64; 8];
    let chunks = values.chunks_exact(8);
    for (i, &value) in chunks.remainder().iter().enumerate() {
        sums[i] += f64::from(value) * f64::from(value);
    }
    for chunk in chunks {
        for (sum, &value) in sums.iter_mut().zip(chunk) {
            *sum += f64::from(value) * f64::from(value);
        }
    }
    sums.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gradients_are_summed_and_absent_ones_stay_absent() {
        let a = Var::new(&[[1f32, 2.0], [3.0, 4.0]], &Device::Cpu).unwrap();
        let b = Var::new(&[5f32], &Device::Cpu).unwrap();
        let mut gradients = Gradients::new([4, 1].into_iter());
        // A transposed use leaves a gradient that is not contiguous.
        let weights = Tensor::new(&[[1f32, 2.0], [3.0, 4.0]], &Device::Cpu).unwrap();
        for _ in 0..2 {
            let loss = (a.t().unwrap() * &weights).unwrap().sum_all().unwrap();
            gradients.add([&a, &b].into_iter(), loss.backward().unwrap()).unwrap();
        }
        assert_eq!(gradients.get(0).unwrap(), [2.0, 6.0, 4.0, 8.0]);
        assert_eq!(gradients.get(1), None);
        assert_eq!(gradients.norm(), Ok(120f64.sqrt()));
        gradients.clear();
        assert_eq!(gradients.get(0), None);
        assert_eq!(gradients.norm(), Ok(0.0));
    }

    #[test]
    fn a_gradient_that_is_not_finite_is_found() {
        let vars = [Var::new(&[1f32], &Device::Cpu).unwrap(), Var::new(&[0f32], &Device::Cpu).unwrap()];
        let loss = (&*vars[0] + vars[1].log().unwrap()).unwrap().sum_all().unwrap();
        let mut gradients = Gradients::new([1, 1].into_iter());
        gradients.add(vars.iter(), loss.backward().unwrap()).unwrap();
        assert_eq!(gradients.norm(), Err(1));
    }
}
