//! AdamW (arXiv 1711.05101) over named parameters, in `f32` whatever the parameters' own type.

use crate::gradients::Gradients;
use crate::{Error, OptimiserOptions, Result};
use candle_core::{DType, Device, Tensor, Var};
use mmhost_model::ops::{AdamWStep, adamw_step};
use std::collections::BTreeMap;

/// Keeps the division defined when all gradients are zero.
const NORM_EPSILON: f64 = 1e-6;

/// A parameter with its optimiser state.
pub(crate) struct Parameter {
    /// Its name in the weights.
    pub name: String,
    /// What the model computes with.
    pub var: Var,
    /// The `f32` copy that is updated, where `var` is of a narrower type.
    pub master: Option<Var>,
    /// Running mean of the gradient, one per element.
    pub first_moment: Vec<f32>,
    /// Running mean of its square.
    pub second_moment: Vec<f32>,
    /// Updates so far. A parameter that a batch does not reach (the vision tower, in a batch without images) rests.
    pub updates: u64,
    /// Matrices decay; norms and biases, which are vectors, do not.
    decays: bool,
}

/// The optimiser.
pub(crate) struct AdamW {
    /// Settings; the learning rate of a step is given with the step.
    pub options: OptimiserOptions,
    /// Parameters by name, in order.
    pub parameters: Vec<Parameter>,
}

impl AdamW {
    /// With zero moments.
    pub fn new(vars: &BTreeMap<String, Var>, options: OptimiserOptions) -> Result<Self> {
        let parameters = vars
            .iter()
            .map(|(name, var)| {
                let master = match var.dtype() {
                    DType::F32 => None,
                    _ => Some(Var::from_tensor(&var.to_dtype(DType::F32)?)?),
                };
                Ok(Parameter {
                    name: name.clone(),
                    var: var.clone(),
                    master,
                    first_moment: vec![0.0; var.elem_count()],
                    second_moment: vec![0.0; var.elem_count()],
                    updates: 0,
                    decays: var.rank() >= 2,
                })
            })
            .collect::<Result<_>>()?;
        Ok(Self { options, parameters })
    }

    /// The parameters as the model sees them, in order.
    pub fn vars(&self) -> impl Iterator<Item = &Var> {
        self.parameters.iter().map(|parameter| &parameter.var)
    }

