//! Each kernel's three files and what they state of one another: names, order, access, offsets, limits. No GPU needed.

#[path = "common/budget.rs"]
mod budget;
#[path = "common/reflection.rs"]
mod reflection;

use hadal::gpu::device::{COOP16, COOPERATIVE_BYTES};
use hadal::gpu::preprocess::preprocess;
use hadal::kernels::case::{Case, Data};
use hadal::kernels::{Access, Constants, Element, Halves, KERNELS, Kernel};
use reflection::{Interface, reflect, stated_buffers, stated_params};
use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};

/// Files of `src/kernels` and `src/reference` that several kernels share.
const SHARED: &[&str] = &[
    "bind", "case", "contract", "elements", "flash", "gemm", "mod", "random", "state", "sum", "thin", "tile", "vector",
    "ways", "work",
];
/// The smallest limits of adapters that can train; WebGPU's own promise half the memory.
const SHARED_BYTES: u32 = 32 << 10;
const INVOCATIONS: u32 = 256;
const BUFFERS: usize = 8;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Names of the files of a folder with this extension, without it.
fn stems(folder: &str, extension: &str) -> BTreeSet<String> {
    let files = std::fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().path());
    let stem = |path: &PathBuf| path.file_stem().unwrap().to_string_lossy().into_owned();
    files.filter(|path| path.extension().is_some_and(|e| e == extension)).map(|path| stem(&path)).collect()
}

/// One form of a kernel.
struct Form {
    kernel: &'static Kernel,
    label: String,
    halves: Halves,
    /// Plain WGSL.
    text: String,
}

/// Every form of each kernel, for every set of constants that its cases need.
fn texts() -> Vec<Form> {
    let (mut seen, mut found) = (HashSet::new(), Vec::new());
    let mut add = |kernel: &'static Kernel, label: String, shader: &str, constants: Constants, halves: Halves| {
        if seen.insert((label.clone(), constants.clone())) {
            let text = preprocess(shader, &constants).unwrap_or_else(|e| panic!("{label}: {e}"));
            found.push(Form { kernel, label, halves, text });
        }
    };
    for &kernel in KERNELS {
        let cases = kernel.every_case();
        for case in &cases {
            let constants = kernel.portable_constants(&case.params, case.halves);
            add(kernel, kernel.stem.to_owned(), kernel.shader, constants, case.halves);
        }
        for variant in (kernel.variants)() {
            let label = format!("{}.{}", kernel.stem, variant.suffix);
            let fitting: Vec<_> = cases.iter().filter(|case| (variant.fits)(&case.params, case.halves)).collect();
            assert!(!fitting.is_empty(), "{label}: no case fits the variant");
            for case in fitting {
                let constants = variant.constants_of(kernel, &case.params, case.halves);
                add(kernel, label.clone(), variant.shader, constants, case.halves);
            }
        }
    }
    found
}

/// What is wrong with an interface beside what the kernel states and `most` bytes of workgroup memory.
fn complaints(kernel: &Kernel, halves: Halves, most: u32, found: &Interface) -> Vec<&'static str> {
    let [x, y, z] = found.workgroup;
    let params = params_of(kernel);
    let rules = [
        (found.entry_points == ["main"], "the entry point is not main alone"),
        (found.buffers == stated_buffers(kernel, halves), "buffers differ in name, order, access or element"),
        (found.immediates == params, "fields of Params differ in name, type or offset"),
        (found.immediate_bytes as usize == kernel.params_size, "the size of Params differs"),
        (found.buffers.len() <= BUFFERS, "more buffers than WebGPU promises"),
        (x >= 1 && x * y * z <= INVOCATIONS, "more invocations than WebGPU promises"),
        (found.shared_bytes <= most, "too much workgroup memory"),
    ];
    rules.into_iter().filter(|(holds, _)| !holds).map(|(_, complaint)| complaint).collect()
}

/// The fields of a kernel's `Params`, from its source or from that of the kernel whose it borrows.
fn params_of(kernel: &Kernel) -> Vec<(String, &'static str, u32)> {
    let source = |stem: &str| read(&root().join(format!("src/kernels/{stem}.rs")));
    let own = source(kernel.stem);
    stated_params(&own).unwrap_or_else(|| {
        let lender = own.split("pub use super::").nth(1).and_then(|rest| rest.split("::Params;").next());
        let lender = lender.unwrap_or_else(|| panic!("{}: no Params", kernel.stem));
        stated_params(&source(lender)).unwrap_or_else(|| panic!("{lender}: no Params"))
    })
}

