//! Tensor handles and the table that knows their shapes.
//!
//! Letters in shape comments: B sequences, T positions, N = B T tokens, d hidden width, H heads, V vocabulary,
//! E experts, K experts a token, r latent width.

use std::collections::HashMap;

/// Element type of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dtype {
    /// 32-bit float.
    F32,
    /// 16-bit float, of kernels that compute in f32 and store so.
    F16,
    /// 32-bit unsigned integer.
    U32,
}

impl Dtype {
    /// Size of an element.
    pub fn bytes(self) -> u64 {
        match self {
            Dtype::F32 | Dtype::U32 => 4,
            Dtype::F16 => 2,
        }
    }
}

/// What a tensor is for; decides how long its memory lives and how the plan reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Written by the host before a replay.
    Input,
    /// Part of the model: trained, or moved by updates in another way.
    Parameter,
    /// Accumulates over the micro-steps of a window.
    Gradient,
    /// A parameter's copy in f16, written by each update.
    Copy,
    /// Optimizer state.
    Moment,
    /// Kept between replays: counters, metrics.
    State,
    /// Lives inside one replay; its memory is shared with others.
    Activation,
}

/// A handle into [`Tensors`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tensor(u32);

impl Tensor {
    /// Position in the table.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// What the table knows of a tensor.
#[derive(Clone, Debug)]
pub struct TensorInfo {
    /// For messages and profiles; parameters carry their checkpoint name.
    pub name: String,
    /// Extent of each dimension.
    pub shape: Vec<usize>,
    /// Element type.
    pub dtype: Dtype,
    /// What it is for.
    pub role: Role,
    /// Whether several products add to its gradient: then that is f32 even where the tensor is f16.
    pub wide_gradient: bool,
}

impl TensorInfo {
    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Size in bytes.
    pub fn bytes(&self) -> u64 {
        self.elements() as u64 * self.dtype.bytes()
    }
}

/// All tensors of one program; its recordings share the table.
#[derive(Clone, Debug, Default)]
pub struct Tensors {
    infos: Vec<TensorInfo>,
    gradients: HashMap<Tensor, Tensor>,
}

impl Tensors {
    /// Adds a tensor.
    pub fn add(&mut self, name: impl Into<String>, shape: &[usize], dtype: Dtype, role: Role) -> Tensor {
        self.infos.push(TensorInfo { name: name.into(), shape: shape.to_vec(), dtype, role, wide_gradient: false });
        Tensor(self.infos.len() as u32 - 1)
    }

    /// Adds a tensor of floats.
    pub fn real(&mut self, name: impl Into<String>, shape: &[usize], role: Role) -> Tensor {
        self.add(name, shape, Dtype::F32, role)
    }

    /// Adds a tensor of integers.
    pub fn index(&mut self, name: impl Into<String>, shape: &[usize], role: Role) -> Tensor {
        self.add(name, shape, Dtype::U32, role)
    }

    /// Adds an activation like `tensor`, for what is made a second time.
    pub fn again(&mut self, tensor: Tensor) -> Tensor {
        let info = self.info(tensor).clone();
        self.infos.push(TensorInfo { role: Role::Activation, ..info });
        Tensor(self.infos.len() as u32 - 1)
    }

    /// Adds a trained tensor together with its gradient.
    pub fn parameter(&mut self, name: impl Into<String>, shape: &[usize]) -> Tensor {
        let name = name.into();
        let gradient = self.real(format!("grad.{name}"), shape, Role::Gradient);
        let parameter = self.real(name, shape, Role::Parameter);
        self.gradients.insert(parameter, gradient);
        parameter
    }

    /// Gives an activation memory of its own, so that its value is still there after a replay.
    pub fn keep(&mut self, tensor: Tensor) {
        let info = &mut self.infos[tensor.index()];
        if info.role == Role::Activation {
            info.role = Role::State;
        }
    }

    /// Makes the gradient of `tensor` f32 whatever the tensor is: several products add to it.
    pub fn widen_gradient(&mut self, tensor: Tensor) {
        self.infos[tensor.index()].wide_gradient = true;
    }

    /// What the table knows of `tensor`.
    pub fn info(&self, tensor: Tensor) -> &TensorInfo {
        &self.infos[tensor.index()]
    }

    /// Extent of dimension `axis`.
    pub fn extent(&self, tensor: Tensor, axis: usize) -> usize {
        self.info(tensor).shape[axis]
    }

    /// Number of elements.
    pub fn elements(&self, tensor: Tensor) -> usize {
        self.info(tensor).elements()
    }

    /// Where the gradient of a parameter accumulates.
    pub fn gradient_of(&self, parameter: Tensor) -> Option<Tensor> {
        self.gradients.get(&parameter).copied()
    }

    /// Every tensor with its handle.
    pub fn iter(&self) -> impl Iterator<Item = (Tensor, &TensorInfo)> {
        self.infos.iter().enumerate().map(|(i, info)| (Tensor(i as u32), info))
    }
}
