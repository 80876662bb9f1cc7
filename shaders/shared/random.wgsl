// Counter-based random numbers: a function of key, site and element alone, so that recomputation, the backward pass
// and every tiling draw the same dropout mask. Integers only, hence the same bits on every device.
// Mirror: src/reference/random.rs, which also states why it is built this way.

// A permutation of the 32-bit integers in which every input bit moves every output bit with odds near one half.
fn random_mix(value: u32) -> u32 {
    var x = value ^ (value >> 16u);
    x *= 0x7feb352du;
    x ^= x >> 15u;
    x *= 0x846ca68bu;
    return x ^ (x >> 16u);
}

// What key and site contribute; the same for all elements, so take it out of loops.
fn random_key(key0: u32, key1: u32, site: u32) -> vec2<u32> {
    return vec2(
        random_mix(random_mix(random_mix(site + 0x9e3779b9u) ^ key0) ^ key1),
        random_mix(random_mix(random_mix(site + 0x85ebca6bu) ^ key1) ^ key0),
    );
}

fn random_at(key: vec2<u32>, element: u32) -> u32 {
    return random_mix(random_mix(element ^ key.x) + key.y);
}

// The key of one row of a matrix, for random_at with the number of a column: no two rows draw the same, however many
// elements the matrix has.
fn random_row(key: vec2<u32>, row: u32) -> vec2<u32> {
    return vec2(key.x, random_mix(row ^ key.y));
}

fn random_u32(key0: u32, key1: u32, site: u32, element: u32) -> u32 {
    return random_at(random_key(key0, key1, site), element);
}

// An element is kept iff its random number is at least floor(rate * 2^32). The product is exact: it moves the exponent.
fn keep_threshold(rate: f32) -> u32 {
    return u32(rate * 4294967296.0);
}