#[test]
fn every_kernel_has_its_three_files_and_no_other_file_lies_about() {
    let kernels: BTreeSet<String> = KERNELS.iter().map(|kernel| kernel.stem.to_owned()).collect();
    assert!(KERNELS.is_sorted_by_key(|kernel| kernel.stem) && kernels.len() == KERNELS.len());
    for folder in ["src/kernels", "src/reference"] {
        let mut found = stems(folder, "rs");
        found.retain(|stem| !SHARED.contains(&stem.as_str()));
        assert_eq!(found, kernels, "{folder}");
    }
    let mut shaders = kernels;
    for kernel in KERNELS {
        shaders.extend((kernel.variants)().iter().map(|variant| format!("{}.{}", kernel.stem, variant.suffix)));
    }
    assert_eq!(stems("shaders", "wgsl"), shaders);
}

#[test]
fn every_shader_names_its_reference_and_is_the_file_of_its_stem() {
    for kernel in KERNELS {
        let mut forms = vec![(kernel.stem.to_owned(), kernel.shader)];
        forms.extend((kernel.variants)().iter().map(|v| (format!("{}.{}", kernel.stem, v.suffix), v.shader)));
        for (stem, shader) in forms {
            assert!(shader.contains(&format!("Reference: src/reference/{}.rs.", kernel.stem)), "{stem}");
            assert_eq!(shader, read(&root().join(format!("shaders/{stem}.wgsl"))), "{stem} is another file's text");
        }
    }
}

#[test]
fn shaders_bind_what_their_kernels_state_within_portable_limits() {
    for Form { kernel, label, halves, text } in texts() {
        let found = reflect(&text).unwrap_or_else(|e| panic!("{label}: {e}"));
        let most = if label.ends_with(COOP16) { COOPERATIVE_BYTES } else { SHARED_BYTES };
        let complaints = complaints(kernel, halves, most, &found);
        assert!(complaints.is_empty(), "{label}: {complaints:?}\n{found:?}");
    }
}

#[test]
fn every_planted_difference_between_shader_and_kernel_is_a_complaint() {
    let forms = || texts().into_iter().filter(|form| form.kernel.stem == "adamw");
    let Form { kernel, halves, text, .. } = forms().find(|form| form.halves.any()).unwrap();
    let judge_as =
        |text: &str, halves| reflect(text).map(|found| complaints(kernel, halves, SHARED_BYTES, &found).len());
    let judge = |text: &str| judge_as(text, halves);
    assert_eq!(judge(&text), Ok(0));
    // As many bytes an element as the host thinks there are.
    assert_eq!(judge_as(&text, Halves::NONE), Ok(1));
    assert_eq!(judge(&forms().find(|form| !form.halves.any()).unwrap().text), Ok(1));
    let plant = |from: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        text.replace(from, to)
    };
    let planted = [
        plant("fn main", "fn other"),
        plant("    beta1: f32,\n    beta2: f32,", "    beta2: f32,\n    beta1: f32,"),
        plant("    weight_decay: f32,", "    weight_decay: u32,"),
        plant("@workgroup_size(", "@workgroup_size(2 * "),
        plant("var<immediate>", "var<workgroup> large: array<vec4<f32>, 2049>;\nvar<immediate>"),
        plant("var<storage, read> result", "var<storage, read_write> result"),
    ];
    for text in planted {
        // A text that names a member wrongly afterwards may not even parse.
        assert_ne!(judge(&text), Ok(0), "{text}");
    }
    let moved = plant("@binding(6)", "@binding(9)");
    assert!(judge(&moved).unwrap_err().contains("binding 9"));
}

#[test]
fn constants_of_bindings_in_f16_have_their_names() {
    let mut found = 0;
    for bind in KERNELS.iter().flat_map(|kernel| kernel.binds) {
        if let Some(constant) = bind.half {
            assert_eq!(constant, format!("HALF_{}", bind.name.to_uppercase()));
            assert_eq!(bind.element, Element::F32, "{} holds integers", bind.name);
            found += 1;
        }
    }
    assert!(found > 30, "{found} bindings may be stored as f16");
}

