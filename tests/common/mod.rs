//! What the tests share: the device, opened once.

use hadal::gpu::device::{Gpu, adapters};
use std::sync::{Arc, OnceLock};

/// The first adapter, or `None` where there is none and `ALLOW_NO_GPU=1` says that this is accepted.
pub fn gpu() -> Option<Arc<Gpu>> {
    static GPU: OnceLock<Option<Arc<Gpu>>> = OnceLock::new();
    GPU.get_or_init(|| {
        if adapters().is_empty() {
            assert!(
                std::env::var("ALLOW_NO_GPU").is_ok_and(|v| v == "1"),
                "no Vulkan, Metal or DX12 adapter: run ./test, which installs a software one, or set ALLOW_NO_GPU=1"
            );
            eprintln!("SKIPPED: this test needs an adapter and there is none (ALLOW_NO_GPU=1)");
            return None;
        }
        Some(Gpu::open(0).expect("the adapter opens"))
    })
    .clone()
}
