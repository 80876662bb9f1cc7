//! Cooperative matrices without matrix units: a shader's text with plain WGSL in their place, so that any adapter runs
//! what the shader itself does with tiles, edges, workgroup memory and order. Subgroups are those that the shaders
//! count themselves: 32 invocations one after the other.
//!
//! Sums are spread over the invocations of a subgroup, side * side / 32 neighbours of the row-major order each, and
//! stand in one private array, so that multiplications in a row make a loop: unrolled, they take minutes to compile.
//! A factor is no more than where it lies in workgroup memory; each multiplication reads it there. That is the same as
//! reading it when it is loaded as long as nothing is written in between, so a barrier in between is refused.

use std::collections::{BTreeMap, BTreeSet, HashSet};

/// What a text's matrices lie in, and how large they are.
#[derive(Default)]
struct Found {
    side: u32,
    factors: BTreeMap<char, String>,
    loaded: BTreeSet<String>,
    stored: BTreeSet<String>,
    /// Names of matrices of sums, in the order of their numbers.
    sums: Vec<String>,
}

impl Found {
    fn number(&mut self, sum: &str) -> usize {
        self.sums.iter().position(|known| known == sum).unwrap_or_else(|| {
            self.sums.push(sum.to_owned());
            self.sums.len() - 1
        })
    }
}

/// Plain WGSL that does what `text` does, itself after the preprocessor. In it `lane` is the local invocation index.
pub fn emulate(text: &str) -> String {
    let mut found = Found::default();
    let mut output = String::new();
    let joined = text.replace("=\n", "= "); // a statement a line
    let code = joined.lines().map(|line| line.split("//").next().unwrap_or_default().trim());
    let code: Vec<&str> = code.filter(|line| !line.is_empty() && !line.starts_with("enable ")).collect();
    let vectors: HashSet<&str> = code.iter().filter_map(|line| vector_array(line)).collect();
    let mut fresh = HashSet::new();
    let mut products = Vec::new();
    for line in &code {
        if let Some((sum, call)) = line.split_once(" = coopMultiplyAdd(") {
            let factors: Vec<&str> = call.trim_end_matches([')', ';']).split(", ").collect();
            let [left, right, old] = factors[..] else { panic!("three matrices make a product: {line}") };
            assert_eq!(old, sum, "sums grow in place");
            for factor in [left, right] {
                assert!(fresh.contains(factor), "{factor} is multiplied beyond a barrier, or not loaded: {line}");
            }
            products.push((left, right, found.number(sum)));
            continue;
        }
        output += &multiplied(&mut products);
        if line.starts_with("workgroupBarrier") {
            fresh.clear();
        }
        output += &statement(line, &vectors, &mut found, &mut fresh);
        output.push('\n');
    }
    assert!(!output.contains("coop"), "an operation that is not emulated");
    output + &functions(&found, &vectors)
}

/// The name of the array of vectors that this line declares.
fn vector_array(line: &str) -> Option<&str> {
    let (head, _) = line.split_once(": array<vec4<")?;
    head.rsplit("> ").next()
}

fn statement<'a>(line: &'a str, vectors: &HashSet<&str>, found: &mut Found, fresh: &mut HashSet<&'a str>) -> String {
    // Indices and distances in elements, whatever the array's.
    let place = |text: &str| {
        let (array, rest) = text.trim_start_matches('&').split_once('[').unwrap();
        let (index, stride) = rest.trim_end_matches([')', ';']).split_once("], ").unwrap();
        let width = if vectors.contains(array) { 4 } else { 1 };
        (array.to_owned(), format!("({index}) * {width}u, ({stride}) * {width}u"))
    };
    if let Some((left, call)) = line.split_once("coopLoad") {
        let (kind, rest) = call.split_once(">>(").unwrap();
        let (across, kind) = (u32::from(kind.starts_with('T')), kind.trim_start_matches('T'));
        let side = kind.trim_start_matches("<coop_mat").split('x').next().unwrap();
        found.side = side.parse().unwrap();
        let (array, place) = place(rest);
        let role = kind.chars().last().unwrap();
        if role == 'C' {
            assert_eq!(across, 1, "sums lie in rows: {line}");
            found.loaded.insert(array.clone());
            return format!("load_{array}({place}, lane, {}u);", found.number(declared(left)));
        }
        let known = found.factors.entry(role).or_insert(array.clone());
        assert_eq!(*known, array, "factors lie in one array each");
        fresh.insert(left.trim_start_matches("let ").trim_end_matches([' ', '=']));
        return format!("{left}vec3<u32>({place}, {across}u);");
    }
    if let Some(rest) = line.strip_prefix("coopStoreT(") {
        let (value, rest) = rest.split_once(", ").unwrap();
        let (array, place) = place(rest);
        found.stored.insert(array.clone());
        return format!("store_{array}({place}, lane, {}u);", found.number(value));
    }
    match line.split_once("coop_mat") {
        Some((left, _)) => format!("sums[{}] = Sums();", found.number(declared(left))), // of zeros
        None => line.to_owned(),
    }
}