#[test]
fn dispatches_stay_within_the_limit_of_workgroups() {
    for kernel in KERNELS {
        let variants = (kernel.variants)();
        for case in kernel.every_case() {
            let fitting = variants.iter().filter(|variant| (variant.fits)(&case.params, case.halves));
            let mut grids: Vec<[u32; 3]> = fitting.map(|variant| (variant.grid)(&case.params)).collect();
            grids.push((kernel.grid)(&case.params));
            let within = grids.iter().flatten().all(|n| (1..=65_535).contains(n));
            assert!(within, "{}, {}: {grids:?}", kernel.stem, case.name);
        }
    }
}

/// Beside cooperative matrices drivers have crashed on subgroup operations, and portable shaders may not have them.
#[test]
fn no_shader_uses_subgroup_operations() {
    let code =
        |text: &str| text.lines().map(|line| line.split("//").next().unwrap_or("").to_owned()).collect::<Vec<_>>();
    for Form { label, text, .. } in texts() {
        assert!(!code(&text).concat().contains("subgroup"), "{label}");
    }
    let planted = ["let x = subgroupAdd(y); // a sum", "@builtin(subgroup_size) n: u32"];
    assert!(planted.iter().all(|text| code(text).concat().contains("subgroup")));
}

/// One match over the closed set of operations each, an arm an operation.
const DISPATCHERS: &[(&str, &str)] = &[("src/graph/forward.rs", "forward"), ("src/graph/backward.rs", "backward")];

#[test]
fn files_lines_and_functions_are_short() {
    let (mut folders, mut found, mut files) =
        (vec!["src", "shaders", "tests"].into_iter().map(PathBuf::from).collect(), Vec::new(), 0);
    while let Some(folder) = Vec::<PathBuf>::pop(&mut folders) {
        for entry in std::fs::read_dir(root().join(&folder)).unwrap().map(Result::unwrap) {
            let path = folder.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| ["rs", "wgsl", "py"].iter().any(|x| e == *x)) {
                let name = path.to_string_lossy().replace('\\', "/");
                found.extend(budget::excess(&name, &read(&root().join(&path)), DISPATCHERS));
                files += 1;
            }
        }
    }
    assert!(files > 150, "{files} files were looked at");
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

/// The case with one of its lists of integers changed: neighbours exchanged, the first number repeated at the end, one
/// number beyond all others.
fn broken(case: &Case, list: usize, way: usize) -> Option<Case> {
    let mut case = case.clone();
    let Data::Index(values) = &mut case.data[list] else { return None };
    let (n, before) = (values.len(), values.clone());
    match way {
        0 => values.reverse(),
        1 => values[n - 1] = values[0],
        2 => values[n / 2] = 1 << 20,
        _ => values.rotate_left(1),
    }
    (*values != before).then_some(case)
}

#[test]
fn every_case_keeps_to_its_kernels_contract_and_every_contract_refuses_what_breaks_it() {
    // Kernels without a contract take any integers: classes that no row has are ignored, words of small buffers are
    // flags and bits of floats.
    const FREE: &[&str] = &[
        "adamw",
        "adamw8bit",
        "balance_loss_backward",
        "cross_entropy",
        "dropout",
        "embed",
        "log_probs",
        "loss_sum",
        "preference_loss",
        "spike_guard",
    ];
    for kernel in KERNELS {
        let cases = (kernel.cases)();
        for case in &cases {
            case.keeps_contract(kernel).unwrap_or_else(|e| panic!("{}, {}: {e}", kernel.stem, case.name));
        }
        let reads = kernel.binds.iter().any(|bind| bind.element == Element::U32 && bind.access != Access::Write);
        let refused = cases.iter().any(|case| {
            let lists = 0..case.data.len();
            let ways = lists.flat_map(|list| (0..4).filter_map(move |way| broken(case, list, way)));
            ways.into_iter().any(|case| case.keeps_contract(kernel).is_err())
        });
        assert_eq!(refused, reads && !FREE.contains(&kernel.stem), "{}: a contract for its integers", kernel.stem);
    }
}
