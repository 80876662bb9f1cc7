//! Heads of one output, for values and rewards.

use super::Tape;
use crate::graph::objective::ScoreGoal;
use crate::graph::op::{Op, Weight};
use crate::graph::tensor::Tensor;

impl Tape<'_> {
    /// One number a token, `h w^T`, and its loss: (N, d) and (1, d) to (N, 1), which outlives the replay. When
    /// training, the gradient joins that of the loss head in `h`, as that of any operation that reads it.
    /// [`Tape::logits`] with such a weight gives the numbers alone. Such a head is learnt whole, so it has no adapter.
    pub fn score_head_loss(&mut self, h: Tensor, weight: &Weight, goal: ScoreGoal) -> Tensor {
        assert_eq!(weight.rows, 1, "a score head has one output");
        let scores = self.logits(h, weight);
        let shape = self.tensors.info(scores).shape.clone();
        let d_scores = self.activation("d_scores", &shape);
        self.ops.push(Op::ScoreLoss { scores, goal, d_scores });
        scores
    }
}
