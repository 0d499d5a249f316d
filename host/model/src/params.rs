//! The tensors a network is built from: trainable, or the same storage without a gradient.

use std::collections::BTreeMap;

use candle_core::{Tensor, Var};

use crate::layout;
use crate::ops::{Block, Linear};
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

    /// The parameters of half a layer: a norm, the linear map out of the residual stream, the one back into it.
    pub(crate) fn block(&self, norm: &str, input: &str, output: &str, eps: f32) -> Result<BlockParams> {
        let linear = |name: &str| {
            let bias = self.tensors.get(&format!("{name}.bias")).cloned();
            Ok::<_, Error>((self.get(&format!("{name}.weight"))?, bias))
        };
        Ok(BlockParams { norm: self.get(&format!("{norm}.weight"))?, eps, input: linear(input)?, output: linear(output)? })
    }

    pub(crate) fn get(&self, name: &str) -> Result<Tensor> {
        self.tensors.get(name).cloned().ok_or_else(|| Error::Parameter {
            name: name.to_owned(),
            problem: "is missing".into(),
            expected: Vec::new(),
        })
    }
}

/// The tensors of an [`ops::Block`](Block), owned.
pub(crate) struct BlockParams {
    pub(crate) norm: Tensor,
    pub(crate) eps: f32,
    pub(crate) input: (Tensor, Option<Tensor>),
    pub(crate) output: (Tensor, Option<Tensor>),
}

impl BlockParams {
    pub(crate) fn as_block(&self) -> Block<'_> {
        let Self { norm, eps, input, output } = self;
        let input = Linear { weight: &input.0, bias: input.1.as_ref() };
        let output = Linear { weight: &output.0, bias: output.1.as_ref() };
        Block { norm, eps: *eps, input, output }
    }
}
