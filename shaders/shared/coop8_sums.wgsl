    // Statements of main that make the tile `t` and store it: see shared/coop8.
    // The subgroup's corner in the tile.
    let y = lane / 32u / #{ACROSS}u * 32u;
    let x = lane / 32u % #{ACROSS}u * 32u;
    let ldc = t.ldc;
#if STAGED || ACCUMULATE == 0
    // Sums begin with zeros from memory: no document says that Metal fills a matrix that is made of nothing.
    let strip = lane / 32u * 256u;
    stage[strip + lane % 32u] = 0.0;
    stage[strip + lane % 32u + 32u] = 0.0;
    workgroupBarrier();
#end
#for i in 0..4
#for j in 0..4
#if STAGED || ACCUMULATE == 0
    var sum#{i}_#{j} = coopLoadT<coop_mat8x8<f32, C>>(&stage[strip], 8u);
#else
    let old#{i}_#{j} = t.c + min(y + #{i * 8}u, t.rows - 8u) * ldc + min(x + #{j * 8}u, t.columns - 8u);
    var sum#{i}_#{j} = coopLoadT<coop_mat8x8<f32, C>>(&#{ACCUMULATE == 1 ? c : residual}[old#{i}_#{j}], ldc);
#end
#end
#end

    let last = (t.k - 1u) / #{BK}u * #{BK}u;
#for i in 0..A_ITEMS
    var a#{i} = fetch_a(t, 0u, lane + #{i * THREADS}u);
#end
#for i in 0..B_ITEMS
    var b#{i} = fetch_b(t, 0u, lane + #{i * THREADS}u);
#end
    for (var k0 = 0u; k0 < t.k; k0 += #{BK}u) {
        workgroupBarrier(); // the part before may still be read
#for i in 0..A_ITEMS
        keep_a(lane + #{i * THREADS}u, a#{i});
#end
#for i in 0..B_ITEMS
        keep_b(lane + #{i * THREADS}u, b#{i});
#end
        workgroupBarrier();
        // The next part travels while this one is multiplied. The last round reads its own again, for want of a branch.
        let next = min(k0 + #{BK}u, last);
#for i in 0..A_ITEMS
        a#{i} = fetch_a(t, next, lane + #{i * THREADS}u);
#end
#for i in 0..B_ITEMS
        b#{i} = fetch_b(t, next, lane + #{i * THREADS}u);
#end
#for q in 0..BK / 8
#for i in 0..4
#if A_ALONG_K
        let left#{q}_#{i} =
            coopLoadT<coop_mat8x8<f16, A>>(&a_part[(y + #{i * 8}u) * #{A_STRIDE}u + #{q * 8}u], #{A_STRIDE}u);
#else
        let left#{q}_#{i} = coopLoad<coop_mat8x8<f16, A>>(&a_part[#{q * 8 * A_STRIDE + i * 8}u + y], #{A_STRIDE}u);
#end
#end
#for j in 0..4
#if B_ALONG_K
        let right#{q}_#{j} =
            coopLoad<coop_mat8x8<f16, B>>(&b_part[(x + #{j * 8}u) * #{B_STRIDE}u + #{q * 8}u], #{B_STRIDE}u);
#else
        let right#{q}_#{j} = coopLoadT<coop_mat8x8<f16, B>>(&b_part[#{q * 8 * B_STRIDE + j * 8}u + x], #{B_STRIDE}u);
#end
#end
#for i in 0..4
#for j in 0..4
        sum#{i}_#{j} = coopMultiplyAdd(left#{q}_#{i}, right#{q}_#{j}, sum#{i}_#{j});
#end
#end
#end
    }

#if STAGED
    // Eight rows at a time: 32 sums of a row lie side by side then, and each invocation stores two vectors of four.
#for i in 0..4
#if i > 0
    workgroupBarrier(); // the rows before may still be read
#end
#for j in 0..4
    let to#{i}_#{j} = strip + #{j * 8}u; // a name, for the reason given below
    coopStoreT(sum#{i}_#{j}, &stage[to#{i}_#{j}], 32u);
#end
    workgroupBarrier();
#for v in 0..2
    {
        let row = lane % 32u / 8u + #{4 * v}u;
        let below = y + #{i * 8}u + row;
        let right = x + lane % 8u * 4u;
        if (below < t.rows && right < t.columns) {
            let at = (t.c + below * ldc + right) / 4u;
            let start = strip + row * 32u + lane % 8u * 4u;
            let sum = vec4<f32>(stage[start], stage[start + 1u], stage[start + 2u], stage[start + 3u]);
#if ACCUMULATE == 0
            c[at] = vec4<#{HALF_C ? f16 : f32}>(sum);
#else
            c[at] = vec4<#{HALF_C ? f16 : f32}>(sum + vec4<f32>(#{ACCUMULATE == 1 ? c : residual}[at]));
#end
        }
    }
#end
#end
#else
#for i in 0..4
#for j in 0..4
    if (y + #{i * 8}u < t.rows && x + #{j * 8}u < t.columns) {
        // Bound to a name: naga 30 cannot write the translation of a store to a computed place.
        let at = t.c + (y + #{i * 8}u) * ldc + x + #{j * 8}u;
        coopStoreT(sum#{i}_#{j}, &c[at], ldc);
    }
#end
#end
#end
