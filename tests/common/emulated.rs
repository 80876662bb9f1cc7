//! Cooperative matrices without matrix units: a shader's text with plain WGSL in their place, so that any adapter runs
//! what the shader itself does with tiles, edges, workgroup memory and order. Subgroups are those that the shaders
//! count themselves: 32 invocations one after the other.
//!
//! Sums are spread over the invocations of a subgroup, side * side / 32 neighbours of the row-major order each, and
//! stand in one private array, so that multiplications in a row make a loop: unrolled, they take minutes to compile.
//! A factor is no more than where it lies; each multiplication reads it there. That is the same as reading it when it
//! is loaded as long as nothing is written in between, so a barrier in between is refused, but for what is only read.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// What a text's matrices lie in, and how large they are.
#[derive(Default)]
struct Found {
    side: u32,
    /// Arrays of storage that nothing writes.
    constant: HashSet<String>,
    /// The arrays that factors of either side lie in.
    factors: BTreeMap<char, Vec<String>>,
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
    let joined = text.replace("=\n", "= ").replace("(\n", "("); // a statement a line
    let code = joined.lines().map(|line| line.split("//").next().unwrap_or_default().trim());
    let code: Vec<&str> = code.filter(|line| !line.is_empty() && !line.starts_with("enable ")).collect();
    let widths: Widths = code.iter().filter_map(|line| array_width(line)).collect();
    let constant = code.iter().filter(|line| line.contains("var<storage, read> "));
    found.constant = constant.filter_map(|line| Some(array_width(line)?.0.to_owned())).collect();
    let mut fresh = HashMap::new();
    let mut products = Vec::new();
    for line in &code {
        if let Some((sum, call)) = line.split_once(" = coopMultiplyAdd(") {
            let factors: Vec<&str> = call.trim_end_matches([')', ';']).split(", ").collect();
            let [left, right, old] = factors[..] else { panic!("three matrices make a product: {line}") };
            assert_eq!(old, sum, "sums grow in place");
            for factor in [left, right] {
                assert!(fresh.contains_key(factor), "{factor} is multiplied beyond a barrier, or not loaded: {line}");
            }
            products.push((left, right, found.number(sum)));
            continue;
        }
        output += &multiplied(&mut products);
        if line.starts_with("workgroupBarrier") {
            fresh.retain(|_, constant| *constant);
        }
        output += &statement(line, &widths, &mut found, &mut fresh);
        output.push('\n');
    }
    assert!(!output.contains("coop"), "an operation that is not emulated");
    output + &functions(&found, &widths)
}

/// Floats in an element of the arrays that hold several.
type Widths<'a> = HashMap<&'a str, u32>;

/// Factors that are loaded, and whether nothing can write what they were loaded from.
type Fresh<'a> = HashMap<&'a str, bool>;

/// The name of the array of vectors, or of pairs of them, that this line declares, and what an element holds.
fn array_width(line: &str) -> Option<(&str, u32)> {
    let (head, element) = line.split_once(": array<")?;
    let width = if element.starts_with("vec4<") { 4 } else { 8 };
    let is_wide = width == 4 || element.starts_with("Eight");
    head.rsplit("> ").next().filter(|_| is_wide).map(|name| (name, width))
}

fn statement<'a>(line: &'a str, widths: &Widths<'_>, found: &mut Found, fresh: &mut Fresh<'a>) -> String {
    // Indices and distances in elements, whatever the array's.
    let place = |text: &str| {
        let (array, rest) = text.trim_start().trim_start_matches('&').split_once('[').unwrap();
        // Pairs are named by their first vector, and distances count in vectors.
        let rest = rest.replace("].a, ", "], ");
        let (index, stride) = rest.trim_end_matches([')', ';']).split_once("], ").unwrap();
        let width = widths.get(array).copied().unwrap_or(1);
        (array.to_owned(), format!("({index}) * {width}u, ({stride}) * {}u", width.min(4)))
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
        fresh.insert(declared(left.trim_start_matches("let ")), found.constant.contains(&array));
        let known = found.factors.entry(role).or_default();
        let number = known.iter().position(|other| *other == array).unwrap_or_else(|| {
            known.push(array);
            known.len() - 1
        });
        return format!("{left}vec4<u32>({place}, {across}u, {number}u);");
    }
    if let Some(rest) = line.strip_prefix("coopStoreT(") {
        let (value, rest) = rest.split_once(", ").unwrap();
        let (array, place) = place(rest);
        found.stored.insert(array.clone());
        return format!("store_{array}({place}, lane, {}u);", found.number(value));
    }
    match line.split_once("coop_mat") {
        Some((left, _)) => format!("all_sums[{}] = Sums();", found.number(declared(left))), // of zeros
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
    var left = array<vec4<u32>, {n}>({left});
    var right = array<vec4<u32>, {n}>({right});
    var number = array<u32, {n}>({sums});
    // A compiler that knew that this is {n} would unroll the loop.
    for (var i = 0u; i < {n}u + lane / 1024u; i++) {{
        all_sums[number[i]] = multiply(lane, left[i], right[i], all_sums[number[i]]);
    }}
}}\n"
    )
}

/// What the replaced operations call.
fn functions(found: &Found, widths: &Widths<'_>) -> String {
    let side = found.side;
    let own = side * side / 32;
    let element = |array: &str, at: &str| match widths.get(array) {
        Some(4) => format!("{array}[({at}) / 4u][({at}) % 4u]"),
        Some(_) => {
            let eight = format!("{array}[({at}) / 8u]");
            format!("select({eight}.b, {eight}.a, ({at}) % 8u < 4u)[({at}) % 4u]")
        }
        None => format!("{array}[{at}]"),
    };
    let mut text = String::new();
    for (role, arrays) in &found.factors {
        let cases: String = (0..arrays.len())
            .map(|i| format!("    if (array == {i}u) {{ return f32({}); }}\n", element(&arrays[i], "at")))
            .collect();
        text += &format!("fn factor_{role}(at: u32, array: u32) -> f32 {{\n{cases}    return 0.0;\n}}\n");
    }
    text += &format!(
        "alias Sums = array<f32, {own}>;
var<private> all_sums: array<Sums, {}>;
fn multiply(index: u32, a: vec4<u32>, b: vec4<u32>, old: Sums) -> Sums {{
    var sum = old;
    let lane = index % 32u;
    let steps = {side}u + index / 1024u;
    let row = lane * {own}u / {side}u;
    let first = lane * {own}u % {side}u;
    for (var k = 0u; k < steps; k++) {{
        let i = a.x + select(k * a.y + row, row * a.y + k, a.z == 1u);
        let left = factor_A(i, a.w);\n",
        found.sums.len()
    );
    for e in 0..own {
        text += &format!(
            "        {{
            let j = b.x + select((first + {e}u) * b.y + k, k * b.y + first + {e}u, b.z == 1u);
            sum[{e}] += left * factor_B(j, b.w);
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
            text += &format!("fn load_{head} {{ all_sums[sum][e] = {place}; }}\n}}\n");
        }
        if found.stored.contains(array) {
            text += &format!("fn store_{head} {{ {place} = all_sums[sum][e]; }}\n}}\n");
        }
    }
    text
}
