    // Statements of main where a workgroup owns QUERIES queries of one head: which, and this lane's row of them.
    // Without calls, whose results naga takes to differ within a workgroup: cooperative operations follow.
    let number = group.y * groups.x + group.x;
    let tiles = (p.length + #{QUERIES - 1}u) / #{QUERIES}u;
    if (number >= tiles * p.head_count) {
        return;
    }
    let head_number = p.first_head + number % p.head_count;
    let first_token = head_number / p.heads * p.length;
    let head = head_number % p.heads;
    let first_query = (tiles - 1u - number / p.head_count) * #{QUERIES}u; // the longest sweeps start first
    let rows = lane / 32u * 16u; // first of the subgroup's
    let row = rows + lane % 16u; // the row of which this lane handles every second eight of scores
    let half = lane % 32u / 16u;
    let query = first_query + row;
    let start = document_start[first_token + min(query, p.length - 1u)];
