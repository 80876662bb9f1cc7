//! Every shader, as its cases specialise it, passes naga and translates to SPIR-V, MSL and HLSL: no GPU needed.

use hadal::gpu::preprocess::preprocess;
use hadal::kernels::{Constants, KERNELS};
use naga::back::{hlsl, msl, spv};
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use std::collections::HashSet;

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

#[test]
fn every_shader_validates_and_translates() {
    let portable = Capabilities::IMMEDIATES | Capabilities::SHADER_FLOAT16;
    for (label, shader, constants) in texts() {
        let text = preprocess(shader, &constants).unwrap_or_else(|e| panic!("{label}: {e}"));
        let cooperative = label.contains(".coop");
        let extra = Capabilities::COOPERATIVE_MATRIX | Capabilities::SHADER_FLOAT16;
        let (module, info) = validate(&label, &text, if cooperative { portable | extra } else { portable });
        spv::write_vec(&module, &info, &spv::Options::default(), None)
            .unwrap_or_else(|e| panic!("{label}: SPIR-V: {e}"));
        if cooperative {
            continue; // 16x16 tiles exist on Vulkan alone
        }
        let metal = msl::Options { fake_missing_bindings: true, lang_version: (2, 4), ..Default::default() };
        msl::write_string(&module, &info, &metal, &msl::PipelineOptions::default())
            .unwrap_or_else(|e| panic!("{label}: MSL: {e}"));
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
