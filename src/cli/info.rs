//! `hadal info`

use crate::backend::NO_ADAPTER;
use crate::error::Result;
use crate::gpu::device::adapters;
use crate::gpu::tuned::Store;
use crate::terminal::print;

pub(super) fn run() -> Result<()> {
    let found = adapters();
    print(format_args!("CPU executor: {} threads", rayon::current_num_threads()))?;
    if found.is_empty() {
        print(NO_ADAPTER)?;
    }
    for s in found {
        print(format_args!("{} {} through {}, {}", s.index, s.name, s.backend, s.driver))?;
        let features: Vec<&str> = s.features.iter_names().map(|(name, _)| name).collect();
        let kept = Store::of(&s).map_or(0, |store| store.load().len());
        let tiles = match kept {
            _ if s.is_software() => "the defaults, as on every software adapter".to_owned(),
            0 => "timed at the first start of a program".to_owned(),
            kept => format!("{kept} shapes of products in the cache"),
        };
        let tested = s.matrix_units.map(|suffix| format!(", {suffix} (after its self-test)"));
        let variants = format!("portable{}", tested.unwrap_or_default());
        let rows = [
            ("kind", format!("{:?}", s.kind)),
            ("largest binding", format!("{} bytes", s.limits.max_storage_buffer_binding_size)),
            ("largest buffer", format!("{} bytes", s.limits.max_buffer_size)),
            ("workgroup memory", format!("{} bytes", s.limits.max_compute_workgroup_storage_size)),
            ("invocations a workgroup", s.limits.max_compute_invocations_per_workgroup.to_string()),
            ("storage buffers a kernel", s.limits.max_storage_buffers_per_shader_stage.to_string()),
            ("subgroup", format!("{} to {}", s.subgroup.0, s.subgroup.1)),
            ("features", features.join(", ")),
            ("kernel variants", variants),
            ("tiles", tiles),
        ];
        for (name, value) in rows {
            print(format_args!("    {name:<25} {value}"))?;
        }
    }
    Ok(())
}
