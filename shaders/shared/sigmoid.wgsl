// The logistic function of `Elements` and its integral, without an exponential that could overflow. Needs
// shared/elements.

// sigmoid(a); the sigmoid of -a is its complement without cancellation.
fn sigmoid(a: Elements) -> Elements {
    let small = exp(-abs(a));
    return select(small, Elements(1.0), a >= Elements(0.0)) / (Elements(1.0) + small);
}

// ln(1 + exp(a)) = -ln(sigmoid(-a)).
fn softplus(a: Elements) -> Elements {
    return max(a, Elements(0.0)) + log(Elements(1.0) + exp(-abs(a)));
}
