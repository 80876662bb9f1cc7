//! Compiled pipelines, kept from run to run in the user's cache folder, where the driver hands them out (Vulkan).
//!
//! A cache never fails: what cannot be read, was damaged, or comes from another driver, version or set of shaders is
//! passed over and replaced.

use super::device::driver;
use super::preprocess::SHARED;
use crate::cache::{folder, replace};
use crate::kernels::KERNELS;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of the checksum in front of the driver's data.
const CHECKSUM: usize = 8;
/// A file that has grown past this is begun anew: drivers never remove anything from their data.
const LARGEST: usize = 256 << 20;

/// A device's cache and its file.
pub struct PipelineCache {
    cache: wgpu::PipelineCache,
    path: PathBuf,
    origin: u64,
    /// Bytes of driver data in the file: the data grows by every pipeline that it did not hold.
    kept: AtomicUsize,
}

impl PipelineCache {
    /// The cache for pipelines of `device`; none where the adapter offers none or there is no place to keep it.
    pub fn open(device: &wgpu::Device) -> Option<PipelineCache> {
        Self::open_in(device, &folder(|name| std::env::var_os(name))?.join("hadal"))
    }

    /// The same with a file in `folder`.
    pub fn open_in(device: &wgpu::Device, folder: &Path) -> Option<PipelineCache> {
        if !device.features().contains(wgpu::Features::PIPELINE_CACHE) {
            return None;
        }
        let info = device.adapter_info();
        let path = folder.join(wgpu::util::pipeline_cache_key(&info)?);
        let origin = origin(&info.name, &driver(&info));
        let file = std::fs::metadata(&path).ok().filter(|found| found.is_file() && found.len() <= LARGEST as u64);
        let bytes = file.and_then(|_| std::fs::read(&path).ok()).unwrap_or_default();
        let data = unseal(&bytes, origin);
        let scope = device.push_error_scope(wgpu::ErrorFilter::Validation);
        // SAFETY: the data passed a checksum that also covers adapter, driver and program version, so it is what
        // `get_data` returned for this device in an earlier run.
        #[expect(unsafe_code, reason = "wgpu cannot check what it hands to the driver")]
        let cache = unsafe {
            let label = Some("pipelines");
            device.create_pipeline_cache(&wgpu::PipelineCacheDescriptor { label, data, fallback: true })
        };
        match pollster::block_on(scope.pop()) {
            Some(_) => None,
            None => Some(PipelineCache { cache, path, origin, kept: AtomicUsize::new(data.map_or(0, <[u8]>::len)) }),
        }
    }

    /// What pipelines are compiled with.
    pub fn raw(&self) -> &wgpu::PipelineCache {
        &self.cache
    }

    /// Writes the file if pipelines have come in that it lacks.
    pub fn keep(&self) {
        let Some(data) = self.cache.get_data() else { return };
        if data.len() != self.kept.swap(data.len(), Ordering::Relaxed) {
            let _ = replace(&self.path, &seal(&data, self.origin)); // without it the next start takes longer
        }
    }
}

/// A number for everything that is kept depends on: adapter, driver, and the program with its shaders.
pub(super) fn origin(adapter: &str, driver: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (adapter, driver, env!("CARGO_PKG_VERSION")).hash(&mut hasher);
    SHARED.hash(&mut hasher);
    for kernel in KERNELS {
        kernel.shader.hash(&mut hasher);
        (kernel.variants)().iter().for_each(|variant| variant.shader.hash(&mut hasher));
    }
    hasher.finish()
}

fn checksum(data: &[u8], origin: u64) -> [u8; CHECKSUM] {
    let mut hasher = DefaultHasher::new();
    (origin, data).hash(&mut hasher);
    hasher.finish().to_le_bytes()
}

/// The file's content for `data`.
pub(super) fn seal(data: &[u8], origin: u64) -> Vec<u8> {
    [&checksum(data, origin), data].concat()
}

/// The data in a file's content, if it is whole and of this origin.
pub(super) fn unseal(bytes: &[u8], origin: u64) -> Option<&[u8]> {
    let (sum, data) = bytes.split_first_chunk::<CHECKSUM>()?;
    (*sum == checksum(data, origin)).then_some(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_data_of_the_same_origin_are_used() {
        let sealed = seal(b"pipelines", 7);
        assert_eq!(unseal(&sealed, 7), Some(b"pipelines".as_slice()));
        assert_eq!(unseal(&sealed, 8), None);
        for length in 0..sealed.len() {
            assert_eq!(unseal(&sealed[..length], 7), None, "cut to {length} bytes");
        }
        for i in 0..sealed.len() {
            let mut damaged = sealed.clone();
            damaged[i] ^= 1;
            assert_eq!(unseal(&damaged, 7), None, "byte {i}");
        }
    }
}
