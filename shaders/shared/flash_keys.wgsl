// How a tile's keys and values come into workgroup memory. The importer declares p, kv, k_rope and `part`, in which
// keys begin at the first element and values at VALUES. `item` numbers the eights of a tile along memory; those past
// its end may be fetched, and putting them does nothing.
#define OWN_ITEMS (KEYS * NOPE8 + THREADS - 1) / THREADS
#define SHARED_ITEMS (KEYS * ROPE8 + THREADS - 1) / THREADS
#define VALUE_ITEMS (KEYS * VALUE8 + THREADS - 1) / THREADS

// Of the columns of the keys that belong to one head.
fn own_key(first_token: u32, head: u32, first_key: u32, item: u32) -> Eight {
    let row = row_within(first_key + item / #{NOPE8}u);
    return kv[((first_token + row) * p.heads + head) * #{KV8}u + item % #{NOPE8}u];
}

fn put_own_key(item: u32, x: Eight) {
    if (item < #{KEYS * NOPE8}u) {
        part[item / #{NOPE8}u * #{WIDTH_LINE}u + item % #{NOPE8}u] = x;
    }
}

// Of the columns that all heads share.
fn shared_key(first_token: u32, first_key: u32, item: u32) -> Eight {
    return k_rope[(first_token + row_within(first_key + item / #{ROPE8}u)) * #{ROPE8}u + item % #{ROPE8}u];
}

fn put_shared_key(item: u32, x: Eight) {
    if (item < #{KEYS * ROPE8}u) {
        part[item / #{ROPE8}u * #{WIDTH_LINE}u + #{NOPE8}u + item % #{ROPE8}u] = x;
    }
}

fn value_of(first_token: u32, head: u32, first_key: u32, item: u32) -> Eight {
    let row = row_within(first_key + item / #{VALUE8}u);
    return kv[((first_token + row) * p.heads + head) * #{KV8}u + #{NOPE8}u + item % #{VALUE8}u];
}

fn put_value(item: u32, x: Eight) {
    if (item < #{KEYS * VALUE8}u) {
        part[#{VALUES}u + item / #{VALUE8}u * #{VALUE_LINE}u + item % #{VALUE8}u] = x;
    }
}
