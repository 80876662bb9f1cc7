//! Which way each portable kernel goes on a device: found by time in [`tune`](super::tune), kept from run to run beside
//! the compiled pipelines.
//!
//! As there, a file never fails: what cannot be read, was damaged, or comes from another adapter, driver, version or
//! set of shaders is passed over and replaced.

use super::cache::{origin, seal, unseal};
use super::device::AdapterSummary;
use crate::cache::{folder, replace};
use crate::kernels::{Halves, Kernel, Way, Ways};
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// A larger file is none of ours: a shape takes a line.
const LARGEST: u64 = 1 << 20;

/// The ways that were found best, by kernel, shape and storage.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tuned {
    ways: BTreeMap<String, String>,
}

/// What a way is kept under: the kernel, the shape of its ways, and which bindings are stored as f16.
pub fn key(kernel: &Kernel, ways: &Ways, halves: Halves) -> String {
    let shape: Vec<String> = ways.shape.iter().map(u32::to_string).collect();
    format!("{} {} f16 {:b}", kernel.stem, shape.join(" "), halves.bits())
}

impl Tuned {
    /// Number of shapes.
    pub fn len(&self) -> usize {
        self.ways.len()
    }

    /// Whether nothing was measured.
    pub fn is_empty(&self) -> bool {
        self.ways.is_empty()
    }

    /// Notes the best way of a [`key`].
    pub fn insert(&mut self, key: String, way: &Way) {
        self.ways.insert(key, way.name.clone());
    }

    /// Takes over what `other` knows.
    pub fn extend(&mut self, other: Tuned) {
        self.ways.extend(other.ways);
    }

    /// The best of `ways`, if it is known.
    pub fn best<'w>(&self, key: &str, ways: &'w Ways) -> Option<&'w Way> {
        let name = self.ways.get(key)?;
        ways.all.iter().find(|way| way.name == *name)
    }

    /// The best way of `kernel` for the bytes of its parameters and bindings so stored, if it is known.
    pub fn way(&self, kernel: &Kernel, params: &[u8], halves: Halves) -> Option<Way> {
        let tunable = kernel.tunable.filter(|_| !self.is_empty())?;
        let ways = (tunable.ways)(params);
        self.best(&key(kernel, &ways, halves), &ways).cloned()
    }

    fn text(&self) -> String {
        self.ways.iter().map(|(key, name)| format!("{key}: {name}\n")).collect()
    }

    fn parse(text: &str) -> Tuned {
        let pairs = text.lines().filter_map(|line| line.split_once(": "));
        Tuned { ways: pairs.map(|(key, name)| (key.to_owned(), name.to_owned())).collect() }
    }
}

/// Where an adapter's ways are kept.
pub struct Store {
    path: PathBuf,
    origin: u64,
}

impl Store {
    /// The adapter's file in the user's cache folder, if there is one.
    pub fn of(adapter: &AdapterSummary) -> Option<Store> {
        let folder = folder(|name| std::env::var_os(name))?.join("hadal");
        Some(Self::in_folder(&folder, &adapter.name, &adapter.backend, &adapter.driver))
    }

    /// The file of this adapter, reached through this backend and driver, in `folder`.
    pub fn in_folder(folder: &Path, adapter: &str, backend: &str, driver: &str) -> Store {
        let mut hasher = DefaultHasher::new();
        (adapter, backend).hash(&mut hasher);
        Store { path: folder.join(format!("tiles_{:016x}", hasher.finish())), origin: origin(adapter, driver) }
    }

    /// What is kept.
    pub fn load(&self) -> Tuned {
        let file = std::fs::metadata(&self.path).ok().filter(|found| found.is_file() && found.len() <= LARGEST);
        let bytes = file.and_then(|_| std::fs::read(&self.path).ok()).unwrap_or_default();
        let text = unseal(&bytes, self.origin).and_then(|data| std::str::from_utf8(data).ok());
        text.map(Tuned::parse).unwrap_or_default()
    }

    /// Keeps `tuned`, besides what other runs have kept.
    pub fn keep(&self, tuned: &Tuned) {
        let mut all = self.load();
        all.extend(tuned.clone());
        let _ = replace(&self.path, &seal(all.text().as_bytes(), self.origin)); // without it the next start measures
    }
}

/// What an open device knows.
pub struct Tuning {
    known: Mutex<Arc<Tuned>>,
    store: Option<Store>,
}

impl Tuning {
    /// What earlier runs on `adapter` found; nothing for a software adapter, where nothing is measured.
    pub fn open(adapter: &AdapterSummary) -> Tuning {
        let store = if adapter.is_software() { None } else { Store::of(adapter) };
        let known = store.as_ref().map(Store::load).unwrap_or_default();
        Tuning { known: Mutex::new(Arc::new(known)), store }
    }

    /// All of it.
    pub fn known(&self) -> Arc<Tuned> {
        self.known.lock().map(|known| known.clone()).unwrap_or_default()
    }

    /// Adds what was found now, for this run and later ones.
    pub fn learn(&self, found: Tuned) {
        if found.is_empty() {
            return;
        }
        if let Some(store) = &self.store {
            store.keep(&found);
        }
        if let Ok(mut known) = self.known.lock() {
            Arc::make_mut(&mut known).extend(found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::matmul::{KERNEL, NT, OVERWRITE, Params};

    fn tuned(n: u32) -> Tuned {
        let params = Params::dense(NT, OVERWRITE, 512, n, 64);
        let ways = (KERNEL.tunable.unwrap().ways)(bytemuck::bytes_of(&params));
        let mut tuned = Tuned::default();
        tuned.insert(key(&KERNEL, &ways, Halves::first(2)), &ways.all[1]);
        tuned
    }

    #[test]
    fn a_way_is_found_again_for_its_shape_and_storage_alone() {
        let tuned = tuned(256);
        let way = |p: Params, halves| tuned.way(&KERNEL, bytemuck::bytes_of(&p), halves);
        let p = Params::dense(NT, OVERWRITE, 512, 256, 64);
        let offset = Params { c_offset: 4, accumulate: 1, ..p };
        let found = way(offset, Halves::first(2)).unwrap();
        assert!(found.constants != KERNEL.portable_constants(bytemuck::bytes_of(&offset), Halves::NONE));
        assert!(found.constants.contains(&("ACCUMULATE", 1)), "the constants are those of these parameters");
        assert_eq!(way(p, Halves::NONE), None);
        assert_eq!(way(Params::dense(NT, OVERWRITE, 512, 252, 64), Halves::first(2)), None);
    }

    #[test]
    fn what_is_kept_comes_back_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let store = |driver| Store::in_folder(dir.path(), "a card", "Vulkan", driver);
        assert_eq!(store("1.0").load(), Tuned::default());
        store("1.0").keep(&tuned(256));
        assert_eq!(store("1.0").load(), tuned(256));
        store("1.0").keep(&tuned(128)); // another program's
        let mut both = tuned(256);
        both.extend(tuned(128));
        assert_eq!((store("1.0").load(), both.len()), (both, 2));
        assert_eq!(store("1.1").load(), Tuned::default(), "another driver");
        let path = store("1.0").path;
        let sound = std::fs::read(&path).unwrap();
        for i in 0..sound.len() {
            let mut damaged = sound.clone();
            damaged[i] ^= 1;
            std::fs::write(&path, &damaged).unwrap();
            assert_eq!(store("1.0").load(), Tuned::default(), "byte {i}");
        }
        store("1.1").keep(&tuned(64));
        assert_eq!(store("1.1").load(), tuned(64), "a foreign file is replaced");
    }
}
