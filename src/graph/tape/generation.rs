//! Operations of generation: they have no gradient.

use super::Tape;
use crate::graph::op::{CachePlace, CachedSizes, FewExperts, Normed, Op, Weight};
use crate::graph::tensor::{Role, Tensor};

impl Tape<'_> {
    /// Causal attention over the latent cache, which first takes each token in: q (N, H (dn + dr)), not yet turned;
    /// latents and rope keys (N, r + dr), not yet normalised and turned; the norm's weight (r); and the up-projection
    /// (H (dn + dv), r) to (N, H dv).
    pub fn cached_attention(
        &mut self,
        q: Tensor,
        [down, norm]: [Tensor; 2],
        up: &Weight,
        place: CachePlace,
        sizes: CachedSizes,
    ) -> Tensor {
        assert!(!self.training, "generation has no gradient");
        let weight = up.single();
        let [rows, heads, splits] = [sizes.rows, sizes.heads, sizes.splits].map(|x| x as usize);
        let (stored, width, columns) = (self.dtype(q), sizes.width() as usize, sizes.latent as usize);
        let absorbed = self.tensors.add("absorbed", &[rows, heads, width], stored, Role::Activation);
        let sums = self.activation("latent_sums", &[rows, heads, splits, columns]);
        let statistics = self.activation("latent_statistics", &[rows, heads, splits, 2]);
        let out = self.tensors.add("attended", &[rows, heads * sizes.value as usize], stored, Role::Activation);
        let parts = [sums, statistics];
        self.ops.push(Op::CachedAttention { q, down, norm, weight, place, sizes, absorbed, parts, out });
        out
    }

    /// `residual + norm(x) W^T` of a few rows, without the norm or the residual where these are absent: (N, in) and
    /// (out, in) to (N, out), in f32.
    pub fn few_linear(
        &mut self,
        x: Tensor,
        norm: Option<(Tensor, f64)>,
        weight: &Weight,
        residual: Option<Tensor>,
    ) -> Tensor {
        let y = self.activation("few_linear", &[self.rows(x), weight.rows]);
        self.push_few_linear(x, norm, weight, residual, y);
        y
    }

    /// [`Tape::few_linear`] into a tensor that outlives the replay.
    pub fn few_logits(&mut self, x: Tensor, norm: (Tensor, f64), weight: &Weight) -> Tensor {
        let y = self.tensors.real("logits_out", &[self.rows(x), weight.rows], Role::State);
        self.push_few_linear(x, Some(norm), weight, None, y);
        y
    }

    fn push_few_linear(
        &mut self,
        x: Tensor,
        norm: Option<(Tensor, f64)>,
        weight: &Weight,
        residual: Option<Tensor>,
        y: Tensor,
    ) {
        let norm = norm.map(|(weight, epsilon)| (weight, epsilon as f32));
        self.ops.push(Op::FewLinear { x, norm, weight: weight.single(), residual, y });
    }

    /// `x + the feed-forward layer of norm(x)` of a few rows; the shape stays.
    pub fn few_experts(&mut self, x: Normed, layer: FewExperts) -> Tensor {
        let experts = layer.experts.map_or(0, |[gate, ..]| self.tensors.extent(gate, 1));
        let shared = layer.shared.map_or(0, |[gate, ..]| self.rows(gate));
        let hidden = layer.routed.map_or(0, |[chosen, _]| self.width(chosen)) * experts + shared;
        let h = self.activation("few_hidden", &[self.rows(x.x), hidden]);
        let y = self.like("few_experts", x.x);
        self.ops.push(Op::FewExperts { x, layer, h, y });
        y
    }
}