/// The variable of sums that a statement begins with.
fn declared(left: &str) -> &str {
    left.trim_start_matches("var ").trim_end_matches([' ', '='])
}

/// A loop over `products`, which are none afterwards: names of both factors and numbers of the sums.
fn multiplied(products: &mut Vec<(&str, &str, usize)>) -> String {
    if products.is_empty() {
        return String::new();
    }
    let n = products.len();
    let [mut left, mut right, mut sums] = [const { Vec::new() }; 3];
    for (a, b, sum) in products.drain(..) {
        left.push(a.to_owned());
        right.push(b.to_owned());
        sums.push(format!("{sum}u"));
    }
    let [left, right, sums] = [left, right, sums].map(|list| list.join(", "));
    format!(
        "{{
    var left = array<vec3<u32>, {n}>({left});
    var right = array<vec3<u32>, {n}>({right});
    var number = array<u32, {n}>({sums});
    // A compiler that knew that this is {n} would unroll the loop.
    for (var i = 0u; i < {n}u + lane / 1024u; i++) {{
        sums[number[i]] = multiply(lane, left[i], right[i], sums[number[i]]);
    }}
}}\n"
    )
}

/// What the replaced operations call.
fn functions(found: &Found, vectors: &HashSet<&str>) -> String {
    let side = found.side;
    let own = side * side / 32;
    let element = |array: &str, at: &str| {
        if vectors.contains(array) { format!("{array}[({at}) / 4u][({at}) % 4u]") } else { format!("{array}[{at}]") }
    };
    let [a, b] = ['A', 'B'].map(|role| element(&found.factors[&role], if role == 'A' { "i" } else { "j" }));
    let mut text = format!(
        "alias Sums = array<f32, {own}>;
var<private> sums: array<Sums, {}>;
fn multiply(index: u32, a: vec3<u32>, b: vec3<u32>, old: Sums) -> Sums {{
    var sum = old;
    let lane = index % 32u;
    let steps = {side}u + index / 1024u;
    let row = lane * {own}u / {side}u;
    let first = lane * {own}u % {side}u;
    for (var k = 0u; k < steps; k++) {{
        let i = a.x + select(k * a.y + row, row * a.y + k, a.z == 1u);
        let left = f32({a});\n",
        found.sums.len()
    );
    for e in 0..own {
        text += &format!(
            "        {{
            let j = b.x + select((first + {e}u) * b.y + k, k * b.y + first + {e}u, b.z == 1u);
            sum[{e}] += left * f32({b});
        }}\n"
        );
    }
    text += "    }\n    return sum;\n}\n";
    let at = format!("at + first / {side}u * stride + first % {side}u + e");
    for array in found.loaded.union(&found.stored) {
        let place = element(array, &at);
        let head = format!(
            "{array}(at: u32, stride: u32, index: u32, sum: u32) {{
    let first = index % 32u * {own}u;
    for (var e = 0u; e < {own}u + index / 1024u; e++)"
        );
        if found.loaded.contains(array) {
            text += &format!("fn load_{head} {{ sums[sum][e] = {place}; }}\n}}\n");
        }
        if found.stored.contains(array) {
            text += &format!("fn store_{head} {{ {place} = sums[sum][e]; }}\n}}\n");
        }
    }
    text
}
