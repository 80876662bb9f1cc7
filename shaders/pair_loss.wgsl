// The Bradley-Terry loss of a reward model. Sequences 2i and 2i + 1 of `length` tokens are pair i: chosen and rejected.
// The reward of a sequence is the score of the token that `ends` names; with u = chosen - rejected - margin,
//   loss = -ln sigmoid(u) + centring (chosen + rejected)^2,
//   d_scores there = loss scale / pairs of the window * (-+ sigmoid(-u) + 2 centring (chosen + rejected)),
// 0 elsewhere.
// A pair is padding if one of its ends is IGNORED: zeros. One workgroup a pair; overwrites the gradient and the
// results: loss, accuracy, both rewards, counted. Reference: src/reference/pair_loss.rs.
#import shared/elements
#import shared/sigmoid
#import shared/state

struct Params {
    pairs: u32,
    length: u32,
    centring: f32,
}
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> scores: array<f32>;         // (pairs, 2, length)
@group(0) @binding(1) var<storage, read> ends: array<u32>;           // (pairs, 2)
@group(0) @binding(2) var<storage, read> margins: array<f32>;        // (pairs)
@group(0) @binding(3) var<storage, read> state: array<u32>;          // (8)
@group(0) @binding(4) var<storage, read> result: array<f32>;         // (8)
@group(0) @binding(5) var<storage, read_write> d_scores: array<f32>; // (pairs, 2, length)
@group(0) @binding(6) var<storage, read_write> results: array<f32>;  // (pairs, 5)

@compute @workgroup_size(#{THREADS})
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let pair = group_index(group, groups);
    if (pair >= p.pairs) {
        return;
    }
    let first = 2u * pair * p.length;
    let end_chosen = ends[2u * pair];
    let end_rejected = ends[2u * pair + 1u];
    let counted = end_chosen != IGNORED && end_rejected != IGNORED;
    let chosen = scores[select(first, first + end_chosen, counted)];
    let rejected = scores[select(first, first + p.length + end_rejected, counted)];
    let u = chosen - rejected - margins[pair];
    let sum = chosen + rejected;
    let one_pair = result[RESULT_LOSS_SCALE] * bitcast<f32>(state[STATE_INVERSE_PAIRS]);
    let apart = one_pair * sigmoid(-u);
    let centre = one_pair * 2.0 * p.centring * sum;
    for (var i = lane; i < 2u * p.length; i += #{THREADS}u) {
        let of_chosen = counted && i == end_chosen;
        let of_rejected = counted && i == p.length + end_rejected;
        d_scores[first + i] = select(select(0.0, centre + apart, of_rejected), centre - apart, of_chosen);
    }
    if (lane == 0u) {
        let loss = softplus(-u) + p.centring * sum * sum;
        let better = select(0.0, 1.0, chosen > rejected);
        let row = array<f32, 5>(loss, better, chosen, rejected, 1.0);
#for i in 0..5
        results[5u * pair + #{i}u] = select(0.0, row[#{i}], counted);
#end
    }
}
