//! `hadal info`

use crate::error::Result;
use crate::gpu::device::adapters;

pub(super) fn run() -> Result<()> {
    let found = adapters();
    println!("CPU executor: {} threads", rayon::current_num_threads());
    if found.is_empty() {
        println!("no GPU adapter: install a Vulkan driver (mesa-vulkan-drivers for AMD, Intel and software Vulkan)");
    }
    for s in found {
        println!("{} {} through {}, {}", s.index, s.name, s.backend, s.driver);
        println!("    kind                      {:?}", s.kind);
        println!("    largest binding           {} bytes", s.limits.max_storage_buffer_binding_size);
        println!("    largest buffer            {} bytes", s.limits.max_buffer_size);
        println!("    workgroup memory          {} bytes", s.limits.max_compute_workgroup_storage_size);
        println!("    invocations a workgroup   {}", s.limits.max_compute_invocations_per_workgroup);
        println!("    storage buffers a kernel  {}", s.limits.max_storage_buffers_per_shader_stage);
        println!("    subgroup                  {} to {}", s.subgroup.0, s.subgroup.1);
        println!("    features                  {:?}", s.features);
        let variants = if s.cooperative_16 { "portable, coop16 (after its self-test)" } else { "portable" };
        println!("    kernel variants           {variants}");
    }
    Ok(())
}
