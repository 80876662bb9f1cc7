//! Every shader, as its cases specialise it, passes naga and translates to SPIR-V, MSL and HLSL: no GPU needed.

use hadal::gpu::device::{COOP8, COOP16};
use hadal::gpu::preprocess::preprocess;
use hadal::kernels::{Constants, KERNELS};
use naga::back::{hlsl, msl, spv};
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use naga::{Expression, Handle, TypeInner};
use std::collections::{BTreeSet, HashSet};

/// Distinct texts of a kernel: label, source, constants, and whether it needs cooperative matrices.
fn texts() -> Vec<(String, &'static str, Constants)> {
    let mut seen = HashSet::new();
    let mut found = Vec::new();
    let mut add = |label: String, shader: &'static str, constants: Constants| {
        if seen.insert((label.clone(), constants.clone())) {
            found.push((label, shader, constants));
        }
    };
    for kernel in KERNELS {
        for case in kernel.every_case() {
            add(kernel.stem.to_owned(), kernel.shader, kernel.portable_constants(&case.params, case.halves));
            for v in (kernel.variants)() {
                if (v.fits)(&case.params, case.halves) {
                    add(
                        format!("{}.{}", kernel.stem, v.suffix),
                        v.shader,
                        v.constants_of(kernel, &case.params, case.halves),
                    );
                }
            }
        }
    }
    found
}

fn validate(label: &str, text: &str, capabilities: Capabilities) -> (naga::Module, ModuleInfo) {
    let module = naga::front::wgsl::parse_str(text).unwrap_or_else(|e| panic!("{label}: {}", e.emit_to_string(text)));
    let info = Validator::new(ValidationFlags::all(), capabilities)
        .validate(&module)
        .unwrap_or_else(|e| panic!("{label}: {}", e.emit_to_string(text)));
    (module, info)
}

/// Whether Metal has what this shader does with matrices and its translation calls. naga does not judge that: it writes
/// types of any size, hands pointers to vectors to what takes scalars, and passes on arithmetic that Metal lacks.
fn metal_has(module: &naga::Module, info: &ModuleInfo, text: &str) -> Result<(), String> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let used: BTreeSet<&str> = text.split(|c| !word(c)).filter(|word| word.starts_with("simdgroup_")).collect();
    let known = ["float8x8", "half8x8", "load", "multiply_accumulate", "store"].map(|name| format!("simdgroup_{name}"));
    if !used.iter().eq(&known) {
        return Err(format!("the translation uses {used:?}"));
    }
    let main = &module.entry_points[0].function;
    let inner = |e: Handle<Expression>| info.get_entry_point(0)[e].ty.inner_with(&module.types);
    let is_matrix = |e: Handle<Expression>| matches!(inner(e), TypeInner::CooperativeMatrix { .. });
    let to_scalar = |inner: &TypeInner| match inner {
        TypeInner::Pointer { base, .. } => matches!(module.types[*base].inner, TypeInner::Scalar(_)),
        inner => matches!(inner, TypeInner::ValuePointer { size: None, .. }),
    };
    for (_, expression) in main.expressions.iter() {
        match expression {
            Expression::Binary { left, right, .. } if is_matrix(*left) || is_matrix(*right) => {
                return Err("matrices are computed with".to_owned());
            }
            Expression::CooperativeLoad { data, .. } if !to_scalar(inner(data.pointer)) => {
                return Err("a matrix is loaded from vectors".to_owned());
            }
            Expression::ZeroValue(ty) if matches!(module.types[*ty].inner, TypeInner::CooperativeMatrix { .. }) => {
                return Err("a matrix is made of nothing".to_owned());
            }
            _ => {}
        }
    }
    Ok(())
}

#[test]
fn every_shader_validates_and_translates() {
    let portable = Capabilities::IMMEDIATES | Capabilities::SHADER_FLOAT16;
    for (label, shader, constants) in texts() {
        let text = preprocess(shader, &constants).unwrap_or_else(|e| panic!("{label}: {e}"));
        let (sixteens, eights) = (label.ends_with(COOP16), label.ends_with(COOP8));
        let cooperative = sixteens || eights;
        let extra = Capabilities::COOPERATIVE_MATRIX | Capabilities::SHADER_FLOAT16;
        let (module, info) = validate(&label, &text, if cooperative { portable | extra } else { portable });
        spv::write_vec(&module, &info, &spv::Options::default(), None)
            .unwrap_or_else(|e| panic!("{label}: SPIR-V: {e}"));
        if sixteens {
            continue; // 16x16 tiles exist on Vulkan alone
        }
        let metal = msl::Options { fake_missing_bindings: true, lang_version: (2, 4), ..Default::default() };
        let (metal, _) = msl::write_string(&module, &info, &metal, &msl::PipelineOptions::default())
            .unwrap_or_else(|e| panic!("{label}: MSL: {e}"));
        if eights {
            metal_has(&module, &info, &metal).unwrap_or_else(|e| panic!("{label}: {e}"));
            continue; // DirectX has no matrices of this kind
        }
        let target = |register| Some(hlsl::BindTarget { register, ..Default::default() });
        let options = hlsl::Options {
            fake_missing_bindings: true,
            immediates_target: target(0),
            special_constants_binding: target(1),
            ..Default::default()
        };
        let pipeline = hlsl::PipelineOptions::default();
        let mut output = String::new();
        hlsl::Writer::new(&mut output, &options, &pipeline)
            .write(&module, &info, None)
            .unwrap_or_else(|e| panic!("{label}: HLSL: {e}"));
    }
}
