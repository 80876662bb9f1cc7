    // Statements of main that make the tile `t` and store it: see shared/thin.
    let team = lane / 32u;
    let beside = team % #{ACROSS}u;
    let deep = team / #{ACROSS}u;
#for i in 0..TILE_M / 16
#for j in 0..2
    var sum#{i}_#{j} = coop_mat16x16<f32, C>();
#end
#end
#for d in 0..DEPTH
#for i in 0..A_ITEMS
    var a#{d}_#{i} = fetch_a(t, lane + #{i * THREADS}u, #{d * CHUNK}u);
#end
#for i in 0..B_ITEMS
    var b#{d}_#{i} = fetch_b(t, lane + #{i * THREADS}u, #{d * CHUNK}u);
#end
#end
    for (var k0 = 0u; k0 < t.k; k0 += #{CHUNK * DEPTH}u) {
#for d in 0..DEPTH
        {
        workgroupBarrier(); // the chunk before may still be read
#for i in 0..A_ITEMS
        a_part[padded(lane + #{i * THREADS}u, #{A_LINE}u)] = a#{d}_#{i};
#end
#for i in 0..B_ITEMS
        b_part[padded(lane + #{i * THREADS}u, #{B_LINE}u)] = b#{d}_#{i};
#end
        workgroupBarrier();
        // A later chunk travels while this one is multiplied. The last are read again, for want of a branch.
        let next = min(k0 + #{(d + DEPTH) * CHUNK}u, t.k - #{CHUNK}u);
#for i in 0..A_ITEMS
        a#{d}_#{i} = fetch_a(t, lane + #{i * THREADS}u, next);
#end
#for i in 0..B_ITEMS
        b#{d}_#{i} = fetch_b(t, lane + #{i * THREADS}u, next);
#end
#for q in 0..CHUNK / 16 / DEEP
#for i in 0..TILE_M / 16
        let left#{q}_#{i} = coopLoadT<coop_mat16x16<f16, A>>(
            &a_part[#{16 * i * A_STRIDE + 2 * DEEP * q}u + deep * 2u].a, #{2 * A_STRIDE}u);
#end
#for j in 0..2
#if B_ALONG_K
        let right#{q}_#{j} = coopLoad<coop_mat16x16<f16, B>>(
            &b_part[beside * #{32 * B_STRIDE}u + #{16 * j * B_STRIDE + 2 * DEEP * q}u + deep * 2u].a, #{2 * B_STRIDE}u);
#else
        let right#{q}_#{j} = coopLoadT<coop_mat16x16<f16, B>>(
            &b_part[deep * #{16 * B_STRIDE}u + #{16 * DEEP * q * B_STRIDE + 2 * j}u + beside * 4u].a, #{2 * B_STRIDE}u);
#end
#end
#for i in 0..TILE_M / 16
#for j in 0..2
        sum#{i}_#{j} = coopMultiplyAdd(left#{q}_#{i}, right#{q}_#{j}, sum#{i}_#{j});
#end
#end
#end
        }
#end
    }

#for v in 0..ITEMS
    var total#{v} = vec4<f32>();
#end
#for phase in 0..TEAMS / SLOTS
    workgroupBarrier(); // what was staged before may still be read
    if (team / #{SLOTS}u == #{phase}u) {
#for i in 0..TILE_M / 16
#for j in 0..2
        let at#{phase}_#{i}_#{j} = team % #{SLOTS}u * #{TILE_M * 8}u + #{128 * i + 4 * j}u;
        coopStoreT(sum#{i}_#{j}, &stage[at#{phase}_#{i}_#{j}], 8u);
#end
#end
    }
    workgroupBarrier();
#for v in 0..ITEMS
    {
        let item = min(lane + #{v * THREADS}u, #{TILE_M * TILE_N / 4 - 1}u);
        let column = item % #{TILE_N / 4}u;
        let place = column / 8u * #{TILE_M * 8}u + item / #{TILE_N / 4}u * 8u + column % 8u;
#for s in 0..SLOTS / ACROSS
        total#{v} += stage[place + #{s * ACROSS * TILE_M * 8}u];
#end
    }
#end
#end
#for v in 0..ITEMS
    {
        let below = (lane + #{v * THREADS}u) / #{TILE_N / 4}u;
        if (below < min(t.rows, #{TILE_M}u)) {
            let at = (t.c + below * t.ldc) / 4u + lane % #{TILE_N / 4}u;
#if ACCUMULATE == 0
            c[at] = vec4<#{HALF_C ? f16 : f32}>(total#{v});
#else
            c[at] = vec4<#{HALF_C ? f16 : f32}>(total#{v} + vec4<f32>(#{ACCUMULATE == 1 ? c : residual}[at]));
#end
        }
    }
#end
