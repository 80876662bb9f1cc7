//! What went bad first, where an update was not finite: looked for afterwards, by running its micro-steps again one
//! dispatch at a time and reading what each has written. Ordinary updates pay nothing for it.

use crate::error::Result;
use crate::graph::{Dtype, Executor, Role, Step, Tensor};
use crate::kernels::Access;
use crate::model::program::Program;
use std::fmt;

/// The first tensor that holds a number which is infinite or NaN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Its name; of a parameter and its gradient that of the checkpoint.
    pub tensor: String,
    /// What it is.
    pub kind: Kind,
    /// Number of the block that it belongs to; none for embedding, last norm and head.
    pub layer: Option<usize>,
    /// Number of the expert, of a parameter that holds all of a layer's.
    pub expert: Option<usize>,
    /// Position of the number in the tensor.
    pub index: usize,
}

/// What a tensor is to the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A parameter, bad before anything was computed.
    Parameter,
    /// What the host wrote for the batch.
    Input,
    /// Made by this kernel on the way to the loss.
    Forward(&'static str),
    /// Made by this kernel on the way back.
    Backward(&'static str),
    /// The gradient of a parameter, made by this kernel.
    Gradient(&'static str),
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, index) = (&self.tensor, self.index);
        let by = |kernel| format!(" (made by {kernel})");
        let (what, kernel) = match self.kind {
            Kind::Parameter => (format!("the parameter {name}"), String::new()),
            Kind::Input => (format!("the batch's {name}"), String::new()),
            Kind::Forward(kernel) => (format!("the forward pass's {name}"), by(kernel)),
            Kind::Backward(kernel) => (format!("the backward pass's {name}"), by(kernel)),
            Kind::Gradient(kernel) => (format!("the gradient of {name}"), by(kernel)),
        };
        write!(f, "what went bad first is {what}, number {index}{kernel}")?;
        match (self.layer, self.expert) {
            (Some(layer), Some(expert)) => write!(f, ", in layer {layer}, expert {expert}"),
            (Some(layer), None) => write!(f, ", in layer {layer}"),
            (None, _) => write!(f, ", outside of the layers"),
        }
    }
}

/// The first bad parameter or bad input of the batch that was fed.
pub fn before(program: &Program, executor: &mut dyn Executor) -> Result<Option<Finding>> {
    for (tensor, info) in program.tensors.iter() {
        let kind = match info.role {
            Role::Parameter => Kind::Parameter,
            Role::Input if info.dtype == Dtype::F32 => Kind::Input,
            _ => continue,
        };
        if let Some(index) = executor.first_not_finite(tensor)? {
            return Ok(Some(finding(program, tensor, kind, index, layer_of(&info.name))));
        }
    }
    Ok(None)
}

/// Runs a recording of a micro-step on the batch that was fed, one dispatch after the other; stops at the first that
/// writes a number which is not finite. Activations are cleared before: old numbers may have gone bad, too. Gradients
/// are left to [`clear_gradients`].
pub fn during(program: &Program, executor: &mut dyn Executor, recording: &str) -> Result<Option<Finding>> {
    let number = program.recording(recording);
    let steps = &program.recordings[number].steps;
    for &tensor in steps.iter().flat_map(|step| &step.tensors) {
        if program.tensors.info(tensor).role == Role::Activation {
            executor.clear(tensor)?;
        }
    }
    let turn = steps.iter().position(|step| step.kernel.stem == "cross_entropy").unwrap_or(steps.len());
    let mut layer = None;
    for (i, step) in steps.iter().enumerate() {
        layer = layer_of_step(program, step).unwrap_or(layer);
        executor.run_one(number, i)?;
        if steps.get(i + 1).is_some_and(|next| next.part > 0) {
            continue; // the other parts of this product belong to the same tensor
        }
        for (tensor, access) in step.uses() {
            let info = program.tensors.info(tensor);
            if access == Access::Read || info.dtype == Dtype::U32 {
                continue;
            }
            let Some(index) = executor.first_not_finite(tensor)? else { continue };
            let kernel = step.kernel.stem;
            let kind = match info.role {
                Role::Gradient => Kind::Gradient(kernel),
                _ if i <= turn => Kind::Forward(kernel),
                _ => Kind::Backward(kernel),
            };
            return Ok(Some(finding(program, tensor, kind, index, layer)));
        }
    }
    Ok(None)
}

/// Makes all gradients zeros, as updates leave those that the next micro-step adds to.
pub fn clear_gradients(program: &Program, executor: &mut dyn Executor) -> Result<()> {
    let gradients = program.tensors.iter().filter(|(_, info)| info.role == Role::Gradient);
    gradients.into_iter().try_for_each(|(tensor, _)| executor.clear(tensor))
}

/// The layer of a dispatch that reads or writes something of a parameter: of one outside of the layers, none.
fn layer_of_step(program: &Program, step: &Step) -> Option<Option<usize>> {
    let of_parameter =
        |&&tensor: &&Tensor| matches!(program.tensors.info(tensor).role, Role::Parameter | Role::Copy | Role::Gradient);
    step.tensors.iter().find(of_parameter).map(|&tensor| layer_of(&program.tensors.info(tensor).name))
}

/// The number after `layers.` in a parameter's name.
fn layer_of(name: &str) -> Option<usize> {
    name.split_once("layers.")?.1.split('.').next()?.parse().ok()
}

fn finding(program: &Program, tensor: Tensor, kind: Kind, index: usize, layer: Option<usize>) -> Finding {
    let is = |part: Tensor| part == tensor || program.tensors.gradient_of(part) == Some(tensor);
    for parameter in &program.weights.all {
        let Some((first, ..)) = parameter.weight.spans().find(|&(_, _, part)| is(part)) else { continue };
        let shape = &parameter.spec.shape;
        let row: usize = shape[1..].iter().product();
        let expert = (shape.len() == 3).then(|| first + index / row);
        let (tensor, index) = (parameter.spec.name.clone(), first * row + index);
        return Finding { layer: layer_of(&tensor), tensor, kind, expert, index };
    }
    Finding { tensor: program.tensors.info(tensor).name.clone(), kind, layer, expert: None, index }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_says_what_where_and_by_which_kernel() {
        let finding = |tensor: &str, kind, layer, expert| {
            Finding { tensor: tensor.to_owned(), kind, layer, expert, index: 7 }.to_string()
        };
        let name = "model.layers.12.mlp.experts.up_proj.weight";
        assert_eq!(layer_of(name), Some(12));
        assert_eq!(layer_of("model.norm.weight"), None);
        assert_eq!(
            finding(name, Kind::Gradient("matmul"), Some(12), Some(3)),
            "what went bad first is the gradient of model.layers.12.mlp.experts.up_proj.weight, number 7 \
             (made by matmul), in layer 12, expert 3"
        );
        assert_eq!(
            finding("model.norm.weight", Kind::Parameter, None, None),
            "what went bad first is the parameter model.norm.weight, number 7, outside of the layers"
        );
        assert!(finding("swiglu", Kind::Forward("swiglu"), Some(0), None).ends_with("(made by swiglu), in layer 0"));
    }
}
