//! What the optimizer keeps of each parameter, and the step that updates it.

use super::params::ParamSpec;
use crate::config::train::{OptimizerConfig, OptimizerKind};
use crate::graph::recording::Recorder;
use crate::graph::{Dtype, Role, Tensor, Tensors};
use crate::kernels::{adamw, adamw8bit};
use crate::reference::adamw8bit::MAP_VALUES;

/// Tensors of AdamW beside a parameter.
#[derive(Clone, Copy, Debug)]
pub struct Moments {
    /// The parameter, or a part of one.
    pub parameter: Tensor,
    /// Its copy in f16, or four floats that nothing reads.
    pub copy: Tensor,
    /// Means of its gradients (m) and of their squares (v).
    pub kept: Kept,
}

/// How the two moments are kept.
#[derive(Clone, Copy, Debug)]
pub enum Kept {
    /// In 32 bits.
    Whole {
        /// m, in the parameter's shape.
        first: Tensor,
        /// v, likewise.
        second: Tensor,
    },
    /// In 8 bits, as [`adamw8bit`] describes.
    Coded {
        /// Four codes of m and four of v, alternating; the last four may reach past the end.
        codes: Tensor, // (ceil(n / 4), 2)
        /// The factors of their blocks.
        absmax: Tensor, // (ceil(n / block), 2)
        /// The values behind the codes, which all parameters share.
        maps: Tensor, // (2, 256)
    },
}

/// Elements that share a factor, if the moments of a parameter of so many elements are kept in 8 bits.
pub fn block(optimizer: &OptimizerConfig, elements: usize) -> Option<usize> {
    let coded = optimizer.kind == OptimizerKind::Adamw8bit && elements >= adamw8bit::SMALLEST;
    coded.then_some(optimizer.block_size)
}

/// Adds the maps that all 8-bit moments share; nothing where no parameter has any.
pub fn maps<'s>(
    t: &mut Tensors,
    mut specs: impl Iterator<Item = &'s ParamSpec>,
    o: &OptimizerConfig,
) -> Option<Tensor> {
    specs.any(|spec| block(o, spec.elements()).is_some()).then(|| t.real("maps", &[MAP_VALUES], Role::State))
}

impl Moments {
    /// Adds the moments of `parameter`, a part of `spec`, which updates also write to `copy`.
    pub fn new(
        t: &mut Tensors,
        optimizer: &OptimizerConfig,
        spec: &ParamSpec,
        maps: Option<Tensor>,
        [parameter, copy]: [Tensor; 2],
    ) -> Self {
        let info = t.info(parameter).clone();
        let n = info.elements();
        let kept = match (block(optimizer, spec.elements()), maps) {
            (Some(block), Some(maps)) => Kept::Coded {
                codes: t.index(format!("codes.{}", info.name), &[n.div_ceil(4), 2], Role::Moment),
                absmax: t.real(format!("absmax.{}", info.name), &[n.div_ceil(block), 2], Role::Moment),
                maps,
            },
            _ => {
                let mut moment = |kind: &str| t.real(format!("{kind}.{}", info.name), &info.shape, Role::Moment);
                Kept::Whole { first: moment("m"), second: moment("v") }
            }
        };
        Moments { parameter, copy, kept }
    }

    /// Records the update of the parameter by its gradient, of which `state` and `result` say the rest, and which is
    /// then `zeroed` or left as it is.
    pub fn record(
        &self,
        r: &mut Recorder<'_>,
        optimizer: &OptimizerConfig,
        weight_decay: f32,
        [state, result]: [Tensor; 2],
        gradient: Tensor,
        zeroed: bool,
    ) {
        let count = r.tensors.elements(self.parameter) as u32;
        let [beta1, beta2, epsilon] = [optimizer.beta1, optimizer.beta2, optimizer.epsilon].map(|x| x as f32);
        let Moments { parameter, copy, .. } = *self;
        let copied = u32::from(r.tensors.info(copy).dtype == Dtype::F16);
        let zeroed = u32::from(zeroed);
        match self.kept {
            Kept::Whole { first, second } => {
                let params = adamw::Params { count, beta1, beta2, epsilon, weight_decay, copied, zeroed };
                r.step(&adamw::KERNEL, &params, &[state, result, parameter, gradient, first, second, copy]);
            }
            Kept::Coded { codes, absmax, maps } => {
                let block = optimizer.block_size as u32;
                let params =
                    adamw8bit::Params { count, block, beta1, beta2, epsilon, weight_decay, copied, zeroed, zero: 0 };
                let tensors = [state, result, maps, parameter, gradient, codes, absmax, copy];
                r.step(&adamw8bit::KERNEL, &params, &tensors);
            }
        }
    }
}
