//! The tensors a network is built from: trainable, or the same storage without a gradient.

use std::collections::BTreeMap;

use candle_core::{Tensor, Var};

use crate::layout;
use crate::{Error, ModelConfig, Result};

pub(crate) struct Params {
    tensors: BTreeMap<String, Tensor>,
}

impl Params {
    /// Checks `vars` against the configuration; with `detach` no gradient is recorded through the tensors.
    pub(crate) fn new(config: &ModelConfig, vars: &BTreeMap<String, Var>, detach: bool) -> Result<Self> {
        let mut tensors = BTreeMap::new();
        for param in layout::params(config) {
            let fail = |problem: String| Error::Parameter { name: param.name.clone(), problem, expected: param.shape.clone() };
            let var = vars.get(&param.name).ok_or_else(|| fail("is missing".into()))?;
            if var.dims() != param.shape {
                return Err(fail(format!("has shape {:?}", var.dims())));
            }
            let tensor = if detach { var.as_detached_tensor() } else { var.as_tensor().clone() };
            tensors.insert(param.name, tensor);
        }
        Ok(Self { tensors })
    }

    pub(crate) fn get(&self, name: &str) -> Result<Tensor> {
        self.tensors.get(name).cloned().ok_or_else(|| Error::Parameter {
            name: name.to_owned(),
            problem: "is missing".into(),
            expected: Vec::new(),
        })
    }
}
