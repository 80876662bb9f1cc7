// Turns the blocks' counts of each expert into places in the order sorted by expert, and divides it into tiles:
//   offsets[e] = pairs of the experts before e; offsets[experts] = pairs,
//   counts[block, e] becomes offsets[e] + pairs of e in the blocks before: the slot of the block's first pair of e,
//   tiles: (expert, first slot) of every tile_rows slots of an expert, by expert; unused ones (0xffffffff, 0).
// One workgroup; updates counts, overwrites offsets and tiles. Reference: src/reference/expert_scan.rs.
//
// Invocations stand side by side on a row of experts; the rows of them share the blocks, a part each. An invocation
// adds up its blocks, learns what lies before them, and passes over them again.
#define EXPERTS 64
#define BLOCK 256
// Invocations side by side: a power of two, at most THREADS.
#define COLUMNS 64
#define THREADS 256
#define PARTS THREADS / COLUMNS
// Loads in flight: with one workgroup, waiting for memory is all the time there is.
#define UNROLL 8

struct Params {
    pairs: u32,
    experts: u32,
    tile_rows: u32,
    tiles: u32,
}
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read_write> counts: array<u32>;  // (blocks, experts)
@group(0) @binding(1) var<storage, read_write> offsets: array<u32>; // (experts + 1)
@group(0) @binding(2) var<storage, read_write> tiles: array<u32>;   // (tiles, 2)

var<workgroup> part_sums: array<u32, #{PARTS * EXPERTS}>;
var<workgroup> totals: array<u32, #{EXPERTS}>;

fn tiles_of(expert: u32) -> u32 {
    return (totals[expert] + p.tile_rows - 1u) / p.tile_rows;
}

// Pairs of expert e in the blocks first..end.
fn sum_blocks(first: u32, end: u32, e: u32) -> u32 {
    var sum = 0u;
    for (var block = first; block < end; block += #{UNROLL}u) {
#for i in 0..UNROLL
        let count#{i} = counts[min(block + #{i}u, end - 1u) * #{EXPERTS}u + e];
#end
#for i in 0..UNROLL
        sum += select(0u, count#{i}, block + #{i}u < end);
#end
    }
    return sum;
}

// Replaces counts by slots, the first one given. All loads of a round stand before its stores, which the compiler may
// not assume to be elsewhere.
fn place_blocks(first: u32, end: u32, e: u32, first_slot: u32) {
    var slot = first_slot;
    for (var block = first; block < end; block += #{UNROLL}u) {
#for i in 0..UNROLL
        let count#{i} = counts[min(block + #{i}u, end - 1u) * #{EXPERTS}u + e];
#end
#for i in 0..UNROLL
        if (block + #{i}u < end) {
            counts[(block + #{i}u) * #{EXPERTS}u + e] = slot;
            slot += count#{i};
        }
#end
    }
}

@compute @workgroup_size(#{THREADS})
fn main(@builtin(local_invocation_index) lane: u32) {
    let blocks = (p.pairs + #{BLOCK - 1}u) / #{BLOCK}u;
    let share = (blocks + #{PARTS - 1}u) / #{PARTS}u;
    let part = lane / #{COLUMNS}u;
    let first = min(part * share, blocks);
    let end = min(first + share, blocks);
    for (var e = lane % #{COLUMNS}u; e < #{EXPERTS}u; e += #{COLUMNS}u) {
        part_sums[part * #{EXPERTS}u + e] = sum_blocks(first, end, e);
    }
    workgroupBarrier();
    for (var e = lane; e < #{EXPERTS}u; e += #{THREADS}u) {
        var total = 0u;
        for (var i = 0u; i < #{PARTS}u; i++) {
            total += part_sums[i * #{EXPERTS}u + e];
        }
        totals[e] = total;
    }
    workgroupBarrier();
    for (var e = lane % #{COLUMNS}u; e < #{EXPERTS}u; e += #{COLUMNS}u) {
        var slot = 0u;
        var first_tile = 0u;
        for (var i = 0u; i < e; i++) {
            slot += totals[i];
            first_tile += tiles_of(i);
        }
        if (part == 0u) {
            offsets[e] = slot;
        }
        // The invocations of an expert take turns at its tiles.
        for (var i = part; i < tiles_of(e); i += #{PARTS}u) {
            tiles[2u * (first_tile + i)] = e;
            tiles[2u * (first_tile + i) + 1u] = slot + i * p.tile_rows;
        }
        for (var i = 0u; i < part; i++) {
            slot += part_sums[i * #{EXPERTS}u + e];
        }
        place_blocks(first, end, e, slot);
    }
    var used = 0u;
    for (var e = 0u; e < #{EXPERTS}u; e++) {
        used += tiles_of(e);
    }
    for (var i = used + lane; i < p.tiles; i += #{THREADS}u) {
        tiles[2u * i] = 0xffffffffu;
        tiles[2u * i + 1u] = 0u;
    }
    if (lane == 0u) {
        offsets[#{EXPERTS}] = p.pairs;
    }
}
