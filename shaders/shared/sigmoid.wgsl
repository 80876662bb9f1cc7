// The logistic function of `Elements`, without an exponential that could overflow. Needs shared/elements.

// sigmoid(a); the sigmoid of -a is its complement without cancellation.
fn sigmoid(a: Elements) -> Elements {
    let small = exp(-abs(a));
    return select(small, Elements(1.0), a >= Elements(0.0)) / (Elements(1.0) + small);
}
