    // Statements of main that make the tile `t` and store it: see shared/coop.
    // The subgroup's corner in the tile.
    let y = lane / 32u / #{ACROSS}u * 64u;
    let x = lane / 32u % #{ACROSS}u * 64u;
    let ldc = t.ldc;
#for i in 0..4
#for j in 0..4
#if ACCUMULATE == 0 || STAGED
    var sum#{i}_#{j} = coop_mat16x16<f32, C>();
#else
    let old#{i}_#{j} = t.c + min(y + #{i * 16}u, t.rows - 16u) * ldc + min(x + #{j * 16}u, t.columns - 16u);
    var sum#{i}_#{j} = coopLoadT<coop_mat16x16<f32, C>>(&#{ACCUMULATE == 1 ? c : residual}[old#{i}_#{j}], ldc);
#end
#end
#end

#for i in 0..A_ITEMS
    let a_place#{i} = place_a(t, lane + #{i * THREADS}u);
#end
#for i in 0..B_ITEMS
    let b_place#{i} = place_b(t, lane + #{i * THREADS}u);
#end
    // An invocation's items lie THREADS apart, so that all but the first are a constant further in a part.
    let a_keep = a_line(lane) * #{A_STRIDE}u + lane % #{A_LINE}u;
    let b_keep = b_line(lane) * #{B_STRIDE}u + lane % #{B_LINE}u;
    let last = (t.k - 1u) / #{BK}u * #{BK}u;
#for i in 0..A_ITEMS
    var a#{i} = fetch_a(t, a_place#{i}, lane + #{i * THREADS}u, 0u);
#end
#for i in 0..B_ITEMS
    var b#{i} = fetch_b(t, b_place#{i}, lane + #{i * THREADS}u, 0u);
#end
    // Several parts a round: drivers do not unroll loops of unknown length, which cost a fifth of the rate on an H100.
    // Parts left over have rounds of their own.
    var k0 = 0u;
#for tail in 0..TAIL + 1
    for (; k0 + #{(1 - tail) * (UNROLL - 1) * BK}u < t.k; k0 += #{BK * (tail + (1 - tail) * UNROLL)}u) {
#for part in 0..tail + (1 - tail) * UNROLL
        {
        workgroupBarrier(); // the part before may still be read
#for i in 0..A_ITEMS
        a_part[a_keep + #{i * THREADS / A_LINE * A_STRIDE}u] = a#{i};
#end
#for i in 0..B_ITEMS
        b_part[b_keep + #{i * THREADS / B_LINE * B_STRIDE}u] = b#{i};
#end
        workgroupBarrier();
        // The next part travels while this one is multiplied. The last round reads its own again, for want of a branch.
        let next = min(k0 + #{(part + 1) * BK}u, last);
#for i in 0..A_ITEMS
        a#{i} = fetch_a(t, a_place#{i}, lane + #{i * THREADS}u, next);
#end
#for i in 0..B_ITEMS
        b#{i} = fetch_b(t, b_place#{i}, lane + #{i * THREADS}u, next);
#end
#for q in 0..BK / 16
#for i in 0..4
#if A_ALONG_K
        let left#{q}_#{i} =
            coopLoadT<coop_mat16x16<f16, A>>(&a_part[(y + #{i * 16}u) * #{A_STRIDE}u + #{q * 4}u], #{A_STRIDE}u);
#else
        let left#{q}_#{i} =
            coopLoad<coop_mat16x16<f16, A>>(&a_part[#{q * 16 * A_STRIDE + i * 4}u + y / 4u], #{A_STRIDE}u);
#end
#end
#for j in 0..4
#if B_ALONG_K
        let right#{q}_#{j} =
            coopLoad<coop_mat16x16<f16, B>>(&b_part[(x + #{j * 16}u) * #{B_STRIDE}u + #{q * 4}u], #{B_STRIDE}u);
#else
        let right#{q}_#{j} =
            coopLoadT<coop_mat16x16<f16, B>>(&b_part[#{q * 16 * B_STRIDE + j * 4}u + x / 4u], #{B_STRIDE}u);
#end
#end
#for i in 0..4
#for j in 0..4
        sum#{i}_#{j} = coopMultiplyAdd(left#{q}_#{i}, right#{q}_#{j}, sum#{i}_#{j});
#end
#end
#end
        }
#end
    }
#end

#if STAGED
    let strip = lane / 32u * #{16 * STAGE_STRIDE}u;
#for i in 0..4
#for j in 0..4
    workgroupBarrier(); // what was staged before may still be read
    coopStoreT(sum#{i}_#{j}, &stage[strip], #{STAGE_STRIDE}u);
    workgroupBarrier();
#for v in 0..2
    {
        let row = lane % 32u / 4u + #{8 * v}u;
        let below = y + #{i * 16}u + row;
        let right = x + #{j * 16}u + lane % 4u * 4u;
        if (#{EDGE_M ? below < t.rows : true} && #{EDGE_N ? right < t.columns : true}) {
            let at = (t.c + below * ldc + right) / 4u;
            let sum = stage[strip + row * #{STAGE_STRIDE}u + lane % 4u];
#if ACCUMULATE == 0
            c[at] = vec4<#{HALF_C ? f16 : f32}>(sum);
#else
            c[at] = vec4<#{HALF_C ? f16 : f32}>(sum + vec4<f32>(#{ACCUMULATE == 1 ? c : residual}[at]));
#end
        }
    }
#end
#end
#end
#else
#for i in 0..4
#for j in 0..4
    if (y + #{i * 16}u < t.rows && x + #{j * 16}u < t.columns) {
        // Bound to a name: naga 30 cannot write the translation of a store to a computed place.
        let at = t.c + (y + #{i * 16}u) * ldc + x + #{j * 16}u;
        coopStoreT(sum#{i}_#{j}, &c[at], ldc);
    }
#end
#end
#end
