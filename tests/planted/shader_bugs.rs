//! The bugs that are planted in shaders.

use super::shader::ShaderBug;

const fn bug(what: &'static str, stem: &'static str, old: &'static str, new: &'static str) -> ShaderBug {
    ShaderBug::new(what, stem, old, new)
}

/// No patch reads or writes past a buffer's end: the shaders run without bounds checks.
pub static BUGS: &[ShaderBug] = &[
    // The loss.
    bug("cross-entropy without the one-hot", "cross_entropy", "s - select(", "s - 0.0 * select(").times(2),
    bug("cross-entropy without the row's weight", "cross_entropy", "d *= weight;", ""),
    bug("an ignored row keeps its gradient", "cross_entropy", "if (wanted >= p.classes)", "if (wanted == p.classes)"),
    bug("softmax of the loss not normalised", "cross_entropy", " / Elements(total)", ""),
    bug("weight of the row before", "cross_entropy", "loss_weights[token]", "loss_weights[max(token, 1u) - 1u]"),
    // Norms.
    bug("norm backward without its second term", "rms_norm_backward", " - f32(x[first + i]) * slope", ""),
    bug("norm backward without the weight", "rms_norm_backward", "let d = weight[i] * ", "let d = "),
    bug("norm backward divides by no width", "rms_norm_backward", " / f32(p.width)", ""),
    bug("norm weight gradient overwritten", "rms_norm_weight_grad", "d_weight[column] += ", "d_weight[column] = "),
    bug("norm weight gradient without the root", "rms_norm_weight_grad", " * inverse_rms[row]", ""),
    // Activation, rotation, dropout, addition, copies.
    bug("swiglu without its second term", "swiglu_backward", "(Elements(1.0) + a * sigmoid(-a))", "Elements(1.0)"),
    bug("swiglu: d_up without the sigmoid", "swiglu_backward", "(d * a * s);", "(d * a);"),
    bug("swiglu: upstream gradient dropped", "swiglu_backward", "Elements(d_h[i])", "Elements(1.0)"),
    bug("rotation's sign in backward", "rope", " * p.direction", "").times(2),
    bug(
        "rotation by the head's position",
        "rope",
        "positions[head_row / p.heads]",
        "positions[min(head_row, p.rows - 1u)]",
    ),
    bug("dropout without 1 / keep", "dropout", " * (1.0 / (1.0 - p.rate))", ""),
    bug("dropout's mask inverted", "dropout", "random >= threshold", "random < threshold"),
    bug("dropout's mask of another site", "dropout", "state[STATE_KEY1], p.site)", "state[STATE_KEY1], p.site + 1u)"),
    bug("residual gradient dropped", "add", " + Elements(b[i])", ""),
    bug("an adapter's factor dropped", "scale", "p.factor * ", ""),
    bug("split: the place in the row dropped", "copy_columns", " + p.target_offset", ""),
    // Embedding.
    bug("repeated tokens overwritten", "embed_backward", "sum += d_y[", "sum = d_y["),
    bug("frequent tokens: one of four counts", "embed_backward", "        sum += d#{i};", "        sum += d0;"),
    bug("embedding gradient not accumulated", "embed_backward", "sum = d_table[row * p.width + column]", "sum = 0.0"),
    // Attention.
    bug("attention: D dropped", "attention_delta", "vec2(lse[place], sum)", "vec2(lse[place], 0.0)"),
    bug("attention: D without the last lane", "attention_delta", "#for i in 1..LANES", "#for i in 1..LANES - 1"),
    bug("d_q without D", "attention_backward_q", " - stats#{r}.y", ""),
    bug("d_k without D", "attention_backward_kv", " - stats#{r}.y", ""),
    bug("d_q without the scale", "attention_backward_q", "p.scale * d_q", "d_q"),
    bug("d_k without the scale", "attention_backward_kv", "p.scale * d_key", "d_key"),
    bug("d_v without dropout", "attention_backward_kv", "p#{r} * z#{r};", "p#{r};"),
    bug("d_k without dropout", "attention_backward_kv", "(z#{r} * d_weights", "(d_weights"),
    bug("d_q: no 1 / keep", "attention_backward_q", "1.0 / (1.0 - p.dropout)", "1.0").shared("attention"),
    bug("no causal mask", "attention", "keys <= vec4(query)", "keys < vec4(p.length)").shared("attention"),
    bug("d_q: no causal mask", "attention_backward_q", "keys <= vec4(query)", "keys < vec4(p.length)")
        .shared("attention"),
    bug("d_k: no causal mask", "attention_backward_kv", "keys <= vec4(query)", "keys < vec4(p.length)")
        .shared("attention"),
    bug("d_q: the next key is seen", "attention_backward_q", "keys <= vec4(query)", "keys <= vec4(query + 1u)")
        .shared("attention"),
    bug("d_k: a key does not see itself", "attention_backward_kv", "keys <= vec4", "keys < vec4").shared("attention"),
    bug(
        "d_q: documents see each other",
        "attention_backward_q",
        "(keys >= vec4(document_start[at.first + query])) & ",
        "",
    )
    .shared("attention")
    .seen_by("two documents in a row"),
    bug("d_k_rope of one head only", "sum_heads", "head < p.heads", "head < 1u"),
    // Router and balance loss.
    bug("router: gradient of the mean dropped", "router_backward", "* (d_p[e] - mean)", "* d_p[e]"),
    bug(
        "router: normalisation not differentiated",
        "router_backward",
        "(d_weights[first_choice + j] - mean)",
        "d_weights[first_choice + j]",
    ),
    bug("router: scaling dropped", "router_backward", "p.scale / divisor", "1.0 / divisor"),
    bug("router: divisor dropped", "router_backward", "p.scale / divisor", "p.scale"),
    bug("router: balance loss dropped", "router_backward", "d_p[e] = d_probs[first + e];", ""),
    bug(
        "router: balance loss overwritten",
        "router_backward",
        "d_p[chosen[first_choice + j]] += ",
        "d_p[chosen[first_choice + j]] = ",
    ),
    bug("balance loss scaled by k", "balance_loss", "(#{SELECTED}.0 * present)", "present"),
    bug(
        "balance loss without the mean over tokens",
        "balance_loss",
        "one_sequence * load / present",
        "one_sequence * load",
    ),
    bug("balance loss counts padding", "balance_loss", "    if (real[t] != 0u) {", "    if (true) {"),
    bug("expert loads count padding", "expert_load", "real[token#{i}] != 0u && ", ""),
    bug("expert loads count the last token again", "expert_load", " && first + #{i * THREADS}u < p.tokens", ""),
    bug("expert loads of one choice of K", "expert_load", "#for j in 0..SELECTED", "#for j in 0..1").times(2),
    bug("balance gradient of padding", "balance_loss_backward", ", real[t] != 0u)", ", true)"),
    bug("balance gradient of another sequence", "balance_loss_backward", "t / p.length", "t % p.sequences"),
    // Experts.
    bug("expert offsets off by one", "expert_scan", "i < e; i++", "i + 1u < e; i++"),
    bug("slots off by one", "expert_scatter", "before < lane", "before + 1u < lane"),
    bug("combine gradient unweighted", "expert_combine_backward", "(weight * d);", "(d);"),
    bug("combine: token of the slot, not of its pair", "expert_combine_backward", "token = pair /", "token = slot /"),
    bug("combine: weights by slot", "expert_combine_backward", "d_weights[pair]", "d_weights[slot]"),
    bug(
        "gather backward misses the last of K",
        "expert_gather_backward",
        "#for j in 0..SELECTED",
        "#for j in 0..SELECTED - 1",
    ),
    bug(
        "gather backward by pair, not by slot",
        "expert_gather_backward",
        "d_y[pair_slot[token * #{SELECTED}u + #{j}u] *",
        "d_y[(token * #{SELECTED}u + #{j}u) *",
    ),
    bug(
        "expert weight gradient of the neighbour",
        "matmul_experts_weight_grad",
        "t.c = (own *",
        "t.c = ((own + 1u) % p.expert_count *",
    )
    .seen_by("37 x 70, experts from 0, 4 in all"),
    bug(
        "expert weight gradient: the part's first expert dropped",
        "matmul_experts_weight_grad",
        "offsets[p.first_expert + own",
        "offsets[own",
    )
    .times(2)
    .seen_by("20 x 31, experts from 1, 4 in all"),
    bug("an expert without rows keeps its gradient", "matmul_experts_weight_grad", "#if ACCUMULATE == 0", "#if 0")
        .seen_by("37 x 70, experts from 0, 4 in all, overwritten"),
    bug("expert weight gradient overwritten", "matmul_experts_weight_grad", "f32(c[at + #{e}u]) + sum", "sum")
        .shared("product"),
    bug("expert product with the first expert's weight", "matmul_experts", "own * p.k * p.n + column", "column")
        .seen_by("ragged, transposed"),
    bug(
        "expert product: the last row of a tile dropped",
        "matmul_experts",
        "offsets[expert + 1u] - row,",
        "max(offsets[expert + 1u] - row, 2u) - 1u,",
    )
    .seen_by("ragged"),
    // Products.
    bug("product: one term too many at the edge", "matmul", "step) < vec4(end)", "step) <= vec4(end)")
        .shared("product"),
    bug("product: the last column dropped", "matmul", "if (left > #{e}u)", "if (left > #{e + 1}u)").shared("product"),
    bug("product: the last row dropped", "matmul", "if (row < t.rows &&", "if (row + 1u < t.rows &&").shared("product"),
    bug("product: overwritten, not accumulated", "matmul", "f32(c[at + #{e}u]) + sum", "sum")
        .shared("product")
        .seen_by("nt 67 x 71 x 37, accumulate 1"),
    bug("product: the same in fours", "matmul", "vec4<f32>(c[i]) + sum", "sum")
        .shared("product")
        .seen_by("tn 68 x 76 x 36, accumulate 1"),
    bug("product: residual dropped", "matmul", "f32(residual[at + #{e}u]) + ", "")
        .shared("product")
        .seen_by("nn 67 x 71 x 37, accumulate 2"),
    bug(
        "product: the old value in place of the residual",
        "matmul",
        "vec4<f32>(residual[i]) + sum",
        "vec4<f32>(c[i]) + sum",
    )
    .shared("product")
    .seen_by("nt 68 x 76 x 36, accumulate 2"),
    bug("product: offset of the weight's part dropped", "matmul", "p.a_offset + row * p.lda", "row * p.lda")
        .seen_by("nt 67 x 71 x 37, accumulate 1"),
    bug(
        "product: every slice begins with the first",
        "matmul",
        "p.a_offset + row * p.lda + first",
        "p.a_offset + row * p.lda",
    )
    .seen_by("nt 33 x 5 x 75, accumulate 0, slices of 32"),
    bug("product: a slice as long as the others", "matmul", "min(p.slice, p.k - first)", "min(p.slice, p.k)")
        .seen_by("nt 33 x 5 x 75, accumulate 0, slices of 32"),
    bug("slices: the last left out", "sum_slices", "slice < p.slices", "slice + 1u < p.slices"),
    bug("slices: overwritten, not accumulated", "sum_slices", "Elements(c[at]) + sum", "sum"),
    bug("slices: offset of the result dropped", "sum_slices", "p.offset + i", "i"),
    // The update.
    bug("clip not applied", "adamw", " * result[RESULT_CLIP]", ""),
    bug("clip applied twice", "adamw", "result[RESULT_CLIP]", "result[RESULT_CLIP] * result[RESULT_CLIP]"),
    bug(
        "weight decay after the step",
        "adamw",
        "x - (rate * p.weight_decay * x + step * mean / (sqrt(square) * scale + Elements(p.epsilon)))",
        "(x - step * mean / (sqrt(square) * scale + Elements(p.epsilon))) * (1.0 - rate * p.weight_decay)",
    ),
    bug(
        "weight decay inside the gradient",
        "adamw",
        "gradient[i] * result[RESULT_CLIP]",
        "gradient[i] * result[RESULT_CLIP] + p.weight_decay * parameter[i]",
    ),
    bug("weight decay without the rate", "adamw", "rate * p.weight_decay", "p.weight_decay"),
    bug("first bias correction missing", "adamw", " / result[RESULT_CORRECTION1]", ""),
    bug("second bias correction missing", "adamw", "1.0 / sqrt(result[RESULT_CORRECTION2])", "1.0"),
    bug(
        "second bias correction without its root",
        "adamw",
        "sqrt(result[RESULT_CORRECTION2])",
        "result[RESULT_CORRECTION2]",
    ),
    bug(
        "epsilon inside the root",
        "adamw",
        "sqrt(square) * scale + Elements(p.epsilon)",
        "sqrt(square * scale * scale + p.epsilon)",
    ),
    bug("gradient not zeroed", "adamw", "    gradient[i] = Elements(0.0);\n", ""),
    bug("gradient zeroed unasked", "adamw", "p.zeroed == 1u", "true"),
    bug("a gradient that is not finite is used", "adamw", "result[RESULT_FINITE] == 1.0", "true"),
    bug(
        "norm of part of the gradient",
        "grad_norm",
        "(group.x + 1u) * share, count)",
        "(group.x + 1u) * share, count) - 1u",
    ),
    bug(
        "clip lengthens short gradients",
        "grad_norm_finish",
        "min(1.0, p.clip_norm / (norm + 1e-6))",
        "p.clip_norm / (norm + 1e-6)",
    ),
    bug("clip by the square of the norm", "grad_norm_finish", "sqrt(sum) / scale", "sum / scale"),
    // Slips that show only in one form of a text, past the first round of a loop or the first tile.
    bug(
        "one-hot dropped in vectors",
        "cross_entropy",
        "s - select(vec4(0.0), vec4(1.0)",
        "s - select(vec4(0.0), vec4(0.0)",
    ),
    bug("one-hot dropped in scalars", "cross_entropy", "s - select(0.0, 1.0", "s - select(0.0, 0.0"),
    bug("the running sum not rescaled", "cross_entropy", "sum *= exp(largest - upper);", ""),
    bug("sums of invocations not rescaled", "cross_entropy", "sum * exp(largest - top)", "sum"),
    bug("rows past the first lap dropped", "rms_norm_weight_grad", "row += #{ROW_LANES}u", "row += p.rows"),
    bug("rows of the unrolled lap: one of four", "rms_norm_weight_grad", "#for i in 0..4", "#for i in 0..3"),
    bug(
        "columns past the first lap dropped",
        "rms_norm_backward",
        "i < p.width; i += #{THREADS}u) {\n        product",
        "i < min(p.width, #{THREADS}u); i += #{THREADS}u) {\n        product",
    ),
    bug("last lane of a vector of squares dropped", "grad_norm", "(square.z + square.w)", "square.z"),
    bug("last lane of a vector of products dropped", "expert_combine_backward", " + products.w", ""),
    bug("mask of a vector's first element for all", "dropout", "4u * i + 3u", "4u * i"),
    bug(
        "attention's mask of a vector's first element",
        "attention_backward_q",
        "random_at(key, keys.w)",
        "random_at(key, keys.x)",
    )
    .shared("attention")
    .seen_by("narrow heads, dropout, a late document"),
    bug(
        "dropout by the key alone",
        "attention_backward_kv",
        "at.number * p.length + query);",
        "at.number * p.length);",
    )
    .shared("attention")
    .seen_by("narrow heads, dropout, a late document"),
    bug("every head drops the same", "attention_backward_kv", "at.number * p.length + query);", "query);")
        .shared("attention"),
    bug(
        "rope columns of queries end one early",
        "attention_backward_q",
        "column < #{WIDTH}u);",
        "column + 1u < #{WIDTH}u);",
    )
    .shared("attention"),
    bug("value columns end one early", "attention_backward_kv", "column < #{VALUE}u);", "column + 1u < #{VALUE}u);")
        .shared("attention"),
    bug(
        "all sequences see the first document's start",
        "attention_backward_q",
        "document_start[at.first + query]",
        "document_start[query]",
    )
    .shared("attention")
    .seen_by("two documents in a row"),
    bug(
        "statistics of the first sequence",
        "attention_backward_kv",
        "row_stats[at.number * p.length +",
        "row_stats[at.number % p.heads * p.length +",
    ),
    bug(
        "a sweep stops before the document ends",
        "attention_backward_kv",
        ">= first_key + #{KEYS}u",
        ">= first_key + 1u",
    )
    .seen_by("two documents in a row"),
    bug(
        "a sweep begins a tile late",
        "attention_backward_q",
        "let begin = document_start[at.first + first_query] / #{KEYS}u * #{KEYS}u;",
        "let begin = min((document_start[at.first + first_query] + #{KEYS - 1}u) / #{KEYS}u * #{KEYS}u, first_query);",
    )
    .seen_by("two documents in a row"),
    bug("statistics of heads mixed", "attention_delta", "(sequence * p.heads + row % p.heads)", "(sequence * p.heads)"),
    bug("lap of sums: the second part lost", "expert_scan", "slot += part_sums[i * #{EXPERTS}u + e];", ""),
    bug("every tile begins at the expert's first slot", "expert_scan", "slot + i * p.tile_rows", "slot"),
    bug("every second lap over the experts dropped", "router_backward", "e += #{THREADS}u", "e += #{2 * THREADS}u")
        .times(6),
    bug("epsilon of the divisor dropped", "router_backward", "divisor += p.epsilon;", ""),
    bug("loss scale dropped", "balance_loss", "loss_scale * one_sequence", "one_sequence"),
    bug(
        "sum over the window's sequences, not their mean",
        "balance_loss",
        "p.alpha * bitcast<f32>(state[STATE_INVERSE_SEQUENCES])",
        "p.alpha",
    ),
    bug(
        "tokens past the unrolled lap dropped",
        "balance_loss",
        "for (; t < end; t += #{ROWS}u) {",
        "for (; t < first; t += #{ROWS}u) {",
    ),
    bug("a ragged band as high as the others", "matmul", "within / height", "within / #{BAND}u")
        .seen_by("nt 67 x 71 x 37, accumulate 1"),
    bug("distance of result rows", "matmul", "t.ldc = p.ldc;", "t.ldc = p.n;").seen_by("nt 67 x 71 x 37, accumulate 1"),
    bug("offset of the second factor dropped", "matmul", "t.b = p.b_offset + column + ", "t.b = column + ")
        .seen_by("nn 67 x 71 x 37, accumulate 2"),
    bug("second column group in place of the first", "matmul", "j * COLUMN_LANES}u", "0 * COLUMN_LANES}u")
        .shared("product")
        .seen_by("nt 67 x 71 x 37, accumulate 1"),
    bug("the last part of k too often", "matmul", "let next = min(k0 + #{BK}u, last);", "let next = last;")
        .shared("product")
        .seen_by("nt 67 x 71 x 37, accumulate 1"),
    bug(
        "the expert's last row dropped",
        "matmul_experts_weight_grad",
        "t.k = end - first;",
        "t.k = max(end - first, 2u) - 1u;",
    )
    .seen_by("37 x 70, experts from 0, 4 in all"),
    bug(
        "second moment before the clip",
        "adamw",
        "(1.0 - p.beta2) * g * g",
        "(1.0 - p.beta2) * gradient[i] * gradient[i]",
    ),
    // Slips of the forward pass that a gradient inherits.
    bug("norm without epsilon", "rms_norm", " + p.epsilon", ""),
    bug("targets by row of the chunk", "cross_entropy", "targets[token]", "targets[row]"),
    bug("ignored targets counted", "loss_sum", "targets[i] != IGNORED", "true"),
    bug("losses of the micro-batch before lost", "loss_sum", "metrics[METRIC_LOSS] += ", "metrics[METRIC_LOSS] = "),
    bug("columns from the source's first", "copy_columns", " + p.source_offset", ""),
    bug("columns from the head's first", "sum_heads", " + p.offset +", " +"),
    bug("a part of the table counts from 0", "embed", "ids[token] - p.first_row", "ids[token]"),
    bug(
        "a part of the table's gradient counts from 0",
        "embed_backward",
        "ids[token_order[at]] - p.first_row",
        "ids[token_order[at]]",
    ),
    bug("router: epsilon dropped", "router", "divisor += p.epsilon;", ""),
    bug(
        "router: the higher number first on ties",
        "router",
        "theirs == own && other < e",
        "theirs == own && other > e",
    )
    .seen_by("ties"),
    bug("router: groups by their first expert", "router", "i < #{EXPERTS / GROUPS}u; i++", "i < 1u; i++")
        .seen_by("160 experts in 8 groups"),
    bug(
        "router: the bias in the weights",
        "router",
        "scale * scores[picked[j]]",
        "scale * (scores[picked[j]] + bias[picked[j]])",
    )
    .seen_by("biased, weights as they are"),
    bug(
        "router: experts chosen without the bias",
        "router",
        "key(#{BIASED ? scores[e] + bias[e] :",
        "key(#{BIASED ? scores[e] :",
    ),
    bug("router: groups by their best expert alone", "router", "key(best.x + best.y)", "key(best.x)")
        .seen_by("biased, 160 experts in 8 groups"),
    bug("sigmoid: scores for probabilities", "router", "scores[e] / total", "scores[e]"),
    bug("sigmoid: its slope dropped", "router_backward", "score * (1.0 - score) * d_p[e]", "score * d_p[e]"),
    bug("sigmoid: the sum of scores not differentiated", "router_backward", "(d_p[e] - mean_p)", "(d_p[e])"),
    bug("biases follow the loads", "expert_bias", "load > mean", "load < mean"),
    bug("biases: the mean rounded down", "expert_bias", " || rest > 0u", ""),
    bug("biases: the first layer's loads", "expert_bias", "p.row * p.experts", "0u"),
    bug("biases move in skipped updates", "expert_bias", "result[RESULT_FINITE] != 1.0", "false"),
    bug("combine: residual dropped", "expert_combine", "var sum = residual[i];", "var sum = Elements();"),
    bug("combine: weights of the first choice", "expert_combine", "weights[pair#{j}]", "weights[pair0]"),
    bug("gather: slot in place of its pair", "expert_gather", "slot_pair[slot] /", "slot /"),
    bug("count: the first block again", "expert_count", "found[chosen[pair]]", "found[chosen[lane]]"),
];