    /// One update with gradients clipped to `max_grad_norm`; returns their global norm before. When a gradient is not
    /// finite, nothing has changed. `step` is for the error's text.
    pub fn update(&mut self, gradients: &Gradients, learning_rate: f64, step: usize) -> Result<f64> {
        let norm = gradients.norm().map_err(|index| Error::NonFiniteGradient { step, parameter: self.parameters[index].name.clone() })?;
        let OptimiserOptions { beta1, beta2, eps, weight_decay, max_grad_norm, .. } = self.options;
        let scale = if max_grad_norm > 0.0 { (max_grad_norm / (norm + NORM_EPSILON)).min(1.0) } else { 1.0 };
        for (index, parameter) in self.parameters.iter_mut().enumerate() {
            let Some(gradient) = gradients.get(index) else { continue };
            let updates = parameter.updates + 1;
            let bias = |beta: f64| (1.0 - beta.powf(updates as f64)) as f32;
            let settings = AdamWStep {
                lr: learning_rate as f32,
                beta1: beta1 as f32,
                beta2: beta2 as f32,
                eps: eps as f32,
                weight_decay: if parameter.decays { weight_decay as f32 } else { 0.0 },
                bias_c1: bias(beta1),
                bias_c2: bias(beta2),
                grad_scale: scale as f32,
            };
            let target = parameter.master.as_ref().unwrap_or(&parameter.var);
            let gradient = Tensor::from_slice(gradient, target.shape(), &Device::Cpu)?.to_device(target.device())?;
            adamw_step(target, &gradient, &mut parameter.first_moment, &mut parameter.second_moment, settings)?;
            if let Some(master) = &parameter.master {
                parameter.var.set(&master.to_dtype(parameter.var.dtype())?)?;
            }
            parameter.updates = updates;
        }
        Ok(norm)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> OptimiserOptions {
        OptimiserOptions { beta1: 0.9, beta2: 0.99, eps: 1e-6, weight_decay: 0.1, max_grad_norm: 0.5, ..Default::default() }
    }

    /// Gradients of a loss that is linear in the given variables.
    fn gradients(optimiser: &AdamW, slopes: &[Option<Vec<f32>>]) -> Gradients {
        let mut gradients = Gradients::new(optimiser.vars().map(|var| var.elem_count()));
        for (var, slope) in optimiser.vars().zip(slopes) {
            if let Some(slope) = slope {
                let slope = Tensor::from_slice(slope, var.shape(), &Device::Cpu).unwrap();
                let loss = (var.as_tensor().to_dtype(DType::F32).unwrap() * slope).unwrap().sum_all().unwrap();
                gradients.add(optimiser.vars(), loss.backward().unwrap()).unwrap();
            }
        }
        gradients
    }

    fn values(var: &Var) -> Vec<f32> {
        var.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn updates_equal_the_algorithm_in_f64() {
        let matrix = Var::new(&[[0.5f32, -1.0], [2.0, 0.25]], &Device::Cpu).unwrap();
        let bias = Var::new(&[0.1f32, -0.2], &Device::Cpu).unwrap();
        let vars = BTreeMap::from([("a.weight".into(), matrix.clone()), ("b.bias".into(), bias.clone())]);
        let mut optimiser = AdamW::new(&vars, options()).unwrap();
        let mut expected = [0.5, -1.0, 2.0, 0.25, 0.1, -0.2];
        let (mut m, mut v) = ([0.0f64; 6], [0.0f64; 6]);
        for t in 1..=5 {
            let slope: Vec<f32> = (0..6).map(|i| ((i * t) as f32 * 0.7).sin()).collect();
            let rate = 0.01 * f64::from(t);
            let found = gradients(&optimiser, &[Some(slope[..4].to_vec()), Some(slope[4..].to_vec())]);
            let norm = optimiser.update(&found, rate, 0).unwrap();
            let expected_norm = slope.iter().map(|&g| f64::from(g).powi(2)).sum::<f64>().sqrt();
            assert!((norm - expected_norm).abs() < 1e-9);
            for i in 0..6 {
                let g = f64::from(slope[i]) * (0.5 / (expected_norm + 1e-6)).min(1.0);
                m[i] = 0.9 * m[i] + 0.1 * g;
                v[i] = 0.99 * v[i] + 0.01 * g * g;
                let step = (m[i] / (1.0 - 0.9f64.powi(t))) / ((v[i] / (1.0 - 0.99f64.powi(t))).sqrt() + 1e-6);
                let decay = if i < 4 { 0.1 } else { 0.0 };
                expected[i] -= rate * (step + decay * expected[i]);
            }
        }
        let found = [values(&matrix), values(&bias)].concat();
        for (found, expected) in found.iter().zip(expected) {
            assert!((f64::from(*found) - expected).abs() < 1e-6, "{found} {expected}");
        }
    }

    #[test]
    fn a_parameter_without_gradient_rests() {
        let vars: BTreeMap<String, Var> = ["a", "b"].map(|name| (name.to_string(), Var::new(&[[1f32]], &Device::Cpu).unwrap())).into();
        let mut optimiser = AdamW::new(&vars, options()).unwrap();
        let found = gradients(&optimiser, &[Some(vec![1.0]), None]);
        optimiser.update(&found, 0.1, 0).unwrap();
        assert_ne!(values(&vars["a"]), [1.0]);
        assert_eq!(values(&vars["b"]), [1.0]);
        assert_eq!([optimiser.parameters[0].updates, optimiser.parameters[1].updates], [1, 0]);
    }

    #[test]
    fn narrow_parameters_are_updated_through_a_wide_copy() {
        let wide = Var::new(&[[1f32; 4]], &Device::Cpu).unwrap();
        let narrow = Var::from_tensor(&wide.to_dtype(DType::BF16).unwrap()).unwrap();
        let run = |var: &Var| {
            let mut optimiser = AdamW::new(&BTreeMap::from([("w".into(), var.clone())]), options()).unwrap();
            for _ in 0..100 {
                let found = gradients(&optimiser, &[Some(vec![1.0; 4])]);
                // Each update is far below the spacing of bf16 numbers around 1.
                optimiser.update(&found, 1e-4, 0).unwrap();
            }
            values(var)[0]
        };
        let (wide, narrow) = (run(&wide), run(&narrow));
        assert!(wide < 0.995);
        assert!((wide - narrow).abs() < 0.004, "{wide} {narrow}");
    }

    #[test]
    fn a_bad_gradient_leaves_everything_as_it_was() {
        let vars: BTreeMap<String, Var> = ["a", "b"].map(|name| (name.to_string(), Var::new(&[[1f32]], &Device::Cpu).unwrap())).into();
        let mut optimiser = AdamW::new(&vars, options()).unwrap();
        let found = gradients(&optimiser, &[Some(vec![1.0]), Some(vec![f32::NAN])]);
        let error = optimiser.update(&found, 0.1, 7).unwrap_err();
        assert!(matches!(&error, Error::NonFiniteGradient { step: 7, parameter } if parameter == "b"), "{error}");
        assert_eq!([values(&vars["a"]), values(&vars["b"])], [[1.0], [1.0]]);
        assert_eq!(optimiser.parameters[0].first_moment, [0.0]);
        assert_eq!(optimiser.parameters[0].updates, 0);
    }
}
